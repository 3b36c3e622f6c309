"""Geometry of the boxes, for any weights, also random ones.

A detector with random weights detects nothing, but its boxes still have positions. Three checks, from the weakest
assumption to the strongest:

``frame`` assumes nothing. The centres of all boxes on an image full of figures must lie around the image: their hull,
extended by a quarter of the image, contains its centre, and no centre is further away than a square padding could put
it. A single violation is not conclusive for an arbitrary network; two are.

``place`` assumes that the output near a position depends on the image there. A red circle is drawn at several places of
a plain image; the detector locates the circle where the field of boxes changes most. This gives a map from true to
estimated places, and it must be the identity. Swapped width and height, padding that is not undone, boxes in the frame
of the network or in 0 … 1 are maps of another slope.

``finds`` assumes a trained detector: objects found in a square image must be found at the same objects in a wide one.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from ovd_bench.benchmarks.conformance.outcome import PLAN, CheckFailed, CheckSkipped, TestedDetector
from ovd_bench.benchmarks.conformance.pictures import FIGURES, Pixels, figures, ground, one_figure
from ovd_bench.detectors.types import Detections, Vocabulary
from ovd_bench.metrics.boxes import box_iou, xywh_to_xyxy

FloatArray = npt.NDArray[np.float64]

#: A hull of centres narrower than this share of its length, or than this many pixels, carries little information: the
#: box head of a random network may be saturated.
_LINE, _POINT = 0.02, 0.5
FRAMES = ((1400, 220), (220, 1400), (40, 24), (24, 40))
#: 3 : 1, so that a wrong frame stretches or shrinks a side threefold, or shifts it by its own length.
PLACES = ((420, 140), (330, 990))
#: Top k of these images, large enough to show most of the network's output; the same as for ``lvis-fixed``.
_MANY = 10_000
#: Shares of the variance of estimated places that the true ones must explain before the check passes and fails.
_CLEAR, _SURE = 0.5, 0.8
#: Extent of the estimated places, share of the hull of all boxes, below which there is no verdict.
_SPREAD = 0.05
#: Largest stretch of a side that passes; wrong frames have 3 or 1/3, random networks had 0.6 … 1.6.
_STRETCH = 2.0
#: Largest shift of the centre that passes, share of width and height; padding at the wrong side shifts by 1.
_SHIFT = 0.4
#: Cells per side of a field of boxes, and width of its blur in cells.
_CELLS, _BLUR = 64, 3.0


def frame(subject: TestedDetector) -> str:
    """Boxes lie around the original image, whatever its shape."""
    judged, wrong = 0, []
    for width, height in FRAMES:
        found = subject.ask(figures(width, height))
        if not len(found):
            continue
        centres, size = _centres(found), np.array([width, height])
        low, high = centres.min(0), centres.max(0)
        extent = high - low
        says_something = extent.min() >= max(_LINE * extent.max(), _POINT)
        judged += says_something
        bad = (high < -0.01 * size) | (low > 1.01 * size)
        if says_something:
            bad |= (low - size / 4 > size / 2) | (high + size / 4 < size / 2)
            bad |= (low < -size.max()) | (high > 2 * size.max())
        if bad.any():
            hull = f"centres from ({low[0]:.0f}, {low[1]:.0f}) to ({high[0]:.0f}, {high[1]:.0f})"
            wrong.append(f"{width} x {height}: {hull}")
    if len(wrong) > 1:
        raise CheckFailed("boxes around the centre of the image", "; ".join(wrong))
    if judged < 2:
        raise CheckSkipped("no boxes, or all on one line, so their coordinate frame cannot be checked")
    return f"{judged} shapes of images"


def place(subject: TestedDetector) -> str:
    """A circle changes the boxes at its position."""
    wide = subject.asking_for(_MANY)
    told, unclear = [], ""
    for width, height in PLACES:
        true, believed, hull = _believed_places(wide, width, height)
        if believed is None:
            raise CheckSkipped("the boxes do not depend on the position of a circle")
        spread = np.ptp(believed, axis=0) / hull
        map_ = _affine_fit(true / [width, height], believed / [width, height])
        stretch, middle = np.diag(map_.slopes), map_.offset + 0.5 * map_.slopes.sum(0)
        good = (stretch > 1 / _STRETCH) & (stretch < _STRETCH) & (np.abs(middle - 0.5) < _SHIFT)
        words = ", ".join(
            f"{axis} 0.50 → {at:.2f}, stretched by {by:.2f}" for axis, at, by in zip("xy", middle, stretch, strict=True)
        )
        told.append(f"{width} x {height}: {words}")
        told_apart = spread >= _SPREAD
        if (told_apart & (map_.explained >= _SURE) & ~good).any():
            raise CheckFailed(f"changed boxes at the position of a circle on a {width} x {height} image", words)
        if not (told_apart & (map_.explained >= _CLEAR) & good).all():
            explained = ", ".join(f"{100 * value:.0f} %" for value in map_.explained)
            unclear = (
                f"{width} x {height}: boxes do not follow a circle clearly enough (its position explains {explained} "
                "of the variance in x and y of the position at which they change)"
            )
    if unclear:
        raise CheckSkipped(unclear)
    return "; ".join(told)


def finds(subject: TestedDetector) -> str:
    """Objects that are found in a square image are also found in a wide and in a tall one."""
    from ovd_bench.benchmarks.data.shapes import WORLDS, render

    world = WORLDS["shapes"]
    scenes = [render(world, "minival", index) for index in range(6)]
    wanted = np.unique(np.concatenate([scene.category_ids for scene in scenes]))
    names = {category.id: category.name for category in world.categories}
    vocabulary = Vocabulary(tuple(wanted.tolist()), tuple(names[i] for i in wanted.tolist()))
    objects = found_again = 0
    for number, scene in enumerate(scenes):
        seen = _found(subject.ask(scene.pixels, vocabulary), scene.boxes_xywh, scene.category_ids)
        canvas, shift = _beside_ground(scene.pixels, wide=number % 2 == 0)
        boxes = scene.boxes_xywh[seen] + [*shift, 0, 0]
        objects += len(boxes)
        found_again += int(_found(subject.ask(canvas, vocabulary), boxes, scene.category_ids[seen]).sum())
    if objects < 5:
        raise CheckSkipped(f"only {objects} objects found in 6 rendered square scenes, too few for a verdict")
    if 2 * found_again < objects:
        raise CheckFailed(
            f"most of the {objects} objects found in square scenes to be found when background is added beside them",
            f"{found_again} with IoU above 0.5",
        )
    return f"{found_again} of {objects} objects found again"


@dataclass(frozen=True)
class _Map:
    """``estimated = true @ slopes + offset``, shares of width and height; explained: R² of x and y."""

    slopes: FloatArray
    offset: FloatArray
    explained: FloatArray


def _affine_fit(true: FloatArray, believed: FloatArray) -> _Map:
    """Least squares over n places (n, 2)."""
    design = np.column_stack([true, np.ones(len(true))])
    solution = np.linalg.lstsq(design, believed, rcond=None)[0]
    rest = ((believed - design @ solution) ** 2).sum(0)
    spread = ((believed - believed.mean(0)) ** 2).sum(0)
    explained = 1 - rest / np.maximum(spread, 1e-12)
    return _Map(solution[:2], solution[2], explained)


def _believed_places(
    subject: TestedDetector, width: int, height: int
) -> tuple[FloatArray, FloatArray | None, FloatArray]:
    """Places of the circle, those where the boxes change most (None: nothing changes), and the size of the boxes' hull.

    Returns:
        (n, 2), (n, 2) and (2,); x y in pixels.
    """
    along, across = (0.13, 0.38, 0.62, 0.87), (0.25, 0.5, 0.75)
    xs, ys = (along, across) if width > height else (across, along)
    true = np.array([(x * width, y * height) for x in xs for y in ys])
    side = 0.4 * min(width, height)
    subject.detector.set_vocabulary(FIGURES, PLAN)
    found = [subject.again([one_figure(width, height, (x, y), side)])[0] for x, y in true.tolist()]
    if not any(map(len, found)):
        return true, None, np.zeros(2)
    fields, origin, pitch = _fields(found)
    hull = pitch * _CELLS
    change = np.abs(fields - np.median(fields, axis=0)).sum(1)  # (n, cells y, cells x)
    if hull.min() < _POINT or not (change.max((1, 2)) > 0).all():
        return true, None, hull
    return true, np.array([origin + pitch * _summit(image) for image in change]), hull


def _fields(found: list[Detections]) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Fields of boxes, one per image and class: at every position the scores of the boxes whose centres are near it.

    The hull of all centres is the unit, so that nothing is assumed about the frame of the boxes. If a list is full,
    scores are measured from the lowest one, so that boxes at the end of the list hardly change a field.

    Returns:
        (n, K, cells, cells) in order of y and x; centre of the first cell and pitch of cells, x y in pixels.
    """
    from scipy.ndimage import gaussian_filter

    lowest = [float(answer.scores.min()) for answer in found if len(answer)]
    floor = min(lowest) if max(map(len, found)) >= _MANY else min(0.0, *lowest)
    centres = np.concatenate([_centres(answer) for answer in found])
    low, high = centres.min(0), centres.max(0)
    margin = 0.1 * np.maximum(high - low, 1e-3)
    low, high = low - margin, high + margin
    fields = np.zeros((len(found), len(FIGURES), _CELLS, _CELLS))
    for image, answer in enumerate(found):
        for number, category in enumerate(FIGURES.ids):
            rows = answer.category_ids == category
            x, y = _centres(answer)[rows].T
            fields[image, number] = np.histogram2d(
                y, x, _CELLS, ((low[1], high[1]), (low[0], high[0])), weights=answer.scores[rows] - floor
            )[0]
    pitch = (high - low) / _CELLS
    return gaussian_filter(fields, (0, 0, _BLUR, _BLUR), mode="constant"), low + pitch / 2, pitch


