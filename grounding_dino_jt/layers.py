"""Small layers shared by all parts; parameters are named as in the official checkpoint."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import pairwise
from typing import Any, Literal

import numpy as np

from ovd_bench.kernels.attention import attention
from ovd_bench.kernels.bases import Module
from ovd_bench.kernels.feed_forward import feed_forward
from ovd_bench.kernels.linear import linear
from ovd_bench.kernels.norms import layer_norm
from ovd_bench.kernels.runtime import jittor

jt = jittor()
nn = jt.nn


def xavier_uniform(*shape: int, fan_in: int | None = None, fan_out: int | None = None) -> Any:
    """Weights with the variance of Glorot and Bengio 2010; fans are those of the last and first axis unless given."""
    bound = math.sqrt(6 / ((fan_in or shape[-1]) + (fan_out or shape[0])))
    return jt.rand(shape) * (2 * bound) - bound


class Linear(Module):
    """(..., I) to (..., O), ``activation`` included."""

    def __init__(
        self, inputs: int, outputs: int, *, bias: bool = True, activation: Literal["none", "relu", "gelu"] = "none"
    ) -> None:
        self.weight = xavier_uniform(outputs, inputs)
        if bias:
            self.bias = jt.zeros((outputs,))
        self._bias = bias
        self._activation = activation

    def execute(self, x: Any) -> Any:
        """(..., I) to (..., O)."""
        return linear(x, self.weight, self.bias if self._bias else None, self._activation)


class LayerNorm(Module):
    """Over the last axis, (..., C) to (..., C)."""

    def __init__(self, channels: int, eps: float = 1e-5) -> None:
        self.weight = jt.ones((channels,))
        self.bias = jt.zeros((channels,))
        self._eps = eps

    def execute(self, x: Any) -> Any:
        """(..., C) to (..., C)."""
        return layer_norm(x, self.weight, self.bias, self._eps)


class FeedForward:
    """Two linear layers of another module as one operator; it has no parameters itself."""

    def __init__(self, activation: Literal["relu", "gelu"]) -> None:
        self._activation = activation

    def __call__(self, x: Any, first: Any, second: Any) -> Any:
        """``second(activation(first(x)))`` for two layers with ``weight`` and ``bias``; (..., I) to (..., O)."""
        return feed_forward(x, first.weight, first.bias, second.weight, second.bias, self._activation)


class MLP(Module):
    """Linear layers with ReLU between them (``MLP`` of ``groundingdino/models/GroundingDINO/utils.py``)."""

    def __init__(self, inputs: int, hidden: int, outputs: int, layers: int) -> None:
        widths = [inputs, *[hidden] * (layers - 1), outputs]
        self.layers = nn.ModuleList(
            [
                Linear(before, after, activation="relu" if number < layers - 1 else "none")
                for number, (before, after) in enumerate(pairwise(widths))
            ]
        )

    def execute(self, x: Any) -> Any:
        """(..., inputs) to (..., outputs)."""
        for layer in self.layers:
            x = layer(x)
        return x


class MultiheadAttention(Module):
    """Attention with the parameter layout of ``torch.nn.MultiheadAttention``.

    ``in_proj_weight`` holds the projections of query, key and value, d rows each.
    """

    def __init__(self, width: int, heads: int) -> None:
        self.in_proj_weight = xavier_uniform(3 * width, width)
        self.in_proj_bias = jt.zeros((3 * width,))
        self.out_proj = Linear(width, width)
        self._width, self._heads = width, heads

    def execute(self, query: Any, key: Any, value: Any, bias: Any = None) -> Any:
        """Attend.

        Args:
            query: (B, N, d).
            key: (B or 1, M, d).
            value: (B or 1, M, d).
            bias: added to the logits, (B or 1, heads or 1, N or 1, M).

        Returns:
            (B, N, d).
        """
        projected = []
        if query is key:
            both = self._project(query, 0, 2)
            projected += [both[..., : self._width], both[..., self._width :]]
        else:
            projected += [self._project(query, 0, 1), self._project(key, 1, 2)]
        projected.append(self._project(value, 2, 3))
        q, k, v = (x.reshape(*x.shape[:2], self._heads, -1) for x in projected)
        mixed = attention(q, k, v, bias)
        return self.out_proj(mixed.reshape(query.shape))

    def _project(self, x: Any, first: int, last: int) -> Any:
        rows = slice(first * self._width, last * self._width)
        return linear(x, self.in_proj_weight[rows], self.in_proj_bias[rows])


def inverse_sigmoid(x: Any, eps: float) -> Any:
    """Logit of shares; x and 1 - x count as at least ``eps`` (official ``utils.py``, inverse_sigmoid)."""
    x = jt.clamp(x, 0.0, 1.0)
    return jt.log(jt.clamp(x, min_v=eps) / jt.clamp(1 - x, min_v=eps))


_images: list[np.random.Generator] = []


@contextmanager
def drawn_by(images: Sequence[np.random.Generator]) -> Iterator[None]:
    """Use a separate random generator for the drop path of each image within the block.

    The result for an image therefore does not depend on the other images of its batch.
    """
    _images[:] = images
    try:
        yield
    finally:
        _images.clear()


def drawing() -> list[np.random.Generator]:
    """The generators of the current block."""
    return list(_images)


def drop_path(x: Any, rate: float, training: bool) -> Any:
    """Stochastic depth (Huang et al. 2016): in training, whole samples of ``x`` (B, ...) become zero, others grow."""
    if rate == 0 or not training:
        return x
    kept = np.array([image.random() >= rate for image in _images], np.float32) / np.float32(1 - rate)
    assert len(kept) == x.shape[0], "training with drop path needs the context drawn_by"
    return x * jt.array(kept.reshape(-1, *(1 for _ in x.shape[1:])))
