"""Runs side by side on the same image: correct, wrong and missed boxes with different colours and signs."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import PIL.Image

from ovd_bench.benchmarks.data.files.atomic import atomic_write
from ovd_bench.benchmarks.data.output_paths import check_name
from ovd_bench.benchmarks.pictures.drawing import Pixels, draw_boxes, fitting_scale, grid
from ovd_bench.benchmarks.pictures.gallery.matched_run import MatchedRun
from ovd_bench.metrics.types import GroundTruth

_TRUTH, _RIGHT, _WRONG, _EXCUSED, _MISSED = "#009e73", "#56b4e9", "#d55e00", "#bbbbbb", "#f0e442"
#: Explains colours and signs of a gallery.
LEGEND = "Green: ground truth · ✓ blue: right · ✗ orange: wrong · ~ grey: not judged · ? yellow: missed"


def picture_row(
    gt: GroundTruth, matched: Sequence[MatchedRun], position: int, pixels: Pixels, cell: int
) -> list[PIL.Image.Image]:
    """Ground truth, then every run, of one image."""
    names = gt.categories.names
    scale = fitting_scale(pixels, cell)
    first = matched[0]
    rows = np.flatnonzero((first.truth.image_index == position) & first.wanted)
    labels = [names[k] for k in first.truth.class_index[rows]]
    title = f"image {gt.image_ids[position]} · {len(rows)} objects"
    boxes = first.truth.boxes_xyxy[rows]
    pictures = [draw_boxes(pixels, boxes, labels, title=title, scale=scale, colors=[_TRUTH] * len(rows))]
    pictures += [_run_picture(names, run, position, pixels, scale) for run in matched]
    return pictures


def _run_picture(names: Sequence[str], run: MatchedRun, position: int, pixels: Pixels, scale: float) -> PIL.Image.Image:
    detections, truth = run.detections, run.truth
    rows = np.flatnonzero((detections.image_index == position) & run.shown)
    rows = rows[np.argsort(-detections.score[rows], kind="stable")]
    missed = np.flatnonzero((truth.image_index == position) & run.missed)
    right, excused = run.found[rows] >= 0, detections.excused[rows]
    signs = np.where(right, "✓", np.where(excused, "~", "✗"))
    inks = np.where(right, _RIGHT, np.where(excused, _EXCUSED, _WRONG))
    labels = [
        f"{sign} {names[k]} {score:.2f}"
        for sign, k, score in zip(signs, detections.class_index[rows], detections.score[rows], strict=True)
    ]
    labels += [f"? {names[k]}" for k in truth.class_index[missed]]
    threshold = "nothing shown" if np.isinf(run.threshold) else f"score ≥ {run.threshold:.2f}"
    title = f"{run.name} · {threshold} · {right.sum()} ✓ {(~right & ~excused).sum()} ✗ {len(missed)} ?"
    boxes = np.concatenate([detections.boxes_xyxy[rows], truth.boxes_xyxy[missed]])
    colors = [str(ink) for ink in inks] + [_MISSED] * len(missed)
    return draw_boxes(pixels, boxes, labels, title=title, scale=scale, colors=colors)


def gallery(
    gt: GroundTruth,
    matched: Sequence[MatchedRun],
    positions: Sequence[int],
    read: Callable[[int], Pixels],
    *,
    cell: int = 420,
) -> PIL.Image.Image:
    """One row per image: ground truth, then a column per run.

    Args:
        gt: ground truth.
        matched: the runs.
        positions: of the images in ``gt.image_ids``.
        read: pixels of the image at a position.
        cell: longer side of a picture, pixels.
    """
    pictures = [
        picture for position in positions for picture in picture_row(gt, matched, position, read(position), cell)
    ]
    return grid(pictures, len(matched) + 1)


def save_png(path: Path, picture: PIL.Image.Image) -> None:
    """Write a picture as PNG atomically.

    Raises:
        DataError: another suffix, or the folder does not exist.
    """
    check_name(path, (".png",))
    with atomic_write(path) as file:
        picture.save(file, format="PNG")
