"""Error decomposition: loss of AP per kind of error.

TIDE (Bolya et al. 2020, "TIDE: A General Toolbox for Identifying Object Detection Errors"; reference repository
dbolya/tide, ``tidecv/quantify.py``), on the detections and the ground truth that the protocol counts. A detection that
matches no ground truth of its class at IoU 0.5 is exactly one of these, in this order:

1. ``loc``: best IoU with ground truth of its own class in [0.1, 0.5];
2. ``cls``: best IoU with ground truth of another class >= 0.5;
3. ``dupe``: best IoU with ground truth of its own class above 0.5 (a better detection has taken it);
4. ``bkg``: best IoU with any ground truth <= 0.1;
5. ``both``: anything else (wrong class and poorly localised).

The order is tidecv's: a second detection of an object that also covers an object of another class is a ``cls`` error,
so duplicates are few where objects overlap.

``miss`` is a ground truth that is unmatched and the target of no ``loc`` or ``cls`` error.

An oracle corrects one kind at a time. ``loc`` and ``cls``: of all such errors, of both kinds together, that point at
the same unmatched ground truth, the best-scoring becomes a true positive (``cls``: of the ground truth's class) and the
others are removed; ``both``, ``dupe`` and ``bkg``: the detections are removed; ``miss``: the ground truth is removed.
Special oracles: ``fp`` removes all false positives, ``fn`` all unmatched ground truth. ΔAP is the gain in AP at IoU
0.5; gains do not add up.

Federated data. Only detections of classes verified in their image take part, so only they can be errors, point at
ground truth, or prevent a ``miss``: an object found under an unverified name is a miss, not a naming error, because the
name was not checked. A ``cls`` error is thus a detection of a class that is present or verified absent, on ground truth
of another class; its oracle moves it to a class that is present, hence verified. Unmatched detections that the protocol
excuses (class not exhaustively annotated, crowd) are not errors.

Intended differences from tidecv 1.0.1:

* tidecv counts excused detections as errors and turns them into true positives. Here they cost no AP, so there is
  nothing to correct. On data without crowds all counts are the same.
* AP is the protocol's (same caps, same 101 recall levels as the official AP50), averaged over the classes with ground
  truth. tidecv averages over the classes with ground truth or detections, with AP 0 where there is no ground truth.
  Per class, the AP after every oracle is tidecv's up to the last bits of the recall levels and, in case of equal
  scores, their order (tidecv puts false positives first after an oracle).
* A class that has no ground truth left after ``miss`` or ``fn`` has AP 1 if it has no false positives either, else 0,
  and stays in the mean; tidecv drops it in the first case.
* Negative gains are reported, not clipped at 0.

A ground truth with annotation id 0 is treated like any other (lvis-api treats its match as no match).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from ovd_bench.metrics.boxes import max_iou
from ovd_bench.metrics.participants import (
    Bool,
    Float64,
    Int64,
    Participants,
    Truth,
    match_by_class,
    pair_keys,
    participants,
    select_truth,
)
from ovd_bench.metrics.protocol import FREQUENCIES, RECALL_THRESHOLDS, Protocol
from ovd_bench.metrics.types import GroundTruth, Predictions, positions

#: Kinds of errors; the position is the code in ``DecompositionResult.detection_error``. The last is of ground truth.
ERRORS = ("cls", "loc", "both", "dupe", "bkg", "miss")
#: All oracles: the six kinds and the two special ones.
ORACLES = (*ERRORS, "fp", "fn")

MATCH_IOU = 0.5
BACKGROUND_IOU = 0.1

_CLS, _LOC, _BOTH, _DUPE, _BKG = range(5)


@dataclass(frozen=True)
class ErrorShares:
    """Errors of a group of classes.

    Attributes:
        ap50: AP at IoU 0.5, mean over the classes with ground truth; None without any.
        counts: number of errors per kind, by the class of the detection (``miss``: of the ground truth).
        delta_ap: gain in ``ap50`` per oracle; None where ``ap50`` is.
    """

    ap50: float | None
    counts: dict[str, int]
    delta_ap: dict[str, float | None]


@dataclass(frozen=True)
class DecompositionResult:
    """Error decomposition of one set of predictions (N detections, G ground truth boxes, K classes).

    Attributes:
        overall: all classes.
        by_frequency: the same per frequency letter that occurs in the vocabulary.
        class_ap50: float64 (K,) per oracle, and under ``none`` without one: AP of each class, NaN without ground truth.
        detection_error: int8 (N,), position in ``ERRORS``, -1 for detections that are correct or do not count.
        missed: bool (G,), the ``miss`` errors.
    """

    overall: ErrorShares
    by_frequency: dict[str, ErrorShares]
    class_ap50: dict[str, Float64]
    detection_error: npt.NDArray[np.int8]
    missed: Bool

    @property
    def metrics(self) -> dict[str, float | None]:
        """Flat numbers, keys such as ``tide/AP50``, ``tide/dAP_cls``, ``tide/count_cls``, ``tide/dAP_cls_r``."""
        flat: dict[str, float | None] = {}
        for suffix, shares in (("", self.overall), *((f"_{letter}", s) for letter, s in self.by_frequency.items())):
            flat[f"tide/AP50{suffix}"] = shares.ap50
            flat |= {f"tide/dAP_{oracle}{suffix}": gain for oracle, gain in shares.delta_ap.items()}
            flat |= {f"tide/count_{kind}{suffix}": count for kind, count in shares.counts.items()}
        return flat


def decompose(gt: GroundTruth, predictions: Predictions, protocol: Protocol) -> DecompositionResult:
    """Classify the errors of predictions and measure the loss of AP by each kind; rules in this module's docstring.

    Args:
        gt: ground truth.
        predictions: detections of the same data set.
        protocol: rules and caps.

    Raises:
        DataError: see ``metrics.matching.match``.
    """
    detections = participants(gt, predictions, protocol)
    truth, _ = select_truth(gt, protocol)
    errors = _classify(gt, detections, truth)
    class_ap50 = _oracle_aps(gt, detections, truth, errors)

    letters = np.array(gt.categories.frequency)
    everything = np.ones(gt.num_classes, np.bool_)
    detection_error = np.full(len(predictions), -1, np.int8)
    detection_error[detections.row] = errors.kind
    missed = np.zeros(len(gt.ann_ids), np.bool_)
    missed[truth.row[errors.missed]] = True
    return DecompositionResult(
        overall=_shares(class_ap50, detections, truth, errors, everything),
        by_frequency={
            letter: _shares(class_ap50, detections, truth, errors, letters == letter)
            for letter in FREQUENCIES
            if letter in gt.categories.frequency
        },
        class_ap50=class_ap50,
        detection_error=detection_error,
        missed=missed,
    )


@dataclass(frozen=True)
class _Errors:
    """Outcome of n detections and g ground truth boxes.

    Attributes:
        tp: bool (n,).
        kind: int8 (n,), code of the error, -1 where there is none.
        mended_by: int64 (n,), ground truth that a ``cls`` or ``loc`` error would match if corrected, -1 where none.
        unmatched: bool (g,).
        missed: bool (g,).
    """

    tp: Bool
    kind: npt.NDArray[np.int8]
    mended_by: Int64
    unmatched: Bool
    missed: Bool


def _classify(gt: GroundTruth, detections: Participants, truth: Truth) -> _Errors:
    match = match_by_class(detections, truth, MATCH_IOU)
    tp = match >= 0
    kind = np.full(len(detections), -1, np.int8)
    target = np.full(len(detections), -1, np.int64)

    wrong = np.flatnonzero(~tp & ~detections.excused)
    overlap, nearest = max_iou(
        truth.image_index, truth.boxes_xyxy, detections.image_index[wrong], detections.boxes_xyxy[wrong]
    )
    kind[wrong] = np.where(overlap <= BACKGROUND_IOU, _BKG, _BOTH)

    near = overlap >= BACKGROUND_IOU
    wrong, overlap, nearest = wrong[near], overlap[near], nearest[near]
    own, own_nearest = _own_class_overlap(gt, detections, truth, wrong)
    misplaced = (own >= BACKGROUND_IOU) & (own <= MATCH_IOU)
    kind[wrong[misplaced]], target[wrong[misplaced]] = _LOC, own_nearest[misplaced]

    # What is left overlaps its own class by more than 0.5 or by less than 0.1. In the second case the nearest ground
    # truth is of another class, or too far away to matter.
    rest = ~misplaced
    wrong, overlap, nearest, own = wrong[rest], overlap[rest], nearest[rest], own[rest]
    taken = own > MATCH_IOU
    overlap[taken], nearest[taken] = _other_class_overlap(gt, detections, truth, wrong[taken])
    misnamed = overlap >= MATCH_IOU
    kind[wrong[taken]] = _DUPE
    kind[wrong[misnamed]], target[wrong[misnamed]] = _CLS, nearest[misnamed]

    unmatched = np.ones(len(truth), np.bool_)
    unmatched[match[tp]] = False
    candidates = np.flatnonzero(target >= 0)
    candidates = candidates[unmatched[target[candidates]]]
    by_score = candidates[np.lexsort((detections.row[candidates], -detections.score[candidates]))]
    aimed_at, best = np.unique(target[by_score], return_index=True)
    mended_by = np.full(len(detections), -1, np.int64)
    mended_by[by_score[best]] = aimed_at
    missed = unmatched.copy()
    missed[aimed_at] = False
    return _Errors(tp, kind, mended_by, unmatched, missed)


def _own_class_overlap(gt: GroundTruth, detections: Participants, truth: Truth, rows: Int64) -> tuple[Float64, Int64]:
    """Best IoU of some detections with ground truth of their class and its row (0 and -1 where there is none)."""
    truth_keys = pair_keys(truth.image_index, truth.class_index, gt.num_classes)
    pairs = np.unique(truth_keys)
    keys = pair_keys(detections.image_index[rows], detections.class_index[rows], gt.num_classes)
    pair = positions(pairs, keys)
    there = pair >= 0
    best, nearest = np.zeros(len(rows)), np.full(len(rows), -1, np.int64)
    best[there], nearest[there] = max_iou(
        positions(pairs, truth_keys), truth.boxes_xyxy, pair[there], detections.boxes_xyxy[rows[there]]
    )
    return best, nearest


def _other_class_overlap(gt: GroundTruth, detections: Participants, truth: Truth, rows: Int64) -> tuple[Float64, Int64]:
    """Best IoU of some detections with ground truth of other classes and its row (0 and -1 where there is none)."""
    keys = pair_keys(detections.image_index[rows], detections.class_index[rows], gt.num_classes)
    pairs, pair = np.unique(keys, return_inverse=True)
    # Every (image, class) pair gets its own copy of the image's ground truth of other classes.
    by_image = np.argsort(truth.image_index, kind="stable")
    offsets = np.searchsorted(truth.image_index[by_image], np.arange(gt.num_images + 1))
    first, count = offsets[pairs // gt.num_classes], np.diff(offsets)[pairs // gt.num_classes]
    bucket = np.repeat(np.arange(len(pairs)), count)
    copied = by_image[np.arange(len(bucket)) + np.repeat(first - np.cumsum(count) + count, count)]
    other = truth.class_index[copied] != (pairs % gt.num_classes)[bucket]
    bucket, copied = bucket[other], copied[other]
    best, nearest = max_iou(bucket, truth.boxes_xyxy[copied], pair, detections.boxes_xyxy[rows])
    found = nearest >= 0
    nearest[found] = copied[nearest[found]]
    return best, nearest


def _oracle_aps(gt: GroundTruth, detections: Participants, truth: Truth, errors: _Errors) -> dict[str, Float64]:
    """AP of every class without and with each oracle, float64 (K,)."""
    counted = errors.tp | (errors.kind >= 0)
    mended = errors.mended_by >= 0
    label = detections.class_index.astype(np.int64)
    positives = np.bincount(truth.class_index, minlength=gt.num_classes)

    def score(keep: Bool, tp: Bool = errors.tp, gone: Bool | None = None) -> Float64:
        left = positives if gone is None else positives - np.bincount(truth.class_index[gone], minlength=len(positives))
        return _class_aps(label[keep], tp[keep], left, positives > 0)

    aps = {"none": score(counted)}
    is_cls, is_loc = errors.kind == _CLS, errors.kind == _LOC
    moved = label.copy()
    moved[is_cls & mended] = truth.class_index[errors.mended_by[is_cls & mended]]
    order = np.lexsort((detections.row, detections.image_index, -detections.score, moved))
    order = order[(counted & ~(is_cls & ~mended))[order]]
    aps["cls"] = _class_aps(moved[order], (errors.tp | (is_cls & mended))[order], positives, positives > 0)
    aps["loc"] = score(counted & ~(is_loc & ~mended), errors.tp | (is_loc & mended))
    for code in (_BOTH, _DUPE, _BKG):
        aps[ERRORS[code]] = score(counted & (errors.kind != code))
    aps["miss"] = score(counted, gone=errors.missed)
    aps["fp"] = score(errors.tp)
    aps["fn"] = score(counted, gone=errors.unmatched)
    return aps


def _class_aps(label: Int64, tp: Bool, positives: Int64, defined: Bool) -> Float64:
    """AP of every class from detections sorted by class and score; NaN where not ``defined``."""
    offsets = np.searchsorted(label, np.arange(len(positives) + 1))
    aps = np.full(len(positives), np.nan)
    for k in np.flatnonzero(defined):
        aps[k] = _average_precision(tp[offsets[k] : offsets[k + 1]], int(positives[k]))
    return aps


def _average_precision(tp: Bool, positives: int) -> float:
    """101-point interpolated AP of one class as in lvis-api and pycocotools; ``tp`` (n,) in score order."""
    if positives == 0:
        return 0.0 if len(tp) else 1.0
    at = np.flatnonzero(tp)
    true = np.arange(1, len(at) + 1, dtype=np.float64)
    envelope = np.maximum.accumulate((true / (at + 1 + np.spacing(1)))[::-1])[::-1]
    first = np.searchsorted(true / positives, RECALL_THRESHOLDS, side="left")
    return float(envelope[first[first < len(at)]].sum() / len(RECALL_THRESHOLDS))


def _shares(
    class_ap50: dict[str, Float64], detections: Participants, truth: Truth, errors: _Errors, members: Bool
) -> ErrorShares:
    kinds = errors.kind[members[detections.class_index]]
    counts = {kind: int(np.count_nonzero(kinds == code)) for code, kind in enumerate(ERRORS[:-1])}
    counts["miss"] = int(np.count_nonzero(errors.missed & members[truth.class_index]))
    defined = members & ~np.isnan(class_ap50["none"])
    if not defined.any():
        return ErrorShares(None, counts, dict.fromkeys(ORACLES))
    ap50 = float(class_ap50["none"][defined].mean())
    gains = {oracle: float(class_ap50[oracle][defined].mean()) - ap50 for oracle in ORACLES}
    return ErrorShares(ap50, counts, dict(gains))
