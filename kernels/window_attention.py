"""Attention inside the (shifted) windows of a map: the core of a Swin block."""

from __future__ import annotations

from typing import Any

from ovd_bench.kernels.bases import Function
from ovd_bench.kernels.binding import cpu_op
from ovd_bench.kernels.runtime import jittor

jt = jittor()

_FILES = ("gemm.h", "vector_math.h", "tile_product.h", "row_softmax.h", "window_attention.cc")
_SIZES = (
    "ovd::WindowSizes{in0_shape0, in0_shape1, in0_shape2, in0_shape3 / 3, "
    '(int64_t)data["heads"], (int64_t)data["window"], (int64_t)data["shift"]}'
)

#: Added to the logit of two tokens that are in the same window only because the shift wraps around the map.
_APART = -100.0


def window_attention(qkv: Any, qkv_bias: Any, position_bias: Any, window: int, shift: int, heads: int) -> Any:
    """Multi-head attention inside windows, directly on the map.

    The map is padded to whole windows at the bottom and on the right. Padded tokens are zero before the linear layer
    of q, k and v, so their q, k and v are the bias of that layer; they take part as keys. With a shift, windows wrap
    around the map, and the logits of tokens from different regions get -100 added (not -inf), as in the official code
    (microsoft/Swin-Transformer, models/swin_transformer.py).

    Args:
        qkv: (B, H, W, 3 * C), the output of the linear layer: q of all heads, then k, then v.
        qkv_bias: (3 * C,), bias of that layer.
        position_bias: (heads, T, T) with T = window ** 2: query, key; row-major in the window.
        window: side of a window, in tokens.
        shift: by which windows move to the bottom right, in tokens, less than ``window``.
        heads: number of heads; logits are scaled by ``(C / heads) ** -0.5``.

    Returns:
        (B, H, W, C).
    """
    if jt.flags.use_cuda:
        return _composed(qkv, qkv_bias, position_bias, window, shift, heads)
    return _WindowAttention.apply(qkv, qkv_bias, position_bias, window, shift, heads)


def _composed(qkv: Any, qkv_bias: Any, position_bias: Any, window: int, shift: int, heads: int) -> Any:
    batch, height, width, channels = qkv.shape
    channels //= 3
    rows, columns = -(-height // window), -(-width // window)
    below, right = rows * window - height, columns * window - width
    if below:
        qkv = jt.concat([qkv, qkv_bias.broadcast((batch, below, width, 3 * channels), [0, 1, 2])], dim=1)
    if right:
        qkv = jt.concat([qkv, qkv_bias.broadcast((batch, height + below, right, 3 * channels), [0, 1, 2])], dim=2)
    if shift:
        qkv = jt.roll(qkv, (-shift, -shift), (1, 2))
    tokens, depth = window * window, channels // heads
    x = qkv.reshape(batch, rows, window, columns, window, 3, heads, depth).permute(5, 0, 1, 3, 6, 2, 4, 7)
    q, k, v = x.reshape(3, batch * rows * columns, heads, tokens, depth)
    logits = jt.matmul(q * depth**-0.5, k.transpose(2, 3)) + position_bias
    if shift:
        mask = _region_mask(rows, columns, window, shift).reshape(1, rows * columns, 1, tokens, tokens)
        logits = (logits.reshape(batch, rows * columns, heads, tokens, tokens) + mask).reshape(logits.shape)
    out = jt.matmul(jt.nn.softmax(logits, dim=-1), v)
    out = out.reshape(batch, rows, columns, heads, window, window, depth).permute(0, 1, 4, 2, 5, 3, 6)
    out = out.reshape(batch, rows * window, columns * window, channels)
    if shift:
        out = jt.roll(out, (shift, shift), (1, 2))
    return out[:, :height, :width]


def _region_mask(rows: int, columns: int, window: int, shift: int) -> Any:
    """(rows * columns, T, T): -100 between tokens of different regions of the shifted map, else 0."""
    axes = [(jt.arange(n * window) >= (n - 1) * window).int() + (jt.arange(n * window) >= n * window - shift).int()
            for n in (rows, columns)]  # fmt: skip
    region = axes[0].reshape(-1, 1) * 3 + axes[1].reshape(1, -1)
    region = region.reshape(rows, window, columns, window).permute(0, 2, 1, 3)
    region = region.reshape(rows * columns, window * window)
    return (region.unsqueeze(1) != region.unsqueeze(2)).float() * _APART


class _WindowAttention(Function):
    """The backward pass recomputes the probabilities of each window."""

    def execute(self, qkv: Any, qkv_bias: Any, position_bias: Any, window: int, shift: int, heads: int) -> Any:
        self.saved = (qkv, qkv_bias, position_bias)
        self.sizes = {"window": float(window), "shift": float(shift), "heads": float(heads)}
        (out,) = cpu_op(
            [(*qkv.shape[:3], qkv.shape[3] // 3)],
            self.saved,
            _FILES,
            f"ovd::window_attention_forward(in0_p, in1_p, in2_p, out0_p, {_SIZES});",
            self.sizes,
        )
        return out

    def grad(self, grad: Any) -> tuple[Any, Any, Any, None, None, None]:
        dqkv, dqkv_bias, dposition_bias = cpu_op(
            [x.shape for x in self.saved],
            [*self.saved, grad],
            _FILES,
            f"ovd::window_attention_backward(in0_p, in1_p, in2_p, in3_p, out0_p, out1_p, out2_p, {_SIZES});",
            self.sizes,
        )
        return dqkv, dqkv_bias, dposition_bias, None, None, None
