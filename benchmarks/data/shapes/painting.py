"""The pixels of an image: background, clutter, objects, noise; integer arithmetic only, as in the layout."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import numpy.typing as npt

from ovd_bench.benchmarks.data.shapes.attributes import Attribute
from ovd_bench.benchmarks.data.shapes.layout import Placed, ScenePlan, scene_plan
from ovd_bench.benchmarks.data.shapes.patches import patch
from ovd_bench.benchmarks.data.shapes.world import World

_CLUTTER_GREYS = (60, 176)
_NOISE = 7  # of every channel of every pixel, to both sides


@dataclass(frozen=True)
class Scene:
    """A painted image.

    Attributes:
        pixels: uint8 (H, W, 3) RGB.
        boxes_xywh: float64 (n, 4), absolute pixels, tight about the visible pixels of each object.
        category_ids: int64 (n,) of all objects, also of those that the annotations leave out.
    """

    pixels: npt.NDArray[np.uint8]
    boxes_xywh: npt.NDArray[np.float64]
    category_ids: npt.NDArray[np.int64]


def render(world: World, split: str, index: int) -> Scene:
    """Paint image ``index`` of a split.

    Raises:
        KeyError: no such split.
        IndexError: no such image.
    """
    return paint(world, split, index, scene_plan(world, split, index))


def paint(world: World, split: str, index: int, plan: ScenePlan) -> Scene:
    """Paint a plan of that image."""
    rng = world.rng("paint", split, index)
    colours = {colour.word: colour for colour in world.colours}
    canvas = _background(world.image_size, rng)
    _clutter(world, canvas, rng)
    for placed in plan.objects:
        _draw(canvas, placed, colours[world.categories[placed.index].colour], rng)
    canvas += rng.integers(-_NOISE, _NOISE + 1, canvas.shape, np.int16)
    ids = [world.categories[placed.index].id for placed in plan.objects]
    pixels = np.clip(canvas, 0, 255).astype(np.uint8)
    return Scene(pixels, plan.boxes_xywh, np.array(ids, np.int64))


@lru_cache(maxsize=4)
def _weights(size: int, cells: int) -> tuple[npt.NDArray[np.intp], npt.NDArray[np.int32]]:
    """Cell and position within it, in 1/256, of every pixel along one side of a grid of ``cells`` cells."""
    position = np.arange(size, dtype=np.int64) * cells * 256 // size
    return (position // 256).astype(np.intp), (position % 256).astype(np.int32)


def _upsampled(grid: npt.NDArray[np.int32], size: int) -> npt.NDArray[np.int32]:
    """Bilinear interpolation of an int32 (cells + 1, cells + 1, C) grid to (size, size, C) with integers."""
    cell, weight = _weights(size, len(grid) - 1)
    rows = (grid[cell] * (256 - weight)[:, None, None] + grid[cell + 1] * weight[:, None, None]) >> 8
    wide: npt.NDArray[np.int32] = rows[:, cell] * (256 - weight)[:, None] + rows[:, cell + 1] * weight[:, None]
    wide >>= 8
    return wide


def _background(size: int, rng: np.random.Generator) -> npt.NDArray[np.int16]:
    """A dull colour gradient with low-frequency light and shade, int16 (size, size, 3)."""
    grey = rng.integers(70, 171, (2, 2, 1), np.int32)
    corners = grey + rng.integers(-26, 27, (2, 2, 3), np.int32)
    canvas = _upsampled(corners, size)
    canvas += _upsampled(rng.integers(-22, 23, (7, 7, 1), np.int32), size)
    canvas += _upsampled(rng.integers(-14, 15, (25, 25, 1), np.int32), size)
    return canvas.astype(np.int16)


def _clutter(world: World, canvas: npt.NDArray[np.int16], rng: np.random.Generator) -> None:
    """Grey strokes and grey figures of the world's shapes; they have no class, because every class has a colour."""
    size = world.image_size
    axis = np.arange(size, dtype=np.int64)
    for _ in range(int(rng.integers(3, 9))):
        x0, y0, x1, y1 = rng.integers(0, size, 4).tolist()
        dx, dy, thick = x1 - x0, y1 - y0, int(rng.integers(1, 4))
        grey = int(rng.integers(*_CLUTTER_GREYS))
        length = dx * dx + dy * dy
        left, right = max(min(x0, x1) - thick, 0), min(max(x0, x1) + thick + 1, size)
        top, bottom = max(min(y0, y1) - thick, 0), min(max(y0, y1) + thick + 1, size)
        x, y = axis[left:right] - x0, axis[top:bottom, None] - y0
        across, along = x * dy - y * dx, x * dx + y * dy
        square = 4 * across * across
        stroke = (square <= thick * thick * length) & (along >= 0) & (along <= length)
        canvas[top:bottom, left:right][stroke] = grey
    for _ in range(int(rng.integers(0, 4))):
        shape = world.shapes[int(rng.integers(0, len(world.shapes)))].word
        samples = patch(shape, "solid", int(rng.integers(12, 49)), 1.0, float(rng.integers(-180, 180)) / 4)
        height, width = samples.shape
        left, top = int(rng.integers(0, size - width + 1)), int(rng.integers(0, size - height + 1))
        region = canvas[top : top + height, left : left + width]
        grey = int(rng.integers(*_CLUTTER_GREYS))
        ones = (samples & 255).astype(np.int16)[..., None]
        region += ((grey - region) * ones) >> 4


def _draw(canvas: npt.NDArray[np.int16], placed: Placed, colour: Attribute, rng: np.random.Generator) -> None:
    """Blend an object into the canvas: colour with some jitter, lit from one side."""
    if colour.rgb is None or colour.second is None:
        raise AssertionError(f"{colour.word} is not a colour")
    height, width = placed.samples.shape
    jitter = rng.integers(-12, 13, 6, np.int16)
    first = np.array(colour.rgb, np.int16) + jitter[:3]
    second = np.array(colour.second, np.int16) + jitter[3:]
    light_x, light_y = rng.integers(-12, 13, 2).tolist()
    light = np.arange(width, dtype=np.int32) * (2 * light_x) // width + (
        np.arange(height, dtype=np.int32)[:, None] * (2 * light_y) // height
    )
    light = (light - light_x - light_y).astype(np.int16)[..., None]
    ones = (placed.samples & 255).astype(np.int16)[..., None]
    seconds = (placed.samples >> 8).astype(np.int16)[..., None]
    region = canvas[placed.top : placed.top + height, placed.left : placed.left + width]
    painted = region * (16 - ones - seconds) + (first + light) * ones + (second + light) * seconds
    region[...] = painted >> 4
