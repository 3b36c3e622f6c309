"""Multi-scale deformable attention (Zhu et al. 2021, "Deformable DETR", section 4.1)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

from ovd_bench.kernels.bases import Function
from ovd_bench.kernels.binding import cpu_op
from ovd_bench.kernels.runtime import jittor

jt = jittor()

_FILES = ("gemm.h", "deformable_attention.cc")
_SHAPE = (
    "ovd::Deformable shape{in0_shape0, in0_shape1, in0_shape2, in0_shape3, in1_shape1, in1_shape4, {}}; "
    'for (int64_t l = 0, start = 0; l < (int64_t)data["levels"]; ++l) { const std::string n = std::to_string(l); '
    'const int64_t height = (int64_t)data["height" + n], width = (int64_t)data["width" + n]; '
    "shape.levels.push_back({height, width, start}); start += height * width; } "
)
_CUDA_SHAPE = (
    "ovd::DeformableShape shape{(int)in0_shape0, (int)in0_shape1, (int)in0_shape2, (int)in0_shape3, (int)in1_shape1, "
    '(int)in1_shape4, (int)data["levels"], {}, {}}; '
    "for (int l = 0; l < shape.levels; ++l) { const std::string n = std::to_string(l); "
    'shape.height[l] = (int)data["height" + n]; shape.width[l] = (int)data["width" + n]; } '
)
_CUDA_LEVELS = 8  # kMaxLevels


def deformable_attention(value: Any, shapes: Sequence[tuple[int, int]], locations: Any, weights: Any) -> Any:
    """Weighted sum of bilinear samples of a feature pyramid.

    A location (x, y) is the pixel position (x * width - 0.5, y * height - 0.5) of its level; outside the level the
    value is zero.

    Args:
        value: (B, S, H, D), the pixels of all levels one after the other, row by row. On CUDA it may have a 16-bit
            type; locations, weights and sums are then float32.
        shapes: (height, width) of each of the L levels.
        locations: (B, Q, H, L, P, 2), xy; 0 and 1 are the outer edges of a level.
        weights: (B, Q, H, L, P).

    Returns:
        (B, Q, H * D).

    Raises:
        ValueError: the shapes do not fit together, or there are more than 8 levels on CUDA.
    """
    batch, size, heads = value.shape[:3]
    queries, points = locations.shape[1], locations.shape[4]
    if size != sum(height * width for height, width in shapes):
        raise ValueError(f"value has {size} pixels, the levels {list(shapes)} have another number")
    expected = [batch, queries, heads, len(shapes), points]
    if list(locations.shape) != [*expected, 2] or list(weights.shape) != expected:
        raise ValueError(f"locations {locations.shape} and weights {weights.shape} do not fit {expected}")
    if jt.flags.use_cuda and len(shapes) > _CUDA_LEVELS:
        raise ValueError(f"{len(shapes)} levels, the CUDA kernel has room for {_CUDA_LEVELS}")
    real = "float64" if value.dtype == "float64" else "float32"
    locations, weights = (x if x.dtype == real else x.cast(real) for x in (locations, weights))
    return _DeformableAttention.apply(value, shapes, locations, weights)


class _DeformableAttention(Function):
    def execute(self, value: Any, shapes: Sequence[tuple[int, int]], locations: Any, weights: Any) -> Any:
        data = {"levels": float(len(shapes))}
        for level, (height, width) in enumerate(shapes):
            data[f"height{level}"], data[f"width{level}"] = float(height), float(width)
        self.saved, self.data = (value, locations, weights), data
        batch, _, heads, dim = value.shape
        (out,) = _run(
            "deformable_forward(in0_p, in1_p, in2_p, out0_p",
            [(batch, locations.shape[1], heads * dim)],
            [value, locations, weights],
            value.dtype,
            data,
        )
        return out

    def grad(self, grad: Any) -> tuple[Any, None, Any, Any]:
        dvalue, dlocations, dweights = _run(
            "deformable_backward(in0_p, in1_p, in2_p, in3_p, out0_p, out1_p, out2_p",
            [variable.shape for variable in self.saved],
            [*self.saved, grad],
            self.saved[1].dtype,
            self.data,
        )
        value = self.saved[0]
        return dvalue if dvalue.dtype == value.dtype else dvalue.cast(value.dtype), None, dlocations, dweights


def _run(
    call: str, shapes: Sequence[Sequence[int]], inputs: Sequence[Any], dtype: str, data: Mapping[str, float]
) -> list[Any]:
    """The operator for the current device; adds the shape and, on CUDA, the stream to ``call``."""
    if not jt.flags.use_cuda:
        return cpu_op(shapes, inputs, _FILES, f"{_SHAPE}ovd::{call}, shape);", data)
    check = 'if (error != cudaSuccess) LOGf << "deformable attention:" << cudaGetErrorString(error);'
    return list(
        jt.code(
            [list(shape) for shape in shapes],
            [dtype] * len(shapes),
            list(inputs),
            cuda_header=_cuda_source(),
            cuda_src=f"{_CUDA_SHAPE}const cudaError_t error = ovd::{call}, shape, 0); {check}",
            data=dict(data),
        )
    )


@cache
def _cuda_source() -> str:
    return (Path(__file__).parent / "cuda" / "deformable_attention.h").read_text(encoding="utf-8")
