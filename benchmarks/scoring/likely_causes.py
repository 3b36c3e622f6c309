"""Usual mistakes in prediction files, recognised by their traces. The score stays what the official evaluator gives."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from ovd_bench.metrics.evaluate import Evaluation
from ovd_bench.metrics.types import GroundTruth, Predictions

#: Images without a detection, share of all, from which the file looks incomplete.
_MISSING = 0.1
#: Boxes that leave their image, share of all, from which another form of box is looked for.
_OUTSIDE = 0.2
#: Boxes that must fit the other form.
_FIT = 0.99
#: By what share of its sides a box may leave its image, as those of detectors do.
_SLACK = 0.05


def likely_causes(gt: GroundTruth, predictions: Predictions, evaluation: Evaluation) -> list[str]:
    """One line for each mistake that the file shows traces of; none for a usual file."""
    if not len(predictions):
        return []
    lines = [
        _missing_images(gt, predictions),
        _relative(gt, predictions) or _corners(gt, predictions),
        _classes(gt, predictions),
        _cap(gt, predictions, evaluation),
    ]
    return [line for line in lines if line]


def _missing_images(gt: GroundTruth, predictions: Predictions) -> str:
    answered = np.isin(gt.image_ids, predictions.image_id)
    missing = int(np.sum(~answered))
    if missing < _MISSING * gt.num_images:
        return ""
    return (
        f"warning: {missing:,} of {gt.num_images:,} images have no detections and count as wholly missed: "
        "is the file complete?"
    )


def _relative(gt: GroundTruth, predictions: Predictions) -> str:
    right, bottom = predictions.x + predictions.w, predictions.y + predictions.h
    inside = float(np.mean((right <= 1 + _SLACK) & (bottom <= 1 + _SLACK)))
    if inside < _FIT or _median_side(gt) <= 1:
        return ""
    return "warning: the boxes lie in 0 … 1: are they relative to the image? Results are in pixels"


def _median_side(gt: GroundTruth) -> float:
    return float(np.median(gt.boxes_xywh[:, 2:])) if len(gt.boxes_xywh) else 0.0


def _corners(gt: GroundTruth, predictions: Predictions) -> str:
    width, height = _sizes(gt, predictions)
    known = (width > 0) & (height > 0)
    if not known.any():
        return ""
    x, y, w, h = (np.asarray(getattr(predictions, name), np.float64)[known] for name in "xywh")
    right, bottom = (side[known] * (1 + _SLACK) for side in (width, height))
    outside = float(np.mean((x + w > right) | (y + h > bottom)))
    corners = float(np.mean((w >= x) & (h >= y) & (w <= right) & (h <= bottom)))
    if outside < _OUTSIDE or corners < _FIT:
        return ""
    return (
        f"warning: {100 * outside:.0f} % of the boxes leave their image, and hardly any would if they were "
        "[x1, y1, x2, y2]: results are [x, y, width, height]"
    )


def _sizes(gt: GroundTruth, predictions: Predictions) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """Width and height of the image of each detection."""
    rows = np.searchsorted(gt.image_ids, predictions.image_id).clip(0, gt.num_images - 1)
    width, height = gt.image_sizes[rows].T.astype(np.float64)
    return width, height


def _classes(gt: GroundTruth, predictions: Predictions) -> str:
    ids = gt.categories.ids
    used = np.unique(predictions.category_id).astype(np.int64)
    unknown = used[~np.isin(used, ids)]
    if not len(unknown):
        return ""
    if predictions.phrase is not None and (used < 0).all():
        return "warning: the detections have phrases and no categories: --map-phrases scores the classes they name"
    for shift in (1, -1):
        if np.isin(used + shift, ids).all():
            return f"warning: all category ids fit the annotations if {shift:+d} is added: are they off by one?"
    if used[0] >= 0 and used[-1] < len(ids):
        return (
            f"warning: all category ids are below {len(ids)}, the number of classes, and some are not declared: "
            "are they positions instead of ids?"
        )
    return ""


def _cap(gt: GroundTruth, predictions: Predictions, evaluation: Evaluation) -> str:
    if not evaluation.protocol.max_dets:
        return ""
    limit = evaluation.protocol.max_dets[-1]
    images = np.searchsorted(gt.image_ids, predictions.image_id)
    if int(np.bincount(images).max()) <= limit:
        return ""
    pairs = np.unique(images * (1 << 32) + predictions.category_id, return_counts=True)[1]
    beyond = int(np.sum(np.maximum(pairs - limit, 0)))
    if not beyond:
        return ""
    return f"warning: {beyond:,} detections beyond {limit} per image and class are not counted, as pycocotools does"
