"""BERT (Devlin et al. 2019), with the names of ``transformers.BertModel``.

It is GLIP's text encoder, its layer is the language layer of GLIP's head, and with smaller sizes it is the packaged
MiniLM. It is implemented here because importing ``transformers`` takes longer than the rest of the start of a small
detector.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

_EPSILON = 1e-12


@dataclass(frozen=True)
class BertConfig:
    """Sizes; the defaults are those of bert-base-uncased.

    Attributes:
        vocabulary: word pieces.
        positions: maximum number of tokens.
        width: channels.
        layers, heads: their numbers.
        intermediate: channels inside the feed-forward part.
    """

    vocabulary: int = 30522
    positions: int = 512
    width: int = 768
    layers: int = 12
    heads: int = 12
    intermediate: int = 3072


class Bert(nn.Module):  # type: ignore[misc]
    """Tokens to their last hidden states.

    Args:
        config: sizes.
        dropout: in training.
        pooler: whether it has the unused pooler.
    """

    def __init__(self, config: BertConfig, dropout: float, *, pooler: bool) -> None:
        super().__init__()
        self.embeddings = _Embeddings(config, dropout)
        layers = [BertLayer(config, dropout) for _ in range(config.layers)]
        self.encoder = nn.ModuleDict({"layer": nn.ModuleList(layers)})
        if pooler:
            self.pooler = nn.ModuleDict({"dense": nn.Linear(config.width, config.width)})

    def forward(self, ids: Tensor, mask: Tensor | None = None) -> Tensor:
        """Encode.

        Args:
            ids: int64 (…, n).
            mask: bool (…, n), False for padding; None = no padding.

        Returns:
            (…, n, D).
        """
        hidden = self.embeddings(ids)
        for layer in self.encoder["layer"]:
            hidden = layer(hidden, mask)
        return hidden


class _Embeddings(nn.Module):  # type: ignore[misc]
    """Word, position and the first of two segments."""

    def __init__(self, config: BertConfig, dropout: float) -> None:
        super().__init__()
        self.word_embeddings = nn.Embedding(config.vocabulary, config.width)
        self.position_embeddings = nn.Embedding(config.positions, config.width)
        self.token_type_embeddings = nn.Embedding(2, config.width)
        self.LayerNorm = nn.LayerNorm(config.width, _EPSILON)
        self._dropout = dropout
        for table in (self.word_embeddings, self.position_embeddings, self.token_type_embeddings):
            nn.init.normal_(table.weight, std=0.02)

    def forward(self, ids: Tensor) -> Tensor:
        positions = self.position_embeddings.weight[: ids.shape[-1]]
        tokens = self.word_embeddings(ids) + positions + self.token_type_embeddings.weight[0]
        return functional.dropout(self.LayerNorm(tokens), self._dropout, self.training)


class BertLayer(nn.Module):  # type: ignore[misc]
    """Self-attention and feed-forward part, each followed by residual and norm.

    Args:
        config: sizes.
        dropout: in training.
        clamp: attention scores are clamped to ± this; None = no clamp (``modeling/rpn/modeling_bert.py``, against
            overflow in half precision).
    """

    def __init__(self, config: BertConfig, dropout: float, clamp: float | None = None) -> None:
        super().__init__()
        width = config.width
        self.attention = nn.ModuleDict(
            {
                "self": nn.ModuleDict({name: nn.Linear(width, width) for name in ("query", "key", "value")}),
                "output": _output(width, width),
            }
        )
        self.intermediate = nn.ModuleDict({"dense": nn.Linear(width, config.intermediate)})
        self.output = _output(config.intermediate, width)
        self._heads, self._dropout, self._clamp = config.heads, dropout, clamp
        for module in self.modules():
            if isinstance(module, nn.Linear):
                nn.init.normal_(module.weight, std=0.02)
                nn.init.zeros_(module.bias)

    def forward(self, hidden: Tensor, mask: Tensor | None = None) -> Tensor:
        """(…, n, D) and bool (…, n), False for padding, which is masked, to (…, n, D)."""
        query, key, value = (
            projection(hidden).unflatten(-1, (self._heads, -1)).transpose(-2, -3)
            for projection in self.attention["self"].values()
        )
        mixed = self._attend(query, key, value, mask).transpose(-2, -3).flatten(-2)
        hidden = self._residual(self.attention["output"], mixed, hidden)
        return self._residual(self.output, functional.gelu(self.intermediate["dense"](hidden)), hidden)

    def _attend(self, query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None) -> Tensor:
        """(…, heads, n, d) to the same."""
        if mask is None and self._clamp is None:  # rounds differently; shipped weights were trained on these vectors
            dropout = self._dropout if self.training else 0.0
            return functional.scaled_dot_product_attention(query, key, value, dropout_p=dropout)
        scores = query @ key.transpose(-1, -2) * query.shape[-1] ** -0.5
        if self._clamp is not None:
            scores = scores.clamp(-self._clamp, self._clamp)
        if mask is not None:
            scores = scores.masked_fill(~mask[..., None, None, :], torch.finfo(scores.dtype).min)
        return self._drop(scores.softmax(-1)) @ value

    def _residual(self, part: nn.ModuleDict, inner: Tensor, hidden: Tensor) -> Tensor:
        return part["LayerNorm"](hidden + self._drop(part["dense"](inner)))

    def _drop(self, values: Tensor) -> Tensor:
        return functional.dropout(values, self._dropout, self.training)


def _output(inner: int, width: int) -> nn.ModuleDict:
    return nn.ModuleDict({"dense": nn.Linear(inner, width), "LayerNorm": nn.LayerNorm(width, _EPSILON)})
