"""Cross-modality decoder (official ``transformer.py``, TransformerDecoder and DeformableTransformerDecoderLayer)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ovd_bench.grounding_dino_jt.config import Config
from ovd_bench.grounding_dino_jt.deformable import image_attention
from ovd_bench.grounding_dino_jt.features import ImageFeatures
from ovd_bench.grounding_dino_jt.layers import MLP, FeedForward, LayerNorm, Linear, MultiheadAttention, inverse_sigmoid
from ovd_bench.grounding_dino_jt.positions import box_positions
from ovd_bench.kernels.bases import Module
from ovd_bench.kernels.runtime import jittor

jt = jittor()
nn = jt.nn


@dataclass(frozen=True)
class Decoded:
    """Per decoder layer, first to last.

    Attributes:
        hidden: (B, Q, d), normalised.
        references: (B, Q, 4), the input boxes of the layer, relative; gradients flow through them to the layer
            before ("look forward twice", DINO section 3.5).
    """

    hidden: list[Any]
    references: list[Any]

    def boxes(self, layer: int, head: Any, epsilon: float) -> Any:
        """Boxes (B, Q, 4) cxcywh that a box head computes from a layer, relative to the image."""
        return jt.sigmoid(head(self.hidden[layer]) + inverse_sigmoid(self.references[layer], epsilon))


@dataclass(frozen=True)
class Memory:
    """Inputs of the decoder besides its queries.

    Attributes:
        image: (B, N, d).
        text: (B, n, d); None if no layer reads text.
        text_bias: (B, 1, 1, n), -inf at padding; None = no padding.
        features: geometry of the images: padding, shapes, positions.
        query_bias: added to the logits among queries, (1 or B, 1, Q, Q); None = all queries attend to each other.
    """

    image: Any
    text: Any
    text_bias: Any
    features: ImageFeatures
    query_bias: Any = None


@dataclass(frozen=True)
class ExtraQueries:
    """Additional queries for training.

    Attributes:
        content: (B, R, d).
        boxes: (B, R, 4) initial boxes, relative cxcywh.
        bias: (1, 1, R + Q, R + Q), added to the logits among queries; the R extra queries come before the Q of the
            model.
    """

    content: Any
    boxes: Any
    bias: Any


class Decoder(Module):
    """Queries attend to each other, to text and to the image; every layer refines their boxes."""

    def __init__(self, config: Config) -> None:
        d = config.hidden_dim
        self.layers = nn.ModuleList([DecoderLayer(config) for _ in range(config.dec_layers)])
        self.norm = LayerNorm(d)
        self.ref_point_head = MLP(2 * d, d, d, 2)
        self._config = config

    def execute(self, queries: Any, boxes: Any, memory: Memory, heads: Sequence[Any]) -> Decoded:
        """Decode.

        Args:
            queries: (B, Q, d), content.
            boxes: (B, Q, 4) initial boxes, relative cxcywh, without gradient.
            memory: output of encoder and text.
            heads: per layer, (B, Q, d) to box changes (B, Q, 4).
        """
        ratios = memory.features.valid_ratios
        scales = jt.array(np.concatenate([ratios, ratios], -1)[:, None])  # (B or 1, 1, L, 4)
        decoded = Decoded([], [])
        carried = boxes
        for layer, head in zip(self.layers, heads, strict=True):
            decoded.references.append(carried)
            references = boxes.unsqueeze(2) * scales
            position = self.ref_point_head(box_positions(references[:, :, 0], self._config.hidden_dim // 2))
            queries = layer(queries, position, references, memory)
            decoded.hidden.append(self.norm(queries))
            # the refinement uses the raw queries; the outputs use the normalised ones
            carried = jt.sigmoid(head(queries) + inverse_sigmoid(boxes, self._config.box_epsilon))
            boxes = carried.detach()
        return decoded


class DecoderLayer(Module):
    """Self-attention, attention to text, attention to the image, two linear layers, each with post-norm."""

    def __init__(self, config: Config) -> None:
        d, heads = config.hidden_dim, config.num_heads
        self.self_attn = MultiheadAttention(d, heads)
        self.norm2 = LayerNorm(d)
        if config.use_text_cross_attention:
            self.ca_text = MultiheadAttention(d, heads)
            self.catext_norm = LayerNorm(d)
        self.cross_attn = image_attention(config, config.dec_points)
        self.norm1 = LayerNorm(d)
        self.linear1 = Linear(d, config.dim_feedforward)
        self.linear2 = Linear(config.dim_feedforward, d)
        self.norm3 = LayerNorm(d)
        self._both = FeedForward("relu")
        self._reads_text = config.use_text_cross_attention

    def execute(self, x: Any, position: Any, references: Any, memory: Memory) -> Any:
        """(B, Q, d) to (B, Q, d); ``position`` (B, Q, d), ``references`` (B, Q, L, 4)."""
        query = x + position
        x = self.norm2(x + self.self_attn(query, query, x, memory.query_bias))
        if self._reads_text:
            x = self.catext_norm(x + self.ca_text(x + position, memory.text, memory.text, memory.text_bias))
        image = memory.features
        looked = self.cross_attn(x + position, memory.image, image.padding, references, image.shapes, image.positions)
        x = self.norm1(x + looked)
        return self.norm3(x + self._both(x, self.linear1, self.linear2))
