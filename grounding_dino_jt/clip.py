"""Text tower of CLIP (Radford et al. 2021), with the parameter names of open_clip."""

from __future__ import annotations

from typing import Any

import numpy as np

from ovd_bench.grounding_dino_jt.config import TextConfig
from ovd_bench.grounding_dino_jt.layers import LayerNorm, Linear, MultiheadAttention
from ovd_bench.kernels.bases import Module
from ovd_bench.kernels.runtime import jittor

jt = jittor()
nn = jt.nn


class Clip(Module):
    """Tokens to vectors, pre-norm with causal attention; without the projection into CLIP's joint space."""

    def __init__(self, config: TextConfig) -> None:
        self.token_embedding = nn.Embedding(config.vocab_size, config.hidden_size)
        self.positional_embedding = jt.randn((config.max_positions, config.hidden_size)) * 0.01
        self.transformer = _Transformer(config)
        self.ln_final = LayerNorm(config.hidden_size, config.layer_norm_eps)

    def execute(self, ids: Any, bias: Any, positions: Any) -> Any:
        """Encode.

        Args:
            ids: int32 (B, n).
            bias: float32 (B, 1, n, n), 0 where a token may attend to another, -inf where not; later tokens are masked
                here.
            positions: int32 (B, n).

        Returns:
            Hidden state after the last norm, (B, n, hidden_size).
        """
        columns = ids.shape[1]
        later = np.triu(np.full((columns, columns), -np.inf, np.float32), 1)
        x = self.token_embedding(ids) + self.positional_embedding[positions]
        return self.ln_final(self.transformer(x, bias + jt.array(later)))


class _Transformer(Module):
    def __init__(self, config: TextConfig) -> None:
        self.resblocks = nn.ModuleList([_Block(config) for _ in range(config.num_layers)])

    def execute(self, x: Any, bias: Any) -> Any:
        for block in self.resblocks:
            x = block(x, bias)
        return x


class _Block(Module):
    def __init__(self, config: TextConfig) -> None:
        self.ln_1 = LayerNorm(config.hidden_size, config.layer_norm_eps)
        self.attn = MultiheadAttention(config.hidden_size, config.num_heads)
        self.ln_2 = LayerNorm(config.hidden_size, config.layer_norm_eps)
        self.mlp = _Mlp(config)

    def execute(self, x: Any, bias: Any) -> Any:
        seen = self.ln_1(x)
        x = x + self.attn(seen, seen, seen, bias)
        return x + self.mlp(self.ln_2(x))


class _Mlp(Module):
    """Two linear layers; OpenAI's activation is x times the sigmoid of 1.702 x."""

    def __init__(self, config: TextConfig) -> None:
        quick = config.activation == "quick_gelu"
        self.c_fc = Linear(config.hidden_size, config.intermediate_size, activation="none" if quick else "gelu")
        self.c_proj = Linear(config.intermediate_size, config.hidden_size)
        self._quick = quick

    def execute(self, x: Any) -> Any:
        x = self.c_fc(x)
        return self.c_proj(x * jt.sigmoid(1.702 * x) if self._quick else x)
