"""Quality of a run on every image at its own operating point; images where runs differ most or are worst.

The operating point is the score threshold at which F1 over the data set is highest: IoU 0.5, one threshold for all
classes. The rules of the protocol apply: under LVIS rules detections of classes that are unverified in the image are
not shown, and those that the rules excuse are neither correct nor wrong.

*Quality* of a run on an image is its F1 there at that point, 1 without objects and detections.
*Disagreement* is the largest difference of quality between two of the runs.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ovd_bench.metrics.errors import DataError
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
from ovd_bench.metrics.types import GroundTruth, Predictions

IOU = 0.5


@dataclass(frozen=True)
class MatchedRun:
    """One run at its operating point (n detections, g ground truth boxes, I images).

    Attributes:
        name: name of the run.
        threshold: minimum score of shown detections; inf if showing none is best.
        f1: over the data set; None without ground truth.
        detections: those that count under the protocol, at any score.
        truth: ground truth that has to be found.
        found: int64 (n,), row of ``truth`` that the detection matches, -1 where none.
        class_filter: only this class counts; None = all.
    """

    name: str
    threshold: float
    f1: float | None
    detections: Participants
    truth: Truth
    found: Int64
    class_filter: int | None = None

    @property
    def finite_threshold(self) -> float | None:
        """The threshold, None if showing nothing is best."""
        return None if np.isinf(self.threshold) else self.threshold

    @property
    def shown(self) -> Bool:
        """Detections at the operating point, bool (n,)."""
        shown: Bool = self.detections.score >= self.threshold
        if self.class_filter is not None:
            shown &= self.detections.class_index == self.class_filter
        return shown

    @property
    def wanted(self) -> Bool:
        """Ground truth that counts, bool (g,)."""
        wanted: Bool = np.ones(len(self.truth), np.bool_)
        if self.class_filter is not None:
            wanted &= self.truth.class_index == self.class_filter
        return wanted

    @property
    def missed(self) -> Bool:
        """Ground truth that no shown detection matches, bool (g,)."""
        missed = self.wanted
        missed[self.found[self.shown & (self.found >= 0)]] = False
        return missed

    def quality(self, images: int) -> Float64:
        """F1 per image, float64 (I,)."""
        shown = self.shown
        right = shown & (self.found >= 0)
        wrong = shown & (self.found < 0) & ~self.detections.excused
        tp, fp = (np.bincount(self.detections.image_index[rows], minlength=images) for rows in (right, wrong))
        fn = np.bincount(self.truth.image_index[self.missed], minlength=images)
        quality = np.ones(images)
        np.divide(2 * tp, 2 * tp + fp + fn, out=quality, where=tp + fp + fn > 0)
        return quality


def match_run(
    name: str,
    gt: GroundTruth,
    predictions: Predictions,
    protocol: Protocol,
    *,
    images: Bool | None = None,
    class_filter: int | None = None,
) -> MatchedRun:
    """Match a run and find its operating point.

    Args:
        name: name of the run.
        gt: ground truth.
        predictions: predictions of the run.
        protocol: rules that decide what counts.
        images: bool (I,), images that the run covers; None = all.
        class_filter: position of the only class to show; the operating point is still that of all classes.

    Raises:
        DataError: the predictions do not fit the ground truth.
    """
    detections = participants(gt, predictions, protocol)
    truth, _ = select_truth(gt, protocol)
    if images is not None:
        inside = images[truth.image_index]
        truth = Truth(truth.row[inside], truth.image_index[inside], truth.class_index[inside], truth.boxes_xyxy[inside])
    found = match_by_class(detections, truth, IOU)
    threshold, f1 = best_f1(detections.score, found >= 0, detections.excused & (found < 0), len(truth))
    return MatchedRun(name, threshold, f1, detections, truth, found, class_filter)


def best_f1(score: Float64, right: Bool, excused: Bool, positives: int) -> tuple[float, float | None]:
    """Score threshold with the highest F1, the higher one on a tie, and that F1; (inf, None) without positives."""
    if positives == 0:
        return np.inf, None
    order = np.argsort(-score, kind="stable")
    score, right, counted = score[order], right[order], ~excused[order]
    tp, claimed = np.cumsum(right), np.cumsum(counted)
    f1 = 2 * tp / (claimed + positives)  # TP + FP = claimed, TP + FN = positives
    last_of_score = np.append(score[1:] != score[:-1], True)[: len(score)]
    f1, score = f1[last_of_score], score[last_of_score]
    if len(f1) == 0 or f1.max() == 0:
        return np.inf, 0.0
    best = int(np.argmax(f1))
    return float(score[best]), float(f1[best])


def choose_disagreed(matched: Sequence[MatchedRun], images: int, count: int, candidates: Bool) -> list[int]:
    """Positions of the images on which the runs disagree most, one after the other, varied in their classes.

    An object counts 4 p (1 - p), where p is the share of the runs that find it: 1 if half of them do, 0 if they agree.
    The sum over an image grows with its objects and does not saturate with many runs, as the largest difference of two
    does. An object counts less by the number of chosen images in which its class was disputed before: 1/2, 1/3 …
    The spread of F1, which false alarms raise too, decides between equal sums, and then the lower position.

    Args:
        matched: the runs; all have the same ground truth.
        images: number of images I.
        count: maximum number of positions.
        candidates: bool (I,), images that may be chosen.

    Raises:
        DataError: there is no candidate.
    """
    left = _checked(candidates)
    truth = matched[0].truth
    found = np.mean([run.wanted & ~run.missed for run in matched], axis=0)
    disputed = 4 * found * (1 - found)
    spread = np.std([run.quality(images) for run in matched], axis=0)
    before = np.zeros(int(truth.class_index.max(initial=-1)) + 1)
    chosen: list[int] = []
    while len(chosen) < count and left.any():
        weight = disputed / (1 + before[truth.class_index])
        measure = np.bincount(truth.image_index, weight, minlength=images) + spread
        best = int(np.argmax(np.where(left, measure, -1)))
        chosen.append(best)
        left[best] = False
        before[np.unique(truth.class_index[(truth.image_index == best) & (disputed > 0)])] += 1
    return chosen


def badness(matched: Sequence[MatchedRun], images: int) -> Float64:
    """One minus the mean quality of the runs on every image, float64 (I,)."""
    mean: Float64 = np.mean([run.quality(images) for run in matched], axis=0)
    return 1 - mean


def choose(measure: Float64, count: int, candidates: Bool) -> list[int]:
    """Positions of the images with the highest measure, the lower position first on a tie.

    Raises:
        DataError: there is no candidate.
    """
    positions = np.flatnonzero(_checked(candidates))
    order = np.argsort(-measure[positions], kind="stable")
    return [int(position) for position in positions[order[:count]]]


def _checked(candidates: Bool) -> Bool:
    if not candidates.any():
        raise DataError("no image to show: the runs cover none that fits the options")
    return candidates.copy()


def candidates_of(matched: Sequence[MatchedRun], images: int) -> Bool:
    """Images with counted annotations or shown detections."""
    candidates = np.zeros(images, np.bool_)
    for run in matched:
        candidates[run.truth.image_index[run.wanted]] = True
        candidates[run.detections.image_index[run.shown]] = True
    return candidates
