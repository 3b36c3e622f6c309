"""Localisation-recall-precision error and the score threshold of each class at which it is smallest.

Oksuz et al. 2021, "One Metric to Measure them All: Localisation Recall Precision (LRP) for Evaluating Visual Detection
Tasks", sections 4.1 and 4.3. For the detections of a class with score >= s

    LRP(s) = (Σ_TP (1 - IoU) / (1 - τ) + FP + FN) / (TP + FP + FN),   τ = 0.5,

and oLRP is its minimum over s, over all scores that occur and over "no detections at all" (LRP 1).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ovd_bench.metrics.participants import Bool, Float64, Int64

#: IoU from which a detection is a true positive.
TAU = 0.5


@dataclass(frozen=True)
class OptimalLrp:
    """oLRP of every class (K classes); NaN for classes without ground truth.

    Attributes:
        threshold: float64 (K,), the highest score threshold that reaches the minimum; inf if the minimum is at
            "no detections at all".
        lrp: float64 (K,), error in [0, 1].
    """

    threshold: Float64
    lrp: Float64


def optimal_lrp(offsets: Int64, score: Float64, tp: Bool, iou: Float64, positives: Int64) -> OptimalLrp:
    """Smallest LRP of every class and where it is reached.

    Args:
        offsets: int64 (K + 1,), class k owns rows ``offsets[k]:offsets[k + 1]``.
        score: float64 (n,), descending inside a class.
        tp: bool (n,), true positive at IoU ``TAU``, else false positive.
        iou: float64 (n,), IoU with the matched ground truth; read where ``tp``.
        positives: int64 (K,), ground truth boxes per class.
    """
    threshold, lrp = np.full(len(positives), np.nan), np.full(len(positives), np.nan)
    for k in np.flatnonzero(positives):
        rows = slice(offsets[k], offsets[k + 1])
        true = np.cumsum(tp[rows])
        found = np.arange(1, len(true) + 1)
        misplaced = np.cumsum(np.where(tp[rows], (1 - iou[rows]) / (1 - TAU), 0.0))
        # FP = found - true, FN = positives - true
        error = (misplaced + found + positives[k] - 2 * true) / (found + positives[k] - true)
        last_of_score = np.append(score[rows][1:] != score[rows][:-1], True)[: len(true)]
        error, at = np.append(1.0, error[last_of_score]), np.append(np.inf, score[rows][last_of_score])
        best = int(np.argmin(error))
        threshold[k], lrp[k] = at[best], error[best]
    return OptimalLrp(threshold, lrp)
