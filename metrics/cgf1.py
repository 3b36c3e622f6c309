"""Classification-gated F1 of SAM 3: localisation in positive pairs times classification of presence.

Carion et al. 2025, "SAM 3: Segment Anything with Concepts"; reference repository facebookresearch/sam3,
``sam3/eval/cgf1_eval.py``, whose (image, noun phrase) unit is here a verified (image, class) pair. With the detections
of score >= θ:

* *pmF1* (positive micro F1): in every positive pair detections are assigned to ground truth one to one so that the sum
  of IoUs is largest; assigned pairs of IoU >= t are true positives, other detections false positives, other ground
  truth false negatives. pmF1 = 2 TP / (2 TP + FP + FN), counts summed over the positive pairs; mean over t = 0.50:0.95.
* *IL_MCC*: Matthews correlation, over all pairs, of "has a detection" and "is positive"; 0 if all pairs have a
  detection or none has, since that carries no information on presence. *IL_FPR*: share of negative pairs that have a
  detection.
* *cgF1* = pmF1 × IL_MCC.

Differences from the reference: no 1e-4 and 1e-6 in the denominators; a detection that would not count as a false
positive under the protocol (class not exhaustively annotated in the image; at least t of it inside a crowd, or IoU >= t
with another ignored ground truth) is not a false positive; the caps of the protocol apply. pmF1 ignores false positives
in negative pairs by design: read it together with IL_MCC.
"""

from __future__ import annotations

import ctypes
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from ovd_bench.metrics import native
from ovd_bench.metrics.matching import default_threads
from ovd_bench.metrics.participants import Float64, Int64, Participants, Truth, pair_keys
from ovd_bench.metrics.protocol import IOU_THRESHOLDS, Protocol
from ovd_bench.metrics.types import GroundTruth, positions

_SOURCE = Path(__file__).parent / "native" / "presence.cc"


@dataclass(frozen=True)
class CgF1:
    """Figures at one operating point; None where there are no positive or no negative pairs.

    Attributes:
        score_threshold: detections of at least this score count.
        il_mcc: Matthews correlation of presence.
        il_fpr: share of negative pairs with a detection.
        pm_f1: mean over IoU 0.50:0.95.
        cg_f1: ``pm_f1 * il_mcc``.
    """

    score_threshold: float
    il_mcc: float | None
    il_fpr: float | None
    pm_f1: float | None
    cg_f1: float | None


def cgf1(
    gt: GroundTruth,
    detections: Participants,
    truth: Truth,
    ignored: Truth,
    protocol: Protocol,
    *,
    positive_scores: Float64,
    negative_scores: Float64,
    negatives: int,
    score_threshold: float,
) -> tuple[CgF1, CgF1 | None]:
    """cgF1 at a threshold, and at the threshold where it is largest (of equal ones the highest).

    Args:
        gt: ground truth that the other arguments are taken from.
        detections: those that take part.
        truth: ground truth that has to be found.
        ignored: ground truth that may be found.
        protocol: rules.
        positive_scores: (p,), highest score of every positive pair that has a detection.
        negative_scores: (n,), the same of negative pairs.
        negatives: number of negative pairs, with a detection or without.
        score_threshold: operating point.

    Returns:
        The point at ``score_threshold`` and the best one, None where cgF1 is undefined or there are no detections.
    """
    keys = pair_keys(truth.image_index, truth.class_index, gt.num_classes)
    pairs = np.unique(keys)
    excuse = _Excuse.collect(gt, ignored, protocol, pairs)
    counts = _Counts.collect(gt, detections, truth, pairs, excuse)
    presence = _Presence(np.sort(positive_scores), len(pairs), np.sort(negative_scores), negatives)

    def point(threshold: float) -> CgF1:
        at = np.array([threshold])
        pm_f1 = float(counts.pm_f1(at)[0]) if len(pairs) else None
        il_mcc = float(presence.mcc(at)[0]) if len(pairs) and negatives else None
        il_fpr = float(presence.fpr(at)[0]) if negatives else None
        return CgF1(threshold, il_mcc, il_fpr, pm_f1, None if pm_f1 is None or il_mcc is None else pm_f1 * il_mcc)

    levels = np.unique(np.concatenate([counts.score, negative_scores]))
    if len(pairs) == 0 or negatives == 0 or len(levels) == 0:
        return point(score_threshold), None
    gated = counts.pm_f1(levels) * presence.mcc(levels)
    best = float(levels[len(levels) - 1 - np.argmax(gated[::-1])])
    return point(score_threshold), point(best)


@dataclass(frozen=True)
class _Presence:
    """Presence at a score threshold; scores ascending, of the pairs that have a detection."""

    positive: Float64
    positives: int
    negative: Float64
    negatives: int

    def _reached(self, score: Float64, thresholds: Float64) -> Float64:
        return (len(score) - np.searchsorted(score, thresholds, side="left")).astype(np.float64)

    def fpr(self, thresholds: Float64) -> Float64:
        return self._reached(self.negative, thresholds) / self.negatives

    def mcc(self, thresholds: Float64) -> Float64:
        tp, fp = self._reached(self.positive, thresholds), self._reached(self.negative, thresholds)
        fn, tn = self.positives - tp, self.negatives - fp
        norm = np.sqrt(tp + fp) * np.sqrt(fn + tn) * np.sqrt(float(self.positives)) * np.sqrt(float(self.negatives))
        mcc = np.zeros(len(thresholds))
        return np.divide(tp * tn - fp * fn, norm, out=mcc, where=norm > 0)


