"""Layer and group normalisation in two passes: mean first, then squared deviations from it."""

from __future__ import annotations

from math import prod
from typing import Any

from ovd_bench.kernels.bases import Function
from ovd_bench.kernels.binding import cpu_op
from ovd_bench.kernels.runtime import jittor

jt = jittor()

_FILES = ("norms.cc",)
_EPS = '(in0_type)data["eps"]'


def layer_norm(x: Any, weight: Any, bias: Any, eps: float) -> Any:
    """Normalise the last dimension.

    Args:
        x: (..., C).
        weight: (C,).
        bias: (C,).
        eps: added to the variance.

    Returns:
        (..., C).
    """
    if jt.flags.use_cuda:
        return _normalised(x, eps) * weight + bias
    return _LayerNorm.apply(x.reshape(prod(x.shape[:-1]), x.shape[-1]), weight, bias, eps).reshape(x.shape)


def group_norm(x: Any, groups: int, weight: Any, bias: Any, eps: float) -> Any:
    """Normalise groups of neighbouring channels, each over all its pixels.

    Args:
        x: (B, C, H, W).
        groups: a divisor of C.
        weight: (C,).
        bias: (C,).
        eps: added to the variance.

    Returns:
        (B, C, H, W).
    """
    batch, channels, height, width = x.shape
    if channels % groups:
        raise ValueError(f"{channels} channels cannot be divided into {groups} groups")
    split = x.reshape(batch, groups, channels // groups, height * width)
    if jt.flags.use_cuda:
        y = _normalised(split.reshape(batch, groups, -1), eps).reshape(x.shape)
        return y * weight.reshape(1, -1, 1, 1) + bias.reshape(1, -1, 1, 1)
    return _GroupNorm.apply(split, weight, bias, eps).reshape(x.shape)


def _normalised(x: Any, eps: float) -> Any:
    centred = x - x.mean(-1, keepdims=True)
    return centred / jt.sqrt((centred * centred).mean(-1, keepdims=True) + eps)


class _Norm(Function):
    """The gradient recomputes the statistics; they are not stored."""

    kernel: str
    sizes: str

    def execute(self, x: Any, weight: Any, bias: Any, eps: float) -> Any:
        self.saved = (x, weight)
        self.data = {"eps": eps}
        call = f"ovd::{self.kernel}_forward(in0_p, in1_p, in2_p, out0_p, {self.sizes}, {_EPS});"
        (y,) = cpu_op([x.shape], [x, weight, bias], _FILES, call, self.data)
        return y

    def grad(self, grad: Any) -> tuple[Any, Any, Any, None]:
        x, weight = self.saved
        call = f"ovd::{self.kernel}_backward(in0_p, in1_p, in2_p, out0_p, out1_p, out2_p, {self.sizes}, {_EPS});"
        dx, dw, db = cpu_op([x.shape, weight.shape, weight.shape], [x, weight, grad], _FILES, call, self.data)
        return dx, dw, db, None


class _LayerNorm(_Norm):
    """Layer normalisation of rows (N, C)."""

    kernel = "layer_norm"
    sizes = "in0_shape0, in0_shape1"


class _GroupNorm(_Norm):
    """Group normalisation of (B, groups, channels of one group, pixels)."""

    kernel = "group_norm"
    sizes = "in0_shape0, in0_shape1, in0_shape2, in0_shape3"
