"""Usual mistakes in prediction files, recognised by their traces. The score stays what the official evaluator gives."""

from __future__ import annotations

import numpy as np

from ovd_bench.metrics.box_form import FORMS, other_form
from ovd_bench.metrics.evaluate import Evaluation
from ovd_bench.metrics.types import GroundTruth, Predictions

#: Images without a detection, share of all, from which the file looks incomplete.
_MISSING = 0.1


def likely_causes(gt: GroundTruth, predictions: Predictions, evaluation: Evaluation) -> list[str]:
    """One line for each mistake that the file shows traces of; none for a usual file."""
    missing = _missing_images(gt, predictions)
    if not len(predictions):
        return [missing]
    lines = [
        missing,
        _form(gt, predictions),
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


def _form(gt: GroundTruth, predictions: Predictions) -> str:
    rows = np.searchsorted(gt.image_ids, predictions.image_id).clip(0, gt.num_images - 1)
    boxes = np.stack([getattr(predictions, name) for name in "xywh"], axis=1)
    form = other_form(boxes, gt.image_sizes[rows])
    return "" if form is None else f"warning: {FORMS[form]}"


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
