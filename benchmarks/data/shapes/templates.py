"""Masks of every shape and pattern in the object's own frame, made once per process with integers only.

A template is ``SIDE`` x ``SIDE``; the shape fills the central ``2 * HALF`` samples in both directions. Coordinates are
computed with ``math`` and rounded to integers before use, so that every machine draws the same.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import cache

import numpy as np
import numpy.typing as npt

SIDE = 256
HALF = 120
_CENTRE = SIDE // 2
_UNIT = 1000  # shapes are described on -1000 … 1000, y down
_BORDER = 20  # width of the border of "outlined", samples

Mask = npt.NDArray[np.bool_]
Grid = npt.NDArray[np.int64]


@cache
def template(shape: str, pattern: str, periods: int) -> npt.NDArray[np.uint16]:
    """Template (SIDE * SIDE,): 0 outside, 1 where the object has its colour, 256 where it has the second tone.

    Sums of up to 255 samples keep the two counts apart: ``sum & 255`` and ``sum >> 8``.

    Args:
        shape: word of a shape.
        pattern: word of a pattern.
        periods: how often the pattern repeats over the object.
    """
    inside = _shape(shape)
    second = _shape(shape) & ~_eroded(shape) if pattern == "outlined" else _PATTERNS[pattern](periods)
    return np.where(inside, np.where(second, 256, 1), 0).astype(np.uint16).ravel()


def _grid() -> tuple[Grid, Grid]:
    """X and y of every sample in units of 1/_UNIT of the half side, int64 (SIDE, SIDE)."""
    axis = ((2 * np.arange(SIDE, dtype=np.int64) + 1 - SIDE) * _UNIT) // (2 * HALF)
    return np.broadcast_to(axis, (SIDE, SIDE)), np.broadcast_to(axis[:, None], (SIDE, SIDE))


def _disc(cx: int, cy: int, radius: int) -> Mask:
    x, y = _grid()
    inside: Mask = (x - cx) ** 2 + (y - cy) ** 2 <= radius**2
    return inside


def _polygon(points: list[tuple[int, int]]) -> Mask:
    """Even-odd filled polygon; crossings are compared without a division."""
    x, y = _grid()
    inside = np.zeros((SIDE, SIDE), np.bool_)
    for (x0, y0), (x1, y1) in zip(points, points[1:] + points[:1], strict=True):
        if y0 == y1:
            continue
        if y0 > y1:
            x0, y0, x1, y1 = x1, y1, x0, y0
        inside ^= (y0 <= y) & (y < y1) & ((x - x0) * (y1 - y0) < (y - y0) * (x1 - x0))
    return inside


def _turn(radii: list[int], start: float) -> list[tuple[int, int]]:
    """Points at the given radii, evenly about the centre from ``start`` degrees (0 = right, -90 = up)."""
    angles = [math.radians(start + 360 * i / len(radii)) for i in range(len(radii))]
    return [(round(r * math.cos(a)), round(r * math.sin(a))) for r, a in zip(radii, angles, strict=True)]


def _stretched(points: list[tuple[int, int]]) -> list[tuple[int, int]]:
    """The polygon scaled and moved so that its box is -_UNIT … _UNIT in both directions."""
    spans = [(min(values), max(values)) for values in zip(*points, strict=True)]
    (x0, x1), (y0, y1) = spans
    return [
        ((2 * _UNIT * (x - x0)) // (x1 - x0) - _UNIT, (2 * _UNIT * (y - y0)) // (y1 - y0) - _UNIT) for x, y in points
    ]


def _heart() -> Mask:
    outline = []
    for i in range(96):
        t = 2 * math.pi * i / 96
        x = 16 * math.sin(t) ** 3
        y = 13 * math.cos(t) - 5 * math.cos(2 * t) - 2 * math.cos(3 * t) - math.cos(4 * t)
        outline.append((round(100 * x), round(-100 * y)))
    return _polygon(_stretched(outline))


def _flower() -> Mask:
    petals = _disc(0, 0, 400)
    for x, y in _turn([600] * 5, -90):
        petals |= _disc(x, y, 400)
    return petals


def _drop() -> Mask:
    return _disc(0, 240, 760) | _polygon([(0, -1000), (600, -226), (-600, -226)])


def _crescent() -> Mask:
    x, y = _grid()
    across = (13 * (x + _UNIT)) // 20 - _UNIT  # the tips lie at 300: stretched so that the box is filled
    body: Mask = across**2 + y**2 <= 1000**2
    bite: Mask = (across - 600) ** 2 + y**2 <= 1000**2
    return body & ~bite


def _leaf() -> Mask:
    return _disc(-450, 0, 1100) & _disc(450, 0, 1100)


def _semicircle() -> Mask:
    x, y = _grid()
    inside: Mask = (x**2 + ((y - 700) * 5 // 7) ** 2 <= 1000**2) & (y <= 700)
    return inside


_ARROW = [(0, -1000), (900, -50), (400, -50), (400, 1000), (-400, 1000), (-400, -50), (-900, -50)]
_CROSS_ARM = 340
_CROSS = [
    (_CROSS_ARM * sx if inner_x else 1000 * sx, _CROSS_ARM * sy if inner_y else 1000 * sy)
    for sx, sy, inner_x, inner_y in [
        (-1, -1, 1, 0), (1, -1, 1, 0), (1, -1, 1, 1), (1, -1, 0, 1), (1, 1, 0, 1), (1, 1, 1, 1),
        (1, 1, 1, 0), (-1, 1, 1, 0), (-1, 1, 1, 1), (-1, 1, 0, 1), (-1, -1, 0, 1), (-1, -1, 1, 1),
    ]
]  # fmt: skip
_BOLT = [(250, -1000), (-700, 150), (-60, 150), (-250, 1000), (700, -250), (80, -250), (600, -1000)]

_SHAPES: dict[str, Callable[[], Mask]] = {
    "circle": lambda: _disc(0, 0, 1000),
    "ring": lambda: _disc(0, 0, 1000) & ~_disc(0, 0, 420),
    "crescent": _crescent,
    "heart": _heart,
    "flower": _flower,
    "drop": _drop,
    "square": lambda: _polygon([(-900, -900), (900, -900), (900, 900), (-900, 900)]),
    "triangle": lambda: _polygon([(0, -1000), (1000, 900), (-1000, 900)]),
    "hexagon": lambda: _polygon(_turn([1000] * 6, 0)),
    "star": lambda: _polygon(_stretched(_turn([1000, 430] * 5, -90))),
    "arrow": lambda: _polygon(_ARROW),
    "cross": lambda: _polygon(_CROSS),
    "semicircle": _semicircle,
    "leaf": _leaf,
    "trapezoid": lambda: _polygon([(-500, -800), (500, -800), (1000, 800), (-1000, 800)]),
    "bolt": lambda: _polygon(_BOLT),
}


@cache
def _shape(shape: str) -> Mask:
    return _SHAPES[shape]()


@cache
def _eroded(shape: str) -> Mask:
    """The shape without the samples that lie within ``_BORDER`` of its outside."""
    outside = ~_shape(shape)
    near = outside.copy()
    for dy in range(-_BORDER, _BORDER + 1):
        reach = math.isqrt(_BORDER**2 - dy**2)
        # A row of the outside, widened by `reach` to both sides: a running count over 2 * reach + 1 samples.
        count = np.cumsum(np.pad(outside, ((0, 0), (reach + 1, reach)), mode="edge"), axis=1, dtype=np.int32)
        wide = count[:, 2 * reach + 1 :] > count[:, :SIDE]
        if dy >= 0:
            near[dy:] |= wide[: SIDE - dy]
        else:
            near[:dy] |= wide[-dy:]
    return ~near


def _cells(periods: int) -> tuple[Grid, Grid]:
    """Position in the pattern along x and y, ``SIDE`` units per period, with a period centred on the object."""
    axis = (2 * np.arange(SIDE, dtype=np.int64) + 1 - SIDE) * periods * SIDE // (4 * HALF) + SIDE // 2
    axis += SIDE * periods
    return np.broadcast_to(axis, (SIDE, SIDE)), np.broadcast_to(axis[:, None], (SIDE, SIDE))


def _striped(periods: int) -> Mask:
    _, y = _cells(periods)
    bars: Mask = np.abs(y % SIDE - SIDE // 2) < 60
    return bars


def _dotted(periods: int) -> Mask:
    x, y = _cells(periods)
    dots: Mask = (x % SIDE - SIDE // 2) ** 2 + (y % SIDE - SIDE // 2) ** 2 < 82**2
    return dots


def _checkered(periods: int) -> Mask:
    x, y = _cells(periods)
    # Two squares per period, with a corner of four squares at the centre of the object.
    squares: Mask = ((2 * x) // SIDE + (2 * y) // SIDE) % 2 == 0
    return squares


def _gridded(periods: int) -> Mask:
    x, y = _cells(periods)
    lines: Mask = (np.abs(x % SIDE - SIDE // 2) < 34) | (np.abs(y % SIDE - SIDE // 2) < 34)
    return lines


def _zigzag(periods: int) -> Mask:
    x, y = _cells(periods)
    bars: Mask = (y + np.abs(x % SIDE - SIDE // 2)) % SIDE < SIDE // 2
    return bars


def _halved(periods: int) -> Mask:
    del periods
    x, _ = _grid()
    right: Mask = x > 0
    return right


_PATTERNS: dict[str, Callable[[int], Mask]] = {
    "solid": lambda periods: np.zeros((SIDE, SIDE), np.bool_),
    "striped": _striped,
    "dotted": _dotted,
    "checkered": _checkered,
    "gridded": _gridded,
    "halved": _halved,
    "zigzag": _zigzag,
}