@dataclass(frozen=True)
class _Counts:
    """Box counts in positive pairs for every score threshold (n detections, T IoU thresholds).

    Attributes:
        score: float64 (n,), descending.
        tp, fp: int32 (T, n), counts over the detections up to and including this one; valid at the last of equal
            scores.
        truths: total number of ground truth boxes.
    """

    score: Float64
    tp: npt.NDArray[np.int32]
    fp: npt.NDArray[np.int32]
    truths: int

    @staticmethod
    def collect(gt: GroundTruth, detections: Participants, truth: Truth, pairs: Int64, excuse: _Excuse) -> _Counts:
        truth_pair = positions(pairs, pair_keys(truth.image_index, truth.class_index, gt.num_classes))
        pair = positions(pairs, pair_keys(detections.image_index, detections.class_index, gt.num_classes))
        # Detections of a class are sorted by descending score; a stable sort keeps this order inside a pair.
        order = np.argsort(pair, kind="stable")[np.count_nonzero(pair < 0) :]
        by_pair = np.argsort(truth_pair, kind="stable")
        edges = np.arange(len(pairs) + 1)
        offsets = np.searchsorted(pair[order], edges)
        boxes = detections.boxes_xyxy[order]
        tp, fp = _assign(
            np.searchsorted(truth_pair[by_pair], edges),
            truth.boxes_xyxy[by_pair],
            offsets,
            boxes,
            excuse.thresholds(offsets, boxes),
        )
        score = detections.score[order]
        by_score = np.argsort(-score, kind="stable")
        return _Counts(
            score[by_score],
            np.cumsum(tp[by_score].T, axis=1, dtype=np.int32),
            np.cumsum(fp[by_score].T, axis=1, dtype=np.int32),
            len(truth),
        )

    def pm_f1(self, thresholds: Float64) -> Float64:
        """pmF1 of the detections with at least these scores; float64 (len(thresholds),)."""
        count = np.searchsorted(-self.score, -thresholds, side="right")
        some = count > 0
        total = np.zeros(len(thresholds))
        for tp, fp in zip(self.tp, self.fp, strict=True):
            true = tp[count[some] - 1].astype(np.float64)
            total[some] += 2 * true / (true + fp[count[some] - 1] + self.truths)
        return total / len(self.tp)


@dataclass(frozen=True)
class _Excuse:
    """Reasons why an unassigned detection of a positive pair is not a false positive.

    Attributes:
        unclear: int64, pairs whose class is not exhaustively annotated in the image.
        pair: int64 (m,), pair of every ignored ground truth box.
        boxes_xyxy: float64 (m, 4).
        crowd: overlap is measured as share of the detection, else as IoU.
    """

    unclear: Int64
    pair: Int64
    boxes_xyxy: Float64
    crowd: bool

    @staticmethod
    def collect(gt: GroundTruth, ignored: Truth, protocol: Protocol, pairs: Int64) -> _Excuse:
        unclear = pair_keys(gt.not_exhaustive.row_index(), gt.not_exhaustive.values, gt.num_classes)
        pair = positions(pairs, pair_keys(ignored.image_index, ignored.class_index, gt.num_classes)).astype(np.int64)
        return _Excuse(
            unclear=np.flatnonzero(np.isin(pairs, unclear)) if protocol.federated else np.zeros(0, np.int64),
            pair=pair[pair >= 0],
            boxes_xyxy=ignored.boxes_xyxy[pair >= 0],
            crowd=not protocol.federated,
        )

    def thresholds(self, offsets: Int64, boxes_xyxy: Float64) -> Float64:
        """Highest IoU threshold at which each detection is excused, 0 if at none; pairs own ranges of detections."""
        excused = np.zeros(len(boxes_xyxy))
        for pair in self.unclear:
            excused[offsets[pair] : offsets[pair + 1]] = np.inf
        for pair, region in zip(self.pair, self.boxes_xyxy, strict=True):
            members = slice(offsets[pair], offsets[pair + 1])
            found = boxes_xyxy[members]
            corner = np.minimum(found[:, 2:], region[2:]) - np.maximum(found[:, :2], region[:2])
            overlap = np.prod(np.maximum(corner, 0), axis=1)
            whole = np.prod(found[:, 2:] - found[:, :2], axis=1)
            if not self.crowd:
                whole = whole + np.prod(region[2:] - region[:2]) - overlap
            covered = np.divide(overlap, whole, out=np.zeros(len(found)), where=overlap > 0)
            excused[members] = np.maximum(excused[members], covered)
        return excused


def _assign(
    truth_offsets: Int64, truth_boxes: Float64, offsets: Int64, boxes: Float64, excused: Float64
) -> tuple[npt.NDArray[np.int16], npt.NDArray[np.int16]]:
    """Change in true and false positives that each detection brings, int16 (n, T) both."""
    columns: list[npt.NDArray[Any]] = [
        np.ascontiguousarray(truth_offsets, np.int64),
        np.ascontiguousarray(truth_boxes, np.float64),
        np.ascontiguousarray(offsets, np.int64),
        np.ascontiguousarray(boxes, np.float64),
        np.ascontiguousarray(excused, np.float64),
        np.ascontiguousarray(IOU_THRESHOLDS, np.float64),
    ]
    changes: list[npt.NDArray[np.int16]] = [np.empty((len(boxes), len(IOU_THRESHOLDS)), np.int16) for _ in range(2)]
    pointers = [ctypes.c_void_p(array.ctypes.data) for array in [*columns, *changes]]
    library().ovd_assign(
        ctypes.c_int64(len(truth_offsets) - 1),
        *pointers[:5],
        ctypes.c_int32(len(IOU_THRESHOLDS)),
        pointers[5],
        ctypes.c_int32(default_threads()),
        *pointers[6:],
    )
    return changes[0], changes[1]


@cache
def library() -> ctypes.CDLL:
    """The native assignment, built on first use."""
    loaded = native.load("presence", (_SOURCE,))
    loaded.ovd_assign.restype = None
    return loaded
