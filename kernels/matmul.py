"""Products of batches of matrices."""

from __future__ import annotations

from typing import Any

from ovd_bench.kernels.bases import Function
from ovd_bench.kernels.binding import cpu_op
from ovd_bench.kernels.runtime import jittor

jt = jittor()

_FILES = ("gemm.h", "tiled_gemm.h", "matmul.cc")
_FLAGS = 'data["transpose_a"] != 0, data["transpose_b"] != 0'


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
    if jt.flags.use_cuda:
        return _composed(a, b, transpose_a, transpose_b)
    return _Bmm.apply(a, b, transpose_a, transpose_b)


def _composed(a: Any, b: Any, transpose_a: bool, transpose_b: bool) -> Any:
    return jt.bmm(a.transpose(0, 2, 1) if transpose_a else a, b.transpose(0, 2, 1) if transpose_b else b)


class _Bmm(Function):
    """Both matrices are passed as stored; the kernel reads a transposed one column by column."""

    def execute(self, a: Any, b: Any, transpose_a: bool, transpose_b: bool) -> Any:
        batch, m, k = (a.shape[0], a.shape[2], a.shape[1]) if transpose_a else a.shape
        inner, n = (b.shape[2], b.shape[1]) if transpose_b else (b.shape[1], b.shape[2])
        if inner != k or b.shape[0] != batch:
            raise ValueError(f"batches of matrices {a.shape} and {b.shape} do not fit")
        self.saved = (a, b)
        self.data = {"transpose_a": float(transpose_a), "transpose_b": float(transpose_b)}
        self.sizes = (
            f"in0_shape0, {_shape(0, 1, transpose_a)}, {_shape(1, 2, transpose_b)}, {_shape(0, 2, transpose_a)}"
        )
        call = f"ovd::bmm_forward(in0_p, in1_p, out0_p, {self.sizes}, {_FLAGS});"
        (c,) = cpu_op([(batch, m, n)], [a, b], _FILES, call, self.data)
        return c

    def grad(self, grad: Any) -> tuple[Any, Any, None, None]:
        a, b = self.saved
        call = f"ovd::bmm_backward(in0_p, in1_p, in2_p, out0_p, out1_p, {self.sizes}, {_FLAGS});"
        da, db = cpu_op([a.shape, b.shape], [a, b, grad], _FILES, call, self.data)
        return da, db, None, None


def _shape(index: int, dimension: int, transposed: bool) -> str:
    """Name that Jittor gives to a dimension of an input matrix before it is transposed."""
    return f"in{index}_shape{3 - dimension if transposed else dimension}"
