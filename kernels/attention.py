"""Attention of a few hundred queries and keys with an additive bias."""

from __future__ import annotations

from typing import Any

from kernels.runtime import jittor

jt = jittor()


def attention(q: Any, k: Any, v: Any, bias: Any = None, scale: float | None = None) -> Any:
    """``softmax(scale * q k^T + bias) v`` for every head.

    Args:
        q: (B, N, H, D).
        k: (B, M, H, D).
        v: (B, M, H, D).
        bias: (B or 1, H or 1, N or 1, M), added to the logits; -inf excludes a key. It gets no gradient.
        scale: of the logits, ``D ** -0.5`` if None.

    Returns:
        (B, N, H, D). A query whose keys are all excluded gets NaN.
    """
    scale = q.shape[-1] ** -0.5 if scale is None else scale
    return _composed(q, k, v, bias, scale)


def _composed(q: Any, k: Any, v: Any, bias: Any, scale: float) -> Any:
    q, k, v = (x.permute(0, 2, 1, 3) for x in (q, k, v))
    logits = jt.matmul(q * scale, k.transpose(2, 3))
    if bias is not None:
        logits = logits + bias
    return jt.matmul(jt.nn.softmax(logits, dim=-1), v).permute(0, 2, 1, 3)
