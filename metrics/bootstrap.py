"""Image-level bootstrap of AP from the outcomes of one evaluation.

A resample draws as many images as the data set has, with replacement, and is stored as a weight per image. One
evaluation serves all resamples, since matching happens inside an image. ``metrics.intervals`` turns the resamples into
intervals.
"""

from __future__ import annotations

import ctypes
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from ovd_bench.metrics.errors import DataError
from ovd_bench.metrics.evaluate import SINGLE_IOU, Evaluation
from ovd_bench.metrics.intervals import ClassValues, Estimate
from ovd_bench.metrics.matching import engine
from ovd_bench.metrics.protocol import AREA_NAMES, FREQUENCIES
from ovd_bench.metrics.types import GroundTruth

_STATISTICS = ("AP", "AP50", "AP75", "AR", "APs", "APm", "APl", "APr", "APc", "APf")


@dataclass(frozen=True)
class Bootstrap:
    """Statistics of weighted resamples.

    Attributes:
        estimates: per statistic (names as in ``Evaluation.metrics``) that is defined on the original images.
        samples: float64 (n,) per statistic, NaN where a resample has no class.
        per_class_ap: float32 (n, K), NaN where the class has no ground truth in the resample; None unless requested.
    """

    estimates: dict[str, Estimate]
    samples: dict[str, npt.NDArray[np.float64]]
    per_class_ap: npt.NDArray[np.float32] | None


def resample_weights(num_images: int, resamples: int, seed: int) -> npt.NDArray[np.uint8]:
    """How often each image is drawn, uint8 (resamples, num_images); rows add up to ``num_images``.

    Two runs on the same images get the same weights from the same seed, so that differences are paired.
    """
    generator = np.random.Generator(np.random.PCG64(seed))
    weights = np.empty((resamples, num_images), np.uint8)
    for row in weights:
        drawn = np.bincount(generator.integers(0, num_images, num_images, np.int32), minlength=num_images)
        if drawn.max(initial=0) > 255:
            raise DataError("an image was drawn more than 255 times in one resample: choose another --seed")
        row[:] = drawn
    return weights


def bootstrap_ratio(
    weights: npt.NDArray[np.uint8], numerator: npt.NDArray[np.float64], denominator: npt.NDArray[np.float64]
) -> npt.NDArray[np.float64]:
    """Samples (n,) of a statistic that is a sum over images divided by a sum over images; NaN for 0 / 0.

    Args:
        weights: uint8 (n, I), see ``resample_weights``.
        numerator: float64 (I,), contribution of each image to the numerator.
        denominator: float64 (I,), contribution of each image to the denominator.
    """
    samples = np.empty(len(weights))
    for first in range(0, len(weights), 64):  # in parts: the product needs the weights as float64
        part = weights[first : first + 64].astype(np.float64)
        with np.errstate(invalid="ignore"):
            samples[first : first + 64] = (part @ numerator) / (part @ denominator)
    return samples


class _Inputs(ctypes.Structure):
    _fields_ = (
        ("images", ctypes.c_int64),
        ("classes", ctypes.c_int64),
        *(
            (name, ctypes.c_void_p)
            for name in (
                *("record_offsets", "record_image", "record_tp", "record_ignored"),
                *("truth_offsets", "truth_image", "truth_areas", "group", "weights"),
            )
        ),
        ("resamples", ctypes.c_int64),
        *((name, ctypes.c_int32) for name in ("threads", "thresholds", "at50", "at75")),
    )


