"""Attention of queries to a pyramid of feature maps: sampled at a few points, or, as an ablation, dense."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from ovd_bench.grounding_dino_jt.config import Config
from ovd_bench.grounding_dino_jt.layers import Linear, MultiheadAttention
from ovd_bench.kernels.bases import Module
from ovd_bench.kernels.deformable_attention import deformable_attention
from ovd_bench.kernels.linear import linear
from ovd_bench.kernels.runtime import jittor
from ovd_bench.kernels.softmax import softmax

jt = jittor()
nn = jt.nn


def image_attention(config: Config, points: int) -> Any:
    """The kind of image attention that a configuration asks for."""
    if config.attention == "dense":
        return DenseAttention(config)
    return DeformableAttention(config.hidden_dim, config.num_heads, config.num_feature_levels, points)


class DeformableAttention(Module):
    """Multi-scale deformable attention (Zhu et al. 2021, section 4.1; official ``ms_deform_attn.py``)."""

    def __init__(self, width: int, heads: int, levels: int, points: int) -> None:
        self.sampling_offsets = Linear(width, heads * levels * points * 2)
        self.attention_weights = Linear(width, heads * levels * points)
        self.value_proj = Linear(width, width)
        self.output_proj = Linear(width, width)
        self._heads, self._levels, self._points = heads, levels, points
        self._look_around()

    def execute(
        self, query: Any, memory: Any, padding: Any, references: Any, shapes: Sequence[tuple[int, int]], pos: Any = None
    ) -> Any:
        """Attend.

        Args:
            query: (B, Q, d), position included.
            memory: (B, N, d), levels one after the other.
            padding: bool (B, N), true at padding; None = no padding.
            references: (B, Q, L, 2) centres or (B, Q, L, 4) boxes cxcywh, relative to the padded maps.
            shapes: height and width of each level.
            pos: unused; dense attention adds it to its keys.

        Returns:
            (B, Q, d).
        """
        value = self.value_proj(memory)
        if padding is not None:
            value = value * jt.logical_not(padding).float32().unsqueeze(-1)
        batch, queries = query.shape[:2]
        grid = (self._heads, self._levels, self._points)
        # one product for both, so the query is read once
        weight = jt.concat([self.sampling_offsets.weight, self.attention_weights.weight], dim=0)
        bias = jt.concat([self.sampling_offsets.bias, self.attention_weights.bias], dim=0)
        asked = linear(query, weight, bias)
        split = 2 * math.prod(grid)
        offsets = asked[..., :split].reshape(batch, queries, *grid, 2)
        shares = softmax(asked[..., split:].reshape(batch, queries, self._heads, -1)).reshape(batch, queries, *grid)
        if references.shape[-1] == 2:
            sizes = jt.array(np.array([(width, height) for height, width in shapes], np.float32))
            places = references.unsqueeze(2).unsqueeze(4) + offsets / sizes.reshape(1, 1, 1, -1, 1, 2)
        else:
            boxes = references.unsqueeze(2).unsqueeze(4)
            places = boxes[..., :2] + offsets * boxes[..., 2:] * (0.5 / self._points)
        value = value.reshape(batch, -1, self._heads, value.shape[-1] // self._heads)
        return self.output_proj(deformable_attention(value, shapes, places, shares))

    def _look_around(self) -> None:
        """Initial values: offsets point in ``heads`` directions, further for later points; equal weights."""
        angles = np.arange(self._heads) * (2 * math.pi / self._heads)
        directions = np.stack([np.cos(angles), np.sin(angles)], -1)
        directions /= np.abs(directions).max(-1, keepdims=True)
        steps = np.arange(1, self._points + 1)
        grid = directions[:, None, None] * steps[:, None] * np.ones((1, self._levels, 1, 1))
        self.sampling_offsets.weight = jt.zeros(self.sampling_offsets.weight.shape)
        self.sampling_offsets.bias = jt.array(grid.reshape(-1).astype(np.float32))
        self.attention_weights.weight = jt.zeros(self.attention_weights.weight.shape)


class DenseAttention(Module):
    """Ablation: plain attention to all positions; references are not used, positions are added to the keys.

    Memory and time grow with queries times positions: for small images.
    """

    def __init__(self, config: Config) -> None:
        self.attn = MultiheadAttention(config.hidden_dim, config.num_heads)

    def execute(
        self, query: Any, memory: Any, padding: Any, references: Any, shapes: Sequence[tuple[int, int]], pos: Any = None
    ) -> Any:
        """As ``DeformableAttention.execute``; ``pos`` (B, N, d) is the position of the memory."""
        bias = None
        if padding is not None:
            bias = padding.float32().unsqueeze(1).unsqueeze(1) * -1e9
        return self.attn(query, memory if pos is None else memory + pos, memory, bias)
