"""Attention in both directions between an image and captions: the fusion block of Grounding DINO."""

from __future__ import annotations

from typing import Any

from ovd_bench.kernels.bases import Function
from ovd_bench.kernels.binding import cpu_op
from ovd_bench.kernels.runtime import jittor

jt = jittor()

_FILES = ("gemm.h", "vector_math.h", "tile_product.h", "row_softmax.h", "bi_attention.cc")
_SIZES = "{in0_shape0, in0_shape1, in1_shape0, in1_shape1, in1_shape2, in1_shape3}"


def bi_attention(
    image: Any, keys: Any, key_bias: Any, values: Any, image_padding: Any = None, text_padding: Any = None
) -> tuple[Any, Any]:
    """Image rows attend to text and text to image rows, with one set of logits for both.

    With ``logits[b, h, n, t] = image[b, n] . keys[b, h, t] + key_bias[b, h, t]``:

    * ``image_out[b, n]`` is the sum over heads of ``softmax over t (logits) @ values``, without padded text;
    * ``context[b, h, t]`` is ``softmax over n (logits) @ image``, without padded image rows.

    The caller folds the linear layers of the image side into ``keys`` and ``values``, and the last one into its use of
    ``context``. GroundingDINO (models/GroundingDINO/fuse_modules.py, BiMultiHeadAttention) also subtracts the maximum
    of all logits and clamps them to +-50000; neither changes a softmax unless the logits of an image differ by more
    than 50000.

    Args:
        image: (B or 1, N, d); one image serves all captions.
        keys: (B, h, T, d).
        key_bias: (B, h, T).
        values: (B, h, T, d).
        image_padding: (B or 1, N) as image, bool, True is padding; None if there is no padding.
        text_padding: (B, T) bool.

    Returns:
        ``image_out`` (B, N, d), including padded rows, and ``context`` (B, h, T, d), including padded text. A caption
        or an image that is all padding gives NaN.
    """
    if jt.flags.use_cuda:
        return _composed(image, keys, key_bias, values, image_padding, text_padding)
    if image_padding is None:
        image_padding = jt.zeros(image.shape[:2], dtype="bool")
    if text_padding is None:
        text_padding = jt.zeros((keys.shape[0], keys.shape[2]), dtype="bool")
    image_out, context = _BiAttention.apply(image, keys, key_bias, values, image_padding, text_padding)
    return image_out, context


def _composed(
    image: Any, keys: Any, key_bias: Any, values: Any, image_padding: Any, text_padding: Any
) -> tuple[Any, Any]:
    batch, heads, tokens, depth = keys.shape
    flat = keys.reshape(batch, heads * tokens, depth)
    logits = jt.matmul(image, flat.transpose(1, 2)) + key_bias.reshape(batch, 1, heads * tokens)
    rows = logits.reshape(batch, -1, heads, tokens)
    if text_padding is not None:
        rows = rows.masked_fill(text_padding.reshape(batch, 1, 1, tokens), float("-inf"))
    image_out = jt.matmul(jt.nn.softmax(rows, dim=-1).reshape(logits.shape), values.reshape(flat.shape))
    columns = logits if image_padding is None else logits.masked_fill(image_padding.unsqueeze(-1), float("-inf"))
    context = jt.matmul(jt.nn.softmax(columns, dim=1).transpose(1, 2), image)
    return image_out, context.reshape(keys.shape)


class _BiAttention(Function):
    """Never stores all logits; the backward pass recomputes them block by block."""

    def execute(self, *inputs: Any) -> tuple[Any, Any]:
        image, keys, key_bias = inputs[:3]
        image_out, context, lse = cpu_op(
            [(keys.shape[0], *image.shape[1:]), keys.shape, key_bias.shape],
            inputs,
            _FILES,
            "ovd::bi_attention_forward(in0_p, in1_p, in2_p, in3_p, in4_p, in5_p, out0_p, out1_p, out2_p, "
            f"ovd::BiSizes{_SIZES});",
        )
        self.saved = (*inputs, context, lse)
        return image_out, context

    def grad(self, grad_image: Any, grad_context: Any) -> tuple[Any, ...]:
        image, keys, key_bias, values, _, _, context, _ = self.saved
        if grad_image is None:
            grad_image = jt.zeros((keys.shape[0], *image.shape[1:]), dtype=image.dtype)
        if grad_context is None:
            grad_context = jt.zeros_like(context)
        grads = cpu_op(
            [image.shape, keys.shape, key_bias.shape, values.shape],
            [*self.saved, grad_image, grad_context],
            _FILES,
            "ovd::bi_attention_backward(in0_p, in1_p, in2_p, in3_p, in4_p, in5_p, in6_p, in7_p, in8_p, in9_p, out0_p, "
            f"out1_p, out2_p, out3_p, ovd::BiSizes{_SIZES});",
        )
        return (*grads, None, None)