def bootstrap(
    gt: GroundTruth, evaluation: Evaluation, weights: npt.NDArray[np.uint8], *, per_class: bool = False
) -> Bootstrap:
    """Statistics of an evaluation for each row of image weights.

    If all weights are 1, the result is the point estimates (up to the order of summation). Other weights give the
    result of a full evaluation on a data set that contains image ``i`` ``weights[i]`` times, if no scores are equal.

    Args:
        gt: the ground truth that was evaluated.
        evaluation: result of ``evaluate(..., keep_records=True)``.
        weights: uint8 (n, I), see ``resample_weights``.
        per_class: also return AP per class and resample.

    Raises:
        DataError: the evaluation kept no records, or the weights have another number of images.
    """
    records = evaluation.matches.records
    if records is None:
        raise DataError("the bootstrap needs an evaluation with keep_records=True")
    if weights.ndim != 2 or weights.shape[1] != gt.num_images or weights.dtype != np.uint8:
        raise DataError(f"weights must be uint8 (n, {gt.num_images}), not {weights.dtype} {weights.shape}")
    rows, areas, offsets = _regular_truth(gt, evaluation)
    image_index = gt.image_index[rows]
    letters = {letter: group for group, letter in enumerate(FREQUENCIES)}
    grouped = evaluation.protocol.federated
    arrays: list[npt.NDArray[Any]] = [
        records.class_offsets,
        records.image_index,
        records.tp,
        records.ignored,
        offsets,
        image_index,
        areas,
        np.array([letters.get(letter, -1) if grouped else -1 for letter in gt.categories.frequency], np.int8),
        np.ascontiguousarray(weights),
    ]
    inputs = _Inputs(
        gt.num_images,
        gt.num_classes,
        *(ctypes.c_void_p(array.ctypes.data) for array in arrays),
        len(weights),
        evaluation.matches.threads,
        len(evaluation.protocol.iou_thresholds),
        *_single_thresholds(evaluation),
    )
    statistics = np.empty((len(weights), len(_STATISTICS)))
    classes = np.empty((len(weights), gt.num_classes), np.float32) if per_class else None
    engine().ovd_bootstrap(
        ctypes.byref(inputs),
        ctypes.c_void_p(statistics.ctypes.data),
        ctypes.c_void_p(None if classes is None else classes.ctypes.data),
    )
    names = _names(evaluation)
    samples = {name: statistics[:, i].copy() for i, name in enumerate(names) if name in evaluation.metrics}
    means = dict(zip(names, _class_values(gt, evaluation, image_index, areas, offsets), strict=True))
    points = {name: value for name in samples if (value := evaluation.metrics[name]) is not None}
    estimates = {name: Estimate(value, samples[name], means[name]) for name, value in points.items()}
    return Bootstrap(estimates, samples, classes)


def _names(evaluation: Evaluation) -> list[str]:
    """Names of ``_STATISTICS`` in this evaluation: the name of AR contains its detection limit."""
    recall = [name for name in evaluation.metrics if name.startswith("AR@")][-1]
    return [recall if name == "AR" else name for name in _STATISTICS]


def _single_thresholds(evaluation: Evaluation) -> list[int]:
    """Numbers of the thresholds of AP50 and AP75; -1 where the protocol does not have one."""
    thresholds = evaluation.protocol.iou_thresholds
    return [thresholds.index(one) if one in thresholds else -1 for one in SINGLE_IOU.values()]


def _class_values(
    gt: GroundTruth,
    evaluation: Evaluation,
    image_index: npt.NDArray[np.int32],
    areas: npt.NDArray[np.uint8],
    offsets: npt.NDArray[np.int64],
) -> list[ClassValues]:
    """Per-class values that each of ``_STATISTICS`` averages, from the ground truth of ``_regular_truth``."""
    matches = evaluation.matches
    pairs = np.repeat(np.arange(gt.num_classes), np.diff(offsets)) * gt.num_images + image_index
    images = [
        np.bincount(np.unique(pairs[(areas >> area & 1).astype(bool)]) // gt.num_images, minlength=gt.num_classes)
        for area in range(len(AREA_NAMES))
    ]

    def values(per_class: npt.NDArray[np.float64], area: int = 0) -> ClassValues:
        return ClassValues(np.where(images[area] > 0, per_class, np.nan), images[area])

    everything = values(evaluation.per_class_ap)
    return [
        everything,
        values(evaluation.per_class_ap50),
        values(matches.precision(0)[_single_thresholds(evaluation)[1]].mean(axis=0)),
        values(matches.recall(-1)[..., 0].mean(axis=0)),
        *(values(matches.precision(area).mean(axis=(0, 1)), area) for area in range(1, len(AREA_NAMES))),
        *(
            everything.only(np.flatnonzero([letter == one for letter in gt.categories.frequency]))
            for one in FREQUENCIES
        ),
    ]


def _regular_truth(
    gt: GroundTruth, evaluation: Evaluation
) -> tuple[npt.NDArray[np.intp], npt.NDArray[np.uint8], npt.NDArray[np.int64]]:
    """Rows of the ground truth that counts, sorted by class; their area bits; offsets per class."""
    federated = evaluation.protocol.federated
    areas = np.zeros(len(gt.area), np.uint8)
    for bit, (low, high) in enumerate(evaluation.protocol.area_ranges):
        areas[(gt.area >= low) & (gt.area <= high)] |= np.uint8(1 << bit)
    areas[gt.ignore if federated else gt.iscrowd] = 0
    if federated:
        areas[gt.area <= 0] = 0
    rows = np.flatnonzero(areas)
    rows = rows[np.argsort(gt.class_index[rows], kind="stable")]
    offsets = np.zeros(gt.num_classes + 1, np.int64)
    np.cumsum(np.bincount(gt.class_index[rows], minlength=gt.num_classes), out=offsets[1:])
    return rows, areas[rows], offsets
