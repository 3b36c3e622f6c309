"""BERT (Devlin et al. 2019): text encoder of Grounding DINO; with smaller sizes the packaged MiniLM."""

from __future__ import annotations

from typing import Any

from ovd_bench.grounding_dino_jt.config import TextConfig
from ovd_bench.grounding_dino_jt.layers import FeedForward, LayerNorm, Linear
from ovd_bench.kernels.attention import attention
from ovd_bench.kernels.bases import Module
from ovd_bench.kernels.runtime import jittor

jt = jittor()
nn = jt.nn


class Bert(Module):
    """Tokens to vectors; parameters are named as in the original checkpoints, without the pooler."""

    def __init__(self, config: TextConfig) -> None:
        self.embeddings = _Embeddings(config)
        self.encoder = _Encoder(config)

    def execute(self, ids: Any, bias: Any, positions: Any) -> Any:
        """Encode.

        Args:
            ids: int32 (B, n).
            bias: float32 (B, 1, n, n), 0 where a token attends to another, -inf where not.
            positions: int32 (B, n).

        Returns:
            Last hidden state, (B, n, hidden_size).
        """
        return self.encoder(self.embeddings(ids, positions), bias)


class _Embeddings(Module):
    def __init__(self, config: TextConfig) -> None:
        self.word_embeddings = nn.Embedding(config.vocab_size, config.hidden_size)
        self.position_embeddings = nn.Embedding(config.max_positions, config.hidden_size)
        self.token_type_embeddings = nn.Embedding(2, config.hidden_size)
        self.LayerNorm = LayerNorm(config.hidden_size, config.layer_norm_eps)

    def execute(self, ids: Any, positions: Any) -> Any:
        types = self.token_type_embeddings.weight[0]
        return self.LayerNorm(self.word_embeddings(ids) + types + self.position_embeddings(positions))


class _Encoder(Module):
    def __init__(self, config: TextConfig) -> None:
        self.layer = nn.ModuleList([_Layer(config) for _ in range(config.num_layers)])

    def execute(self, x: Any, bias: Any) -> Any:
        for layer in self.layer:
            x = layer(x, bias)
        return x


class _Layer(Module):
    """Attention and two linear layers, each followed by the sum with its input and LayerNorm."""

    def __init__(self, config: TextConfig) -> None:
        self.attention = _Attention(config)
        self.intermediate = _Dense(config.hidden_size, config.intermediate_size)
        self.output = _Output(config, config.intermediate_size)
        self._both = FeedForward("gelu")

    def execute(self, x: Any, bias: Any) -> Any:
        x = self.attention(x, bias)
        return self.output.LayerNorm(self._both(x, self.intermediate.dense, self.output.dense) + x)


class _Attention(Module):
    def __init__(self, config: TextConfig) -> None:
        self.self = _Projections(config)
        self.output = _Output(config, config.hidden_size)
        self._heads = config.num_heads

    def execute(self, x: Any, bias: Any) -> Any:
        q, k, v = (
            layer(x).reshape(*x.shape[:2], self._heads, -1)
            for layer in (self.self.query, self.self.key, self.self.value)
        )
        return self.output.LayerNorm(self.output.dense(attention(q, k, v, bias).reshape(x.shape)) + x)


class _Projections(Module):
    def __init__(self, config: TextConfig) -> None:
        self.query = Linear(config.hidden_size, config.hidden_size)
        self.key = Linear(config.hidden_size, config.hidden_size)
        self.value = Linear(config.hidden_size, config.hidden_size)


class _Dense(Module):
    def __init__(self, inputs: int, outputs: int) -> None:
        self.dense = Linear(inputs, outputs)


class _Output(Module):
    def __init__(self, config: TextConfig, inputs: int) -> None:
        self.dense = Linear(inputs, config.hidden_size)
        self.LayerNorm = LayerNorm(config.hidden_size, config.layer_norm_eps)
