"""Softmax, one row at a time."""

from __future__ import annotations

from math import prod
from typing import Any

from ovd_bench.kernels.bases import Function
from ovd_bench.kernels.binding import cpu_op
from ovd_bench.kernels.runtime import jittor

jt = jittor()

_FILES = ("vector_math.h", "softmax.cc")


def softmax(x: Any) -> Any:
    """Softmax over the last dimension; entries may be -inf, and a row of only -inf gives NaN.

    Args:
        x: (..., C).

    Returns:
        (..., C).
    """
    if jt.flags.use_cuda:
        return _composed(x)
    return _Softmax.apply(x.reshape(prod(x.shape[:-1]), x.shape[-1])).reshape(x.shape)


def _composed(x: Any) -> Any:
    return jt.nn.softmax(x, dim=-1)


class _Softmax(Function):
    """Softmax of rows (N, C); the gradient needs only the result."""

    def execute(self, x: Any) -> Any:
        (self.y,) = cpu_op([x.shape], [x], _FILES, "ovd::softmax_forward(in0_p, out0_p, in0_shape0, in0_shape1);")
        return self.y

    def grad(self, grad: Any) -> Any:
        (dx,) = cpu_op(
            [grad.shape],
            [self.y, grad],
            _FILES,
            "ovd::softmax_backward(in0_p, in1_p, out0_p, in0_shape0, in0_shape1);",
        )
        return dx
