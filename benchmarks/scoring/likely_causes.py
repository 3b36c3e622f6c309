"""Usual mistakes in prediction files, recognised by their traces. The score stays what the official evaluator gives."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from ovd_bench.metrics.box_form import FORMS, other_form
from ovd_bench.metrics.evaluate import Evaluation
from ovd_bench.metrics.types import GroundTruth, Predictions

Ints = npt.NDArray[np.int64]

#: Images without a detection, share of all, from which the file looks incomplete.
_MISSING = 0.1
#: Boxes whose form is looked at, spread over the file; more would say the same and take longer than the score.
_SAMPLE = 20_000
#: Pairs of image and class that are counted in one array; more of them are sorted.
_MAX_PAIRS = 1 << 24


def likely_causes(gt: GroundTruth, predictions: Predictions, evaluation: Evaluation) -> list[str]:
    """One line for each mistake that the file shows traces of; none for a usual file.

    A file has millions of rows, and its score takes a fraction of a second: nothing here sorts all of them.
    """
    if not len(predictions):
        return [_missing_images(gt, predictions.image_id)]
    ids = predictions.image_id
    begins = np.concatenate(([0], np.flatnonzero(ids[1:] != ids[:-1]) + 1))  # usual files list image after image
    lines = [
        _missing_images(gt, ids[begins]),
        _form(gt, predictions),
        _classes(gt, predictions, evaluation),
        _cap(gt, predictions, evaluation, begins),
    ]
    return [line for line in lines if line]


def _missing_images(gt: GroundTruth, image_ids: Ints) -> str:
    answered = np.isin(gt.image_ids, image_ids)
    missing = int(np.sum(~answered))
    if missing < _MISSING * gt.num_images:
        return ""
    return (
        f"warning: {missing:,} of {gt.num_images:,} images have no detections and count as wholly missed: "
        "is the file complete?"
    )


def _form(gt: GroundTruth, predictions: Predictions) -> str:
    sample = slice(None, None, max(1, len(predictions) // _SAMPLE))
    images = np.searchsorted(gt.image_ids, predictions.image_id[sample])
    boxes = np.stack([getattr(predictions, name)[sample] for name in "xywh"], axis=1)
    form = other_form(boxes, gt.image_sizes[images])
    return "" if form is None else f"warning: {FORMS[form]}"


def _classes(gt: GroundTruth, predictions: Predictions, evaluation: Evaluation) -> str:
    if not evaluation.matches.counts.unknown_class:
        return ""
    ids = gt.categories.ids
    used = np.unique(predictions.category_id).astype(np.int64)
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


def _cap(gt: GroundTruth, predictions: Predictions, evaluation: Evaluation, begins: Ints) -> str:
    if not evaluation.protocol.max_dets:
        return ""
    limit = evaluation.protocol.max_dets[-1]
    lengths = np.diff(begins, append=len(predictions))
    images = np.searchsorted(gt.image_ids, predictions.image_id[begins])
    if np.bincount(images, lengths).max() <= limit:
        return ""
    first = int(predictions.category_id.min())
    classes = int(predictions.category_id.max()) - first + 1
    pairs = np.repeat(images * classes, lengths) + (predictions.category_id.astype(np.int64) - first)
    few = gt.num_images * classes <= _MAX_PAIRS
    counts = np.bincount(pairs) if few else np.unique(pairs, return_counts=True)[1]
    beyond = int(np.sum(np.maximum(counts - limit, 0)))
    if not beyond:
        return ""
    return f"warning: {beyond:,} detections beyond {limit} per image and class are not counted, as pycocotools does"
