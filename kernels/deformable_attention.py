"""Multi-scale deformable attention (Zhu et al. 2021, "Deformable DETR", section 4.1)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from kernels.binding import cpu_op
from kernels.runtime import jittor

jt = jittor()

_FILES = ("gemm.h", "deformable_attention.cc")
_SHAPE = (
    "ovd::Deformable shape{in0_shape0, in0_shape1, in0_shape2, in0_shape3, in1_shape1, in1_shape4, {}}; "
    'for (int64_t l = 0, start = 0; l < (int64_t)data["levels"]; ++l) { const std::string n = std::to_string(l); '
    'const int64_t height = (int64_t)data["height" + n], width = (int64_t)data["width" + n]; '
    "shape.levels.push_back({height, width, start}); start += height * width; } "
)


def deformable_attention(value: Any, shapes: Sequence[tuple[int, int]], locations: Any, weights: Any) -> Any:
    """Weighted sum of bilinear samples of a feature pyramid.

    A location (x, y) falls on the pixel position (x * width - 0.5, y * height - 0.5) of its level; outside of the level
    the value is zero.

    Args:
        value: (B, S, H, D), the pixels of all levels one after the other, row by row.
        shapes: (height, width) of each of the L levels.
        locations: (B, Q, H, L, P, 2), xy; 0 and 1 are the outer edges of a level.
        weights: (B, Q, H, L, P).

    Returns:
        (B, Q, H * D).

    Raises:
        ValueError: if the shapes do not fit together.
    """
    batch, size, heads = value.shape[:3]
    queries, points = locations.shape[1], locations.shape[4]
    if size != sum(height * width for height, width in shapes):
        raise ValueError(f"value has {size} pixels, the levels {list(shapes)} have another number")
    expected = [batch, queries, heads, len(shapes), points]
    if list(locations.shape) != [*expected, 2] or list(weights.shape) != expected:
        raise ValueError(f"locations {locations.shape} and weights {weights.shape} do not fit {expected}")
    return _DeformableAttention.apply(value, shapes, locations, weights)


class _DeformableAttention(jt.Function):  # type: ignore[name-defined,misc]
    def execute(self, value: Any, shapes: Sequence[tuple[int, int]], locations: Any, weights: Any) -> Any:
        data = {"levels": float(len(shapes))}
        for level, (height, width) in enumerate(shapes):
            data[f"height{level}"], data[f"width{level}"] = float(height), float(width)
        self.saved, self.data = (value, locations, weights), data
        batch, _, heads, dim = value.shape
        (out,) = cpu_op(
            [(batch, locations.shape[1], heads * dim)],
            [value, locations, weights],
            _FILES,
            f"{_SHAPE}ovd::deformable_forward(in0_p, in1_p, in2_p, out0_p, shape);",
            data,
        )
        return out

    def grad(self, grad: Any) -> tuple[Any, None, Any, Any]:
        dvalue, dlocations, dweights = cpu_op(
            [variable.shape for variable in self.saved],
            [*self.saved, grad],
            _FILES,
            f"{_SHAPE}ovd::deformable_backward(in0_p, in1_p, in2_p, in3_p, out0_p, out1_p, out2_p, shape);",
            self.data,
        )
        return dvalue, None, dlocations, dweights
