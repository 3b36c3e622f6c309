"""Positions of the objects of an image.

Pixels are computed with integer arithmetic: floating point is used only in ``math`` functions whose results are rounded
first. An image is therefore the same on every machine, in every process and in every order.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from ovd_bench.benchmarks.data.shapes.patches import Patch, covered_pixels, patch
from ovd_bench.benchmarks.data.shapes.world import World

MIN_SIDE, MAX_SIDE = 18, 90
MAX_OBJECTS = 8
#: An object keeps at least this share of its pixels visible, in percent.
MIN_VISIBLE = 55
_MAX_TILT = 26  # degrees
_MAX_ASPECT = 1.22
_MAX_FILL = 45  # boxes of all objects before placing, percent of the image


@dataclass(frozen=True)
class Placed:
    """One object of a plan.

    Attributes:
        index: position of its class in ``world.categories``.
        left, top: pixel of the patch's upper left corner.
        samples: uint16 (h, w), ``ones + 256 * seconds``: how many of a pixel's 16 samples show colour, second tone.
        full: pixels of the object with nothing before it.
    """

    index: int
    left: int
    top: int
    samples: Patch
    full: int


@dataclass(frozen=True)
class ScenePlan:
    """An image before it is painted; objects from back to front (n of them).

    Attributes:
        objects: the objects.
        owner: int8 (H, W), position of the object that a pixel shows, -1 for the background.
        boxes_xywh: float64 (n, 4), tight boxes of the visible pixels.
        areas: int64 (n,), visible pixels.
    """

    objects: tuple[Placed, ...]
    owner: npt.NDArray[np.int8]
    boxes_xywh: npt.NDArray[np.float64]
    areas: npt.NDArray[np.int64]


def scene_classes(world: World, split: str, index: int) -> list[int]:
    """Class of every object of an image, as positions in ``world.categories``, from back to front.

    Raises:
        KeyError: no such split.
        IndexError: no such image.
    """
    if not 0 <= index < world.splits[split]:
        raise IndexError(f"{world.name}/{split} has images 0 … {world.splits[split] - 1}, not {index}")
    rng = world.rng("classes", split, index)
    classes = list(world.deck(split)[index])
    draw = int(rng.integers(0, 100))
    repeated = 1 if len(classes) == 1 else 0 if draw < 55 else 1 if draw < 88 else 2
    copies = [c for c in classes[:repeated] for _ in range(int(rng.integers(1, 4)))]
    shown: list[int] = rng.permutation((classes + copies)[:MAX_OBJECTS]).tolist()
    return shown


def scene_plan(world: World, split: str, index: int) -> ScenePlan:
    """Objects, visible boxes and areas of image ``index`` of a split, without its pixels.

    Raises:
        KeyError: no such split.
        IndexError: no such image.
    """
    classes = scene_classes(world, split, index)
    rng = world.rng("layout", split, index)
    sides = _sides(len(classes), world.image_size, rng)
    size = world.image_size
    owner = np.full((size, size), -1, np.int8)
    full, visible = np.zeros(len(classes), np.int64), np.zeros(len(classes), np.int64)
    objects: list[Placed] = []
    for number, (class_index, side) in enumerate(zip(classes, sides, strict=True)):
        placed = _place(world, class_index, side, owner, full, visible, rng)
        height, width = placed.samples.shape
        region = owner[placed.top : placed.top + height, placed.left : placed.left + width]
        covered = covered_pixels(placed.samples)
        visible -= _hidden(region[covered], len(classes))
        region[covered] = number
        full[number] = visible[number] = placed.full
        objects.append(placed)
    boxes = np.array([_tight_box(owner, number, placed) for number, placed in enumerate(objects)], np.float64)
    return ScenePlan(tuple(objects), owner, boxes.reshape(-1, 4), visible)


def _sides(count: int, image_size: int, rng: np.random.Generator) -> list[int]:
    """Log-uniform sides, largest first; all are shrunk if they would fill too much of the image."""
    span = math.log(MAX_SIDE / MIN_SIDE)
    sides = [MIN_SIDE * math.exp(span * u) for u in rng.random(count).tolist()]
    fill = 100 * sum(side * side for side in sides) / image_size**2
    shrink = math.sqrt(min(1.0, _MAX_FILL / fill))
    return sorted((max(MIN_SIDE, round(side * shrink)) for side in sides), reverse=True)


def _place(
    world: World,
    class_index: int,
    side: int,
    owner: npt.NDArray[np.int8],
    full: npt.NDArray[np.int64],
    visible: npt.NDArray[np.int64],
    rng: np.random.Generator,
) -> Placed:
    """A position at which every object stays visible; the object is made smaller if there is none."""
    aspect = math.pow(_MAX_ASPECT, 2 * float(rng.random()) - 1)
    tilt = _MAX_TILT * (2 * float(rng.random()) - 1)
    category = world.categories[class_index]
    while True:
        samples = patch(category.shape, category.pattern, side, aspect, tilt)
        covered = covered_pixels(samples)
        height, width = samples.shape
        area = int(np.count_nonzero(covered))
        for left, top in zip(
            rng.integers(0, world.image_size - width + 1, 40).tolist(),
            rng.integers(0, world.image_size - height + 1, 40).tolist(),
            strict=True,
        ):
            hidden = _hidden(owner[top : top + height, left : left + width][covered], len(full))
            if np.all(100 * (visible - hidden) >= MIN_VISIBLE * full):
                return Placed(class_index, left, top, samples, area)
        side = max(MIN_SIDE, side * 4 // 5)  # the image always has room for one more object of the smallest size


def _hidden(owners: npt.NDArray[np.int8], count: int) -> npt.NDArray[np.int64]:
    """Number of the given pixels that belong to each object, int64 (count,)."""
    return np.bincount(owners.astype(np.int64) + 1, minlength=count + 1)[1:]


def _tight_box(owner: npt.NDArray[np.int8], number: int, placed: Placed) -> tuple[int, int, int, int]:
    """x, y, width, height of the pixels that show object ``number``."""
    height, width = placed.samples.shape
    seen = owner[placed.top : placed.top + height, placed.left : placed.left + width] == number
    lines, columns = np.flatnonzero(seen.any(1)), np.flatnonzero(seen.any(0))
    x, y = placed.left + int(columns[0]), placed.top + int(lines[0])
    return x, y, int(columns[-1] - columns[0]) + 1, int(lines[-1] - lines[0]) + 1
