"""Calibration of scores: D-ECE and LaECE.

* *D-ECE* (Küppers et al. 2020, "Multivariate Confidence Calibration for Object Detection", section 3; confidence only):
  Σ_m |D_m| / |D| · |precision(D_m) - mean score(D_m)| over 10 equal score bins of all classes together; a detection is
  correct if it is a true positive at IoU 0.5.
* *LaECE* (Oksuz et al. 2023; Kuzucu, Oksuz et al. 2024, "On Calibration of Object Detectors: Pitfalls, Evaluation and
  Baselines"; reference repository fiveai/detection_calibration, ``coco_calibration.py``): per class
  Σ_j |D_j| / |D| · |mean score(D_j) - Σ_TP IoU / |D_j|| over 25 equal score bins, then the mean over the classes that
  have ground truth and detections. The score should equal the IoU of a true positive and 0 otherwise. True positives
  are those at IoU 0.5 for ``la_ece``; for ``la_ece_0``, the variant that paper recommends, at any overlap.

Bin m is (m / bins, (m + 1) / bins]; score 0 belongs to the first. True positives are greedy matches as in AP.

The number depends on the set of detections: a long tail of low scores, well calibrated near 0, hides errors of the
high scores. Two sets are therefore always reported: *all* detections that the protocol counts and that have at least
``min_score`` (default 0, which is no threshold), and those at an *operating* point, one score threshold per class.
The paper takes these thresholds from a validation set. If none are given, the LRP-optimal ones of the same data are
used, which is slightly optimistic. Detections that do not count (unverified, class not exhaustively annotated, crowd)
are in neither set; whether a crowd excuses a detection is decided at IoU 0.5, also for ``la_ece_0``.

Differences from the reference repository: D-ECE also counts detections of classes without ground truth (every one is
wrong); a class with error exactly 0 stays in the mean; boxes that do not overlap never match.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from ovd_bench.metrics.errors import DataError
from ovd_bench.metrics.lrp import TAU, OptimalLrp, optimal_lrp
from ovd_bench.metrics.participants import (
    Bool,
    Float64,
    Int64,
    Participants,
    Truth,
    match_by_class,
    participants,
    select_truth,
)
from ovd_bench.metrics.protocol import Protocol
from ovd_bench.metrics.types import FloatArray, GroundTruth, Predictions

D_ECE_BINS = 10
LA_ECE_BINS = 25

_ANY_OVERLAP = sys.float_info.min


@dataclass(frozen=True)
class Reliability:
    """Reliability diagram over equal score bins (m bins); means are NaN in empty bins.

    Attributes:
        edges: float64 (m + 1,), bin i is (edges[i], edges[i + 1]], the first includes 0.
        count: int64 (m,), detections.
        mean_score: float64 (m,).
        precision: float64 (m,), share of true positives at IoU 0.5: target of D-ECE.
        mean_iou: float64 (m,), mean of the IoU of true positives and 0 of false positives: target of LaECE.
    """

    edges: Float64
    count: Int64
    mean_score: Float64
    precision: Float64
    mean_iou: Float64


@dataclass(frozen=True)
class CalibrationError:
    """Calibration of one set of detections (K classes); None and NaN without detections.

    Attributes:
        detections: number of detections.
        d_ece: pooled over classes, ``D_ECE_BINS`` bins.
        la_ece: mean over classes, ``LA_ECE_BINS`` bins.
        la_ece_0: the same with true positives at any overlap.
        class_la_ece: float64 (K,), terms of ``la_ece``.
        reliability: diagram of all classes together, ``D_ECE_BINS`` bins.
    """

    detections: int
    d_ece: float | None
    la_ece: float | None
    la_ece_0: float | None
    class_la_ece: Float64
    reliability: Reliability


@dataclass(frozen=True)
class CalibrationResult:
    """Calibration of one set of predictions (K classes).

    Attributes:
        min_score: threshold of ``all``.
        all: every counted detection of at least ``min_score``.
        operating: detections at the operating point.
        operating_thresholds: float64 (K,), score threshold per class of ``operating``; NaN where there is none.
        optimal_lrp: oLRP and its thresholds on this data.
    """

    min_score: float
    all: CalibrationError
    operating: CalibrationError
    operating_thresholds: Float64
    optimal_lrp: OptimalLrp

    @property
    def olrp(self) -> float | None:
        """Mean oLRP over the classes with ground truth."""
        return _mean(self.optimal_lrp.lrp)

    @property
    def metrics(self) -> dict[str, float | None]:
        """Flat numbers, keys such as ``calibration/d_ece``, ``calibration/la_ece_operating``, ``calibration/oLRP``."""
        flat: dict[str, float | None] = {"calibration/min_score": self.min_score, "calibration/oLRP": self.olrp}
        for suffix, error in (("", self.all), ("_operating", self.operating)):
            for name in ("detections", "d_ece", "la_ece", "la_ece_0"):
                flat[f"calibration/{name}{suffix}"] = getattr(error, name)
        return flat


def calibration(
    gt: GroundTruth,
    predictions: Predictions,
    protocol: Protocol,
    *,
    min_score: float = 0.0,
    operating_thresholds: FloatArray | None = None,
) -> CalibrationResult:
    """Calibration errors; definitions are those of this module's docstring.

    Args:
        gt: ground truth with K classes.
        predictions: detections of the same data set, scores in [0, 1].
        protocol: rules and caps.
        min_score: lowest score of the set ``all``.
        operating_thresholds: (K,), lowest score per class of the set ``operating``, e.g. the ``optimal_lrp`` thresholds
            of a validation set; a class with NaN keeps nothing. None takes those of this data.

    Raises:
        DataError: a score outside [0, 1], thresholds not of length K; or see ``metrics.matching.match``.
    """
    outside = (predictions.score < 0) | (predictions.score > 1)
    if outside.any():
        row = int(np.argmax(outside))
        raise DataError(f"record {row}: score is {predictions.score[row]}; calibration needs probabilities in [0, 1]")
    if operating_thresholds is not None and operating_thresholds.shape != (gt.num_classes,):
        raise DataError(
            f"calibration: operating_thresholds has shape {operating_thresholds.shape}, expected ({gt.num_classes},)"
        )
    detections = participants(gt, predictions, protocol)
    truth, _ = select_truth(gt, protocol)
    positives = np.bincount(truth.class_index, minlength=gt.num_classes)
    half, touching = _matched(detections, truth, TAU), _matched(detections, truth, _ANY_OVERLAP)

    def rows_of(counted: Bool) -> Int64:
        return np.searchsorted(detections.class_index[counted], np.arange(gt.num_classes + 1))

    counted = half.counted
    olrp = optimal_lrp(rows_of(counted), detections.score[counted], half.tp[counted], half.iou[counted], positives)
    thresholds = olrp.threshold if operating_thresholds is None else operating_thresholds.astype(np.float64)
    in_all = detections.score >= min_score
    in_operating = detections.score >= thresholds[detections.class_index]  # False for NaN
    return CalibrationResult(
        min_score=min_score,
        all=_error(detections, half, touching, positives, in_all),
        operating=_error(detections, half, touching, positives, in_operating),
        operating_thresholds=thresholds,
        optimal_lrp=olrp,
    )


@dataclass(frozen=True)
class _Matched:
    """Matches of n detections at one IoU threshold.

    Attributes:
        tp: bool (n,).
        iou: float64 (n,), with the matched ground truth, 0 where there is none.
        counted: bool (n,), true or false positive.
    """

    tp: Bool
    iou: Float64
    counted: Bool


def _matched(detections: Participants, truth: Truth, iou_threshold: float) -> _Matched:
    match = match_by_class(detections, truth, iou_threshold)
    tp = match >= 0
    iou = np.zeros(len(detections))
    iou[tp] = _paired_iou(detections.boxes_xyxy[tp], truth.boxes_xyxy[match[tp]])
    return _Matched(tp, iou, tp | ~detections.excused)


def _paired_iou(a: Float64, b: Float64) -> Float64:
    """IoU of box i of ``a`` with box i of ``b``, overlapping boxes xyxy (n, 4); float64 (n,)."""
    intersection = np.prod(np.minimum(a[:, 2:], b[:, 2:]) - np.maximum(a[:, :2], b[:, :2]), axis=1)
    areas = np.prod(a[:, 2:] - a[:, :2], axis=1) + np.prod(b[:, 2:] - b[:, :2], axis=1)
    iou: Float64 = intersection / (areas - intersection)
    return iou


def _error(
    detections: Participants, half: _Matched, touching: _Matched, positives: Int64, chosen: Bool
) -> CalibrationError:
    rows = half.counted & chosen
    reliability = _reliability(detections.score[rows], half.tp[rows], half.iou[rows])
    total = int(reliability.count.sum())
    gaps = np.nan_to_num(np.abs(reliability.precision - reliability.mean_score))
    class_la_ece = _class_la_ece(detections, half, positives, chosen)
    return CalibrationError(
        detections=total,
        d_ece=float(reliability.count @ gaps / total) if total else None,
        la_ece=_mean(class_la_ece),
        la_ece_0=_mean(_class_la_ece(detections, touching, positives, chosen)),
        class_la_ece=class_la_ece,
        reliability=reliability,
    )


def _reliability(score: Float64, tp: Bool, iou: Float64) -> Reliability:
    index = _bin(score, D_ECE_BINS)
    count = np.bincount(index, minlength=D_ECE_BINS)

    def mean(values: npt.NDArray[np.generic]) -> Float64:
        total = np.bincount(index, weights=values, minlength=D_ECE_BINS)
        return np.divide(total, count, out=np.full(D_ECE_BINS, np.nan), where=count > 0)

    return Reliability(_edges(D_ECE_BINS), count, mean(score), mean(tp), mean(iou))


def _class_la_ece(detections: Participants, matched: _Matched, positives: Int64, chosen: Bool) -> Float64:
    """LaECE of every class, float64 (K,); NaN without ground truth or without detections."""
    rows = matched.counted & chosen
    classes = len(positives)
    cell = detections.class_index[rows].astype(np.int64) * LA_ECE_BINS + _bin(detections.score[rows], LA_ECE_BINS)
    # |D_j| · |mean score - ΣIoU / |D_j|| is the absolute difference of two sums
    sums = np.bincount(cell, weights=detections.score[rows] - matched.iou[rows], minlength=classes * LA_ECE_BINS)
    count = np.bincount(detections.class_index[rows], minlength=classes)
    gap = np.abs(sums).reshape(classes, LA_ECE_BINS).sum(axis=1)
    return np.divide(gap, count, out=np.full(classes, np.nan), where=(count > 0) & (positives > 0))


def _edges(bins: int) -> Float64:
    return np.linspace(0.0, 1.0, bins + 1)


def _bin(score: Float64, bins: int) -> Int64:
    return np.maximum(np.searchsorted(_edges(bins), score, side="left") - 1, 0)


def _mean(values: Float64) -> float | None:
    defined = values[~np.isnan(values)]
    return float(defined.mean()) if len(defined) else None
