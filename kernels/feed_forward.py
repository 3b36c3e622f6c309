"""Two linear layers with an activation between them; the hidden values stay in the processor's cache."""

from __future__ import annotations

from math import prod
from typing import Any, Literal

from ovd_bench.kernels.bases import Function
from ovd_bench.kernels.binding import cpu_op
from ovd_bench.kernels.linear import product
from ovd_bench.kernels.runtime import jittor

jt = jittor()

Activation = Literal["relu", "gelu"]
_CODES = {"relu": 1.0, "gelu": 2.0}
_FILES = ("gemm.h", "vector_math.h", "tiled_gemm.h", "activation.h", "linear.cc", "feed_forward.cc")
_SIZES = 'in0_shape0, in1_shape1, in1_shape0, in3_shape0, (int)data["activation"]'


def feed_forward(x: Any, w1: Any, b1: Any, w2: Any, b2: Any, activation: Activation) -> Any:
    """``activation(x @ w1.T + b1) @ w2.T + b2``.

    Args:
        x: (..., I).
        w1: (F, I).
        b1: (F,).
        w2: (O, F).
        b2: (O,).
        activation: ``gelu`` is the exact one (erf).

    Returns:
        (..., O).
    """
    if jt.flags.use_cuda or w1.dtype != x.dtype:
        return _composed(x, w1, b1, w2, b2, activation)
    rows = x.reshape(prod(x.shape[:-1]), x.shape[-1])
    return _FeedForward.apply(rows, w1, b1, w2, b2, activation).reshape(*x.shape[:-1], w2.shape[0])


def _composed(x: Any, w1: Any, b1: Any, w2: Any, b2: Any, activation: Activation) -> Any:
    hidden = product(x, w1) + b1
    return product(jt.nn.relu(hidden) if activation == "relu" else jt.nn.gelu(hidden), w2) + b2


class _FeedForward(Function):
    """Rows (N, I) to (N, O); the backward pass recomputes the hidden values."""

    def execute(self, x: Any, w1: Any, b1: Any, w2: Any, b2: Any, activation: Activation) -> Any:
        self.saved = (x, w1, b1, w2)
        self.data = {"activation": _CODES[activation]}
        (y,) = cpu_op(
            [(x.shape[0], w2.shape[0])],
            [x, w1, b1, w2, b2],
            _FILES,
            f"ovd::feed_forward_forward(in0_p, in1_p, in2_p, in3_p, in4_p, out0_p, {_SIZES});",
            self.data,
        )
        return y

    def grad(self, grad: Any) -> tuple[Any, Any, Any, Any, Any, None]:
        x, w1, b1, w2 = self.saved
        dx, dw1, db1, dw2, db2 = cpu_op(
            [x.shape, w1.shape, b1.shape, w2.shape, (w2.shape[0],)],
            [x, w1, b1, w2, grad],
            _FILES,
            f"ovd::feed_forward_backward(in0_p, in1_p, in2_p, in3_p, in4_p, out0_p, out1_p, out2_p, out3_p, out4_p, "
            f"{_SIZES});",
            self.data,
        )
        return dx, dw1, db1, dw2, db2, None
