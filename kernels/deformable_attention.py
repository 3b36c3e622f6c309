"""Multi-scale deformable attention (Zhu et al. 2021, "Deformable DETR", section 4.1)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from kernels.binding import cpu_op
from kernels.runtime import jittor

jt = jittor()

_FILES = ("gemm.h", "deformable_attention.cc")
_LEVELS = (
    'const int64_t levels = (int64_t)data["levels"]; std::vector<ovd::Level> level; int64_t start = 0; '
    "for (int64_t l = 0; l < levels; ++l) { const std::string n = std::to_string(l); "
    'const int64_t h = (int64_t)data["height" + n], w = (int64_t)data["width" + n]; '
    "level.push_back({h, w, start}); start += h * w; } "
)
_SIZES = "level.data(), levels, in0_shape0, in0_shape1, in0_shape2, in0_shape3, in1_shape1, in1_shape4"


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
    batch, size, heads, dim = value.shape
    queries, points = locations.shape[1], locations.shape[4]
    if size != sum(height * width for height, width in shapes):
        raise ValueError(f"value has {size} pixels, the levels {list(shapes)} have another number")
    expected = [batch, queries, heads, len(shapes), points]
    if list(locations.shape) != [*expected, 2] or list(weights.shape) != expected:
        raise ValueError(f"locations {locations.shape} and weights {weights.shape} do not fit {expected}")
    return _DeformableAttention.apply(value, shapes, locations, weights)


class _DeformableAttention(jt.Function):  # type: ignore[misc]
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
            f"{_LEVELS}ovd::deformable_forward(in0_p, in1_p, in2_p, out0_p, {_SIZES});",
            data,
        )
        return out