def _summit(change: FloatArray) -> FloatArray:
    """Centre of mass, x y in cells, of the peak of a map (cells y, cells x)."""
    y, x = np.unravel_index(np.argmax(change), change.shape)
    rows, columns = np.indices(change.shape)
    near = (np.abs(rows - y) <= 3 * _BLUR) & (np.abs(columns - x) <= 3 * _BLUR)
    mass = np.where(near, np.maximum(change - 0.4 * change.max(), 0), 0)
    centre: FloatArray = np.array([(mass * columns).sum(), (mass * rows).sum()]) / mass.sum()
    return centre


def _centres(found: Detections) -> FloatArray:
    boxes = found.boxes_xyxy.astype(np.float64)
    return (boxes[:, :2] + boxes[:, 2:]) / 2


def _beside_ground(pixels: Pixels, wide: bool) -> tuple[Pixels, tuple[float, float]]:
    """The image at the far end of a canvas of 1.6 times its width or height, and its shift in x and y."""
    side = pixels.shape[0]
    extra = round(0.6 * side)
    filling = ground(extra, side, 1) if wide else ground(side, extra, 1)
    shift = (float(extra), 0.0) if wide else (0.0, float(extra))
    return np.concatenate([filling, pixels], axis=1 if wide else 0), shift


def _found(found: Detections, boxes_xywh: FloatArray, category_ids: npt.NDArray[np.int64]) -> npt.NDArray[np.bool_]:
    """Which objects (n,) have a box of their class with IoU above 0.5 among the best 50."""
    overlap = box_iou(xywh_to_xyxy(boxes_xywh), found.boxes_xyxy[:50].astype(np.float64))
    overlap[category_ids[:, None] != found.category_ids[:50]] = 0
    hit: npt.NDArray[np.bool_] = (overlap > 0.5).any(axis=1)
    return hit
