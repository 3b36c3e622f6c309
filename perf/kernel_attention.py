"""Cases of ``perf.kernels``: the attention operators, compared with torch."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F  # noqa: N812

from ovd_bench.kernels.attention import attention
from ovd_bench.kernels.bi_attention import bi_attention
from ovd_bench.kernels.linear import linear
from ovd_bench.kernels.matmul import bmm
from ovd_bench.kernels.runtime import jittor
from ovd_bench.kernels.window_attention import window_attention

jt = jittor()

Shape = tuple[int, ...]


@dataclass(frozen=True)
class AttentionCase:
    """One operator at one size; both functions take arrays of these shapes in order."""

    name: str
    shapes: tuple[Shape, ...]
    ours: Callable[..., Any]
    theirs: Callable[..., torch.Tensor]


def _attention(batch: int, queries: int, keys: int, heads: int, depth: int) -> AttentionCase:
    """Compared with ``scaled_dot_product_attention`` on the same strided heads."""
    q, k = (batch, queries, heads, depth), (batch, keys, heads, depth)
    return AttentionCase(
        f"attention {batch} x {queries} x {keys}, {heads} heads x {depth}",
        (q, k, k),
        attention,
        lambda q, k, v: F.scaled_dot_product_attention(*(x.transpose(1, 2) for x in (q, k, v))).transpose(1, 2),
    )


def _window_attention(height: int, width: int, heads: int, window: int, shift: int) -> AttentionCase:
    """Compared with padding, roll, windows, attention and their inverses, as Swin is implemented in torch."""
    channels = 32 * heads
    return AttentionCase(
        f"window_attention {height} x {width}, {heads} heads, window {window}, shift {shift}",
        ((1, height, width, 3 * channels), (3 * channels,), (heads, window**2, window**2)),
        partial(window_attention, window=window, shift=shift, heads=heads),
        partial(_torch_windows, window=window, shift=shift, heads=heads),
    )


def _torch_windows(
    qkv: torch.Tensor, qkv_bias: torch.Tensor, position_bias: torch.Tensor, window: int, shift: int, heads: int
) -> torch.Tensor:
    _, height, width, channels = qkv.shape
    rows, columns = -(-height // window), -(-width // window)
    full = qkv_bias.expand(1, rows * window, columns * window, channels).clone()
    full[:, :height, :width] = qkv
    full = torch.roll(full, (-shift, -shift), (1, 2))
    x = full.view(rows, window, columns, window, 3, heads, 32).permute(4, 0, 2, 5, 1, 3, 6)
    q, k, v = x.reshape(3, rows * columns, heads, window**2, 32)
    bias = position_bias.expand(rows * columns, -1, -1, -1)
    if shift:
        y, x = (
            (torch.arange(n * window) >= (n - 1) * window).int()
            + (torch.arange(n * window) >= n * window - shift).int()
            for n in (rows, columns)
        )
        region = (3 * y[:, None] + x).view(rows, window, columns, window).transpose(1, 2).reshape(rows * columns, -1)
        bias = bias + torch.where(region[:, :, None] == region[:, None], 0.0, -100.0).unsqueeze(1)
    out = F.scaled_dot_product_attention(q, k, v, attn_mask=bias)
    out = out.view(rows, columns, heads, window, window, 32).permute(0, 3, 1, 4, 2, 5)
    out = out.reshape(1, rows * window, columns * window, channels // 3)
    return torch.roll(out, (shift, shift), (1, 2))[:, :height, :width]


def _fusion(
    captions: int, rows: int, tokens: int, depth: int = 256, width: int = 1024, heads: int = 4
) -> AttentionCase:
    """Grounding DINO's fusion attention with its projections: folded into the text, compared with the usual order."""
    image, text, inward, outward = (1, rows, depth), (captions, tokens, depth), (width, depth), (depth, width)
    return AttentionCase(
        f"bi_attention {captions} x {rows} x {tokens}, {heads} heads",
        (image, text, *[inward] * 4, *[outward] * 2),
        partial(_folded_fusion, heads=heads),
        partial(_torch_fusion, heads=heads),
    )


def _folded_fusion(image: Any, text: Any, wq: Any, wk: Any, wv: Any, wu: Any, wo: Any, wc: Any, heads: int) -> Any:
    captions, tokens, depth = text.shape
    width = wq.shape[0]
    each = width // heads

    def split(x: Any) -> Any:  # (captions, tokens, width) to (heads, captions * tokens, each)
        return x.reshape(captions * tokens, heads, each).permute(1, 0, 2)

    def join(x: Any) -> Any:  # (heads, captions * tokens, depth) to (captions, heads, tokens, depth)
        return x.reshape(heads, captions, tokens, depth).permute(1, 0, 2, 3)

    none = jt.zeros(width)
    keys = join(bmm(split(linear(text, wk, none)), wq.reshape(heads, each, depth))) * each**-0.5
    values = join(bmm(split(linear(text, wu, none)), wo.reshape(depth, heads, each).permute(1, 2, 0)))
    out, context = bi_attention(image, keys, jt.zeros(keys.shape[:3]), values)
    context = context.permute(1, 0, 2, 3).reshape(heads, captions * tokens, depth)
    context = bmm(context, wv.reshape(heads, each, depth), transpose_b=True)
    context = linear(context.permute(1, 0, 2).reshape(captions, tokens, width), wc, jt.zeros(depth))
    return jt.concat([out.reshape(-1), context.reshape(-1)])


def _torch_fusion(
    image: torch.Tensor, text: torch.Tensor, wq: Any, wk: Any, wv: Any, wu: Any, wo: Any, wc: Any, heads: int
) -> torch.Tensor:
    image = image.expand(len(text), -1, -1)

    def split(x: torch.Tensor) -> torch.Tensor:
        return x.unflatten(2, (heads, -1)).transpose(1, 2)

    def join(x: torch.Tensor) -> torch.Tensor:
        return x.transpose(1, 2).flatten(2)

    q, k = split(F.linear(image, wq)), split(F.linear(text, wk))
    logits = q * q.shape[-1] ** -0.5 @ k.transpose(2, 3)
    out = F.linear(join(logits.softmax(-1) @ split(F.linear(text, wu))), wo)
    context = F.linear(join(logits.transpose(2, 3).softmax(-1) @ split(F.linear(image, wv))), wc)
    return torch.cat([out.reshape(-1), context.reshape(-1)])


#: Sizes of an 800 x 1066 image: 17,821 tokens; 195 tokens are the 80 COCO names, 128 about a chunk of 40 LVIS names.
ATTENTION_CASES: tuple[AttentionCase, ...] = (
    _attention(1, 900, 900, 8, 32),
    _attention(1, 900, 195, 8, 32),
    _attention(4, 256, 256, 4, 64),
    _attention(1, 195, 195, 12, 64),
    _window_attention(200, 267, 3, 7, 0),
    _window_attention(200, 267, 3, 7, 3),
    _window_attention(50, 67, 12, 7, 3),
    _window_attention(50, 67, 16, 12, 6),
    _fusion(1, 17821, 195),
    _fusion(4, 17821, 128),
)
