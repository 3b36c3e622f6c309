"""Attention of a few hundred queries and keys with an additive bias."""

from __future__ import annotations

from typing import Any

from ovd_bench.kernels.bases import Function
from ovd_bench.kernels.binding import cpu_op
from ovd_bench.kernels.runtime import jittor

jt = jittor()

_FILES = ("gemm.h", "vector_math.h", "tile_product.h", "row_softmax.h", "attention.cc")
_SIZES = "ovd::AttentionSizes{in0_shape0, in0_shape1, in1_shape1, in0_shape2, in0_shape3}"
_BIAS = {
    False: "ovd::AttentionBias<in0_type>{nullptr, 1, 1, 1, 1}",
    True: "ovd::AttentionBias<in0_type>{in3_p, in3_shape0, in3_shape1, in3_shape2, in3_shape3}",
}


def attention(q: Any, k: Any, v: Any, bias: Any = None, scale: float | None = None) -> Any:
    """``softmax(scale * q k^T + bias) v`` for every head.

    Args:
        q: (B, N, H, D).
        k: (B, M, H, D).
        v: (B, M, H, D).
        bias: (B or 1, H or 1, N or 1, M), added to the logits; -inf excludes a key. It gets no gradient.
        scale: factor of the logits, ``D ** -0.5`` if None.

    Returns:
        (B, N, H, D). A query whose keys are all excluded gets NaN.

    Raises:
        ValueError: shape of the bias.
    """
    scale = q.shape[-1] ** -0.5 if scale is None else scale
    if bias is not None:
        full = (q.shape[0], q.shape[2], q.shape[1])
        if (
            len(bias.shape) != 4
            or bias.shape[3] != k.shape[1]
            or any(n not in (1, whole) for n, whole in zip(bias.shape, full, strict=False))
        ):
            raise ValueError(f"bias of shape {tuple(bias.shape)} for {full} + ({k.shape[1]},)")
    if jt.flags.use_cuda:
        return _composed(q, k, v, bias, scale)
    return _Attention.apply(q, k, v, bias, scale)


def _composed(q: Any, k: Any, v: Any, bias: Any, scale: float) -> Any:
    q, k, v = (x.permute(0, 2, 1, 3) for x in (q, k, v))
    logits = jt.matmul(q * scale, k.transpose(2, 3))
    if bias is not None:
        logits = logits + bias
    return jt.matmul(jt.nn.softmax(logits, dim=-1), v).permute(0, 2, 1, 3)


class _Attention(Function):
    """Never stores all logits; the backward pass recomputes them block by block."""

    def execute(self, q: Any, k: Any, v: Any, bias: Any, scale: float) -> Any:
        self.saved = [q, k, v] if bias is None else [q, k, v, bias]
        self.bias = _BIAS[bias is not None]
        self.scale = {"scale": scale}
        (out,) = cpu_op(
            [q.shape],
            self.saved,
            _FILES,
            f'ovd::attention_forward(in0_p, in1_p, in2_p, {self.bias}, out0_p, (in0_type)data["scale"], {_SIZES});',
            self.scale,
        )
        return out

    def grad(self, grad: Any) -> tuple[Any, Any, Any, None, None]:
        number = len(self.saved)
        dq, dk, dv = cpu_op(
            [x.shape for x in self.saved[:3]],
            [*self.saved, grad],
            _FILES,
            f"ovd::attention_backward(in0_p, in1_p, in2_p, {self.bias}, in{number}_p, out0_p, out1_p, out2_p, "
            f'(in0_type)data["scale"], {_SIZES});',
            self.scale,
        )
        return dq, dk, dv, None, None
