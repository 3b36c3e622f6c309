"""Products of batches of matrices."""

from __future__ import annotations

from typing import Any

from kernels.runtime import jittor

jt = jittor()


def bmm(a: Any, b: Any, transpose_a: bool = False, transpose_b: bool = False) -> Any:
    """``op(a) @ op(b)`` for each pair of matrices, where ``op`` transposes if asked to.

    Args:
        a: (B, M, K), or (B, K, M) if it is to be transposed.
        b: (B, K, N), or (B, N, K) if it is to be transposed.
        transpose_a: whether ``a`` is.
        transpose_b: whether ``b`` is.

    Returns:
        (B, M, N).
    """
    left = a.transpose(0, 2, 1) if transpose_a else a
    right = b.transpose(0, 2, 1) if transpose_b else b
    return jt.bmm(left, right)
