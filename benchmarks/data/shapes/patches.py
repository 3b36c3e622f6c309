"""One object's samples per pixel, turned and stretched, from a template."""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt

from ovd_bench.benchmarks.data.shapes.templates import HALF, SIDE, template

#: Fractional bits of template coordinates.
_FIXED = 16

#: uint16 (h, w), ``ones + 256 * seconds``: how many of a pixel's 16 samples show colour, second tone.
Patch = npt.NDArray[np.uint16]


def patch(shape: str, pattern: str, side: int, aspect: float, tilt: float) -> Patch:
    """The object's samples per pixel, uint16 (h, w), cropped to the pixels it covers."""
    half_x, half_y = side * math.sqrt(aspect) / 2, side / math.sqrt(aspect) / 2
    cos, sin = math.cos(math.radians(tilt)), math.sin(math.radians(tilt))
    extent_x = math.ceil(half_x * cos + half_y * abs(sin)) + 1
    extent_y = math.ceil(half_y * cos + half_x * abs(sin)) + 1
    rate = 4 if side <= 44 else 2  # samples per pixel and direction
    unit = HALF * (1 << _FIXED) / (2 * rate)  # sample offsets are odd multiples of half a sample
    ux, uy = round(unit * cos / half_x), round(unit * sin / half_x)
    vx, vy = round(-unit * sin / half_y), round(unit * cos / half_y)
    x = np.arange(1 - 2 * rate * extent_x, 2 * rate * extent_x, 2, dtype=np.int32)
    y = np.arange(1 - 2 * rate * extent_y, 2 * rate * extent_y, 2, dtype=np.int32)[:, None]
    centre = SIDE // 2 << _FIXED
    u = (ux * x + (uy * y + centre)) >> _FIXED
    v = (vx * x + (vy * y + centre)) >> _FIXED
    np.clip(u, 0, SIDE - 1, out=u)
    np.clip(v, 0, SIDE - 1, out=v)
    v *= SIDE
    v += u
    codes = template(shape, pattern, _periods(side)).take(v)
    rows = codes[0::rate].copy()
    for i in range(1, rate):
        rows += codes[i::rate]
    sums = rows[:, 0::rate].copy()
    for i in range(1, rate):
        sums += rows[:, i::rate]
    if rate == 2:
        sums *= 4  # counts of 16 as with four samples per direction
    covered = covered_pixels(sums)
    lines, columns = np.flatnonzero(covered.any(1)), np.flatnonzero(covered.any(0))
    return np.ascontiguousarray(sums[lines[0] : lines[-1] + 1, columns[0] : columns[-1] + 1])


def covered_pixels(samples: Patch) -> npt.NDArray[np.bool_]:
    """Pixels of which at least half belong to the object."""
    covered: npt.NDArray[np.bool_] = (samples & 255) + (samples >> 8) >= 8
    return covered


def _periods(side: int) -> int:
    """Number of repetitions of a pattern: fewer on small objects, so that it stays visible."""
    return 3 if side < 30 else 4 if side < 56 else 5
