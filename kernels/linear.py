"""Linear layers: bias and activation in the same pass as the matrix product."""

from __future__ import annotations

from math import prod
from typing import Any, Literal

from ovd_bench.kernels.bases import Function
from ovd_bench.kernels.binding import cpu_op
from ovd_bench.kernels.runtime import jittor

jt = jittor()

Activation = Literal["none", "relu", "gelu"]
_CODES = {"none": 0.0, "relu": 1.0, "gelu": 2.0}
_FILES = ("gemm.h", "vector_math.h", "tiled_gemm.h", "activation.h", "linear.cc")
_SIZES = 'in0_shape0, in1_shape1, in1_shape0, (int)data["activation"]'


def linear(x: Any, weight: Any, bias: Any, activation: Activation = "none") -> Any:
    """``activation(x @ weight.T + bias)``.

    Args:
        x: (..., I).
        weight: (O, I); if in half precision, the product is computed in it, and the result has the type of ``x``.
        bias: (O,) or None.
        activation: ``gelu`` is the exact one (erf).

    Returns:
        (..., O).
    """
    if bias is None:
        bias = jt.zeros(weight.shape[0], x.dtype)
    if jt.flags.use_cuda or weight.dtype != x.dtype:
        return _composed(x, weight, bias, activation)
    rows = x.reshape(prod(x.shape[:-1]), x.shape[-1])
    return _Linear.apply(rows, weight, bias, activation).reshape(*x.shape[:-1], weight.shape[0])


def _composed(x: Any, weight: Any, bias: Any, activation: Activation) -> Any:
    y = product(x, weight) + bias
    return {"none": lambda v: v, "relu": jt.nn.relu, "gelu": jt.nn.gelu}[activation](y)


def product(x: Any, weight: Any) -> Any:
    """``x @ weight.T`` in the precision of the weight, (..., I) and (O, I) to float32 (..., O)."""
    if weight.dtype == x.dtype:
        return jt.nn.linear(x, weight)
    return jt.nn.linear(x.cast(weight.dtype), weight).cast(x.dtype)


class _Linear(Function):
    """Rows (N, I) to (N, O); the backward pass recomputes the product before the activation."""

    def execute(self, x: Any, weight: Any, bias: Any, activation: Activation) -> Any:
        self.saved = (x, weight, bias)
        self.data = {"activation": _CODES[activation]}
        (out,) = cpu_op(
            [(x.shape[0], weight.shape[0])],
            [x, weight, bias],
            _FILES,
            f"ovd::linear_forward(in0_p, in1_p, in2_p, out0_p, {_SIZES});",
            self.data,
        )
        return out

    def grad(self, grad: Any) -> tuple[Any, Any, Any, None]:
        x, weight, bias = self.saved
        dx, dw, db = cpu_op(
            [x.shape, weight.shape, bias.shape],
            [x, weight, bias, grad],
            _FILES,
            f"ovd::linear_backward(in0_p, in1_p, in2_p, in3_p, out0_p, out1_p, out2_p, {_SIZES});",
            self.data,
        )
        return dx, dw, db, None
