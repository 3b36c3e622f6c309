"""Presence: classification of (image, class) pairs as present or absent by the scores of a detector.

The unit is a verified (image, class) pair, its score the highest score of the class's detections in the image.

* *positive*: the class has ground truth in the image that must be found;
* *negative*: the class is verified absent: on exhaustive data (COCO rules) every other class, on federated data
  (LVIS rules) the classes of ``neg_category_ids``;
* *left out*: the class is present, but only as ground truth that the protocol ignores (crowd, ``ignore`` field); or it
  is listed both as absent and as not exhaustively annotated, which is contradictory.

A negative is *hard* if a sibling of its class is in the image: a positive pair whose class has the same group number.
Hard figures rank all positives against the hard negatives only.

AUROC = (#{positive scores higher than negative} + ½ #{equal}) / (positives × negatives), an exact rank statistic. Pairs
without any detection have the lowest score and are tied among themselves. FPR95 is the share of negatives that score at
least θ, where θ is the largest positive score that at least 95 % of the positives reach, that is the ⌈0.95 P⌉-th
highest; if fewer than that have a detection, θ is below everything and FPR95 is 1. *Pooled* figures put all pairs into
one ranking and need scores that are comparable between classes; *macro* figures are means over the classes that have
positives and negatives.

At an operating point (score ≥ θ): IL_FPR, the share of negatives with a detection; IL_MCC, Matthews correlation of
"has a detection" and "is there"; and pmF1 and cgF1 = pmF1 × IL_MCC, see ``metrics.cgf1``.

Only detections that take part under the protocol are used, after its caps: under ``lvis`` a class has no score if the
300 detections of the image are of other classes.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from ovd_bench.metrics.cgf1 import CgF1, cgf1
from ovd_bench.metrics.errors import DataError
from ovd_bench.metrics.participants import (
    Bool,
    Float64,
    Int64,
    Participants,
    Truth,
    pair_keys,
    participants,
    select_truth,
)
from ovd_bench.metrics.protocol import Protocol
from ovd_bench.metrics.types import GroundTruth, IntArray, Predictions

#: Operating point of SAM 3's evaluator.
SCORE_THRESHOLD = 0.5


@dataclass(frozen=True)
class RocCurve:
    """Receiver operating characteristic of pooled pairs; one point per distinct score, scores descending.

    Attributes:
        threshold: float64 (n,), the last is -inf: every pair, with a detection or without.
        tpr: float64 (n,), share of positives with a score >= threshold.
        fpr: float64 (n,), share of negatives.
    """

    threshold: Float64
    tpr: Float64
    fpr: Float64


@dataclass(frozen=True)
class Separation:
    """How well scores separate positive from one kind of negative pairs (K classes); None and NaN where undefined.

    Attributes:
        negatives: number of negative pairs.
        auroc: pooled.
        auroc_macro: mean over classes.
        fpr95: pooled.
        fpr95_macro: mean over classes.
        class_auroc: float64 (K,).
        roc: the pooled curve.
    """

    negatives: int
    auroc: float | None
    auroc_macro: float | None
    fpr95: float | None
    fpr95_macro: float | None
    class_auroc: Float64
    roc: RocCurve | None


@dataclass(frozen=True)
class PresenceResult:
    """Presence figures of one set of predictions.

    Attributes:
        positives: number of positive pairs.
        random: against all verified negatives.
        hard: against negatives with a sibling in the image; None without groups.
        operating: figures at the stated score threshold.
        best: the same at the threshold that maximises cgF1 on the same data: optimistic, and only comparable with
            other such maxima. None where cgF1 is undefined.
    """

    positives: int
    random: Separation
    hard: Separation | None
    operating: CgF1
    best: CgF1 | None

    @property
    def metrics(self) -> dict[str, float | None]:
        """Flat numbers, keys such as ``presence/auroc``, ``presence/fpr95_hard``, ``presence/cgF1_best``."""
        flat: dict[str, float | None] = {"presence/positives": self.positives}
        for suffix, kind in (("", self.random), ("_hard", self.hard)):
            for name in ("auroc", "auroc_macro", "fpr95", "fpr95_macro", "negatives"):
                flat[f"presence/{name}{suffix}"] = getattr(kind, name, None)
        for suffix, point in (("", self.operating), ("_best", self.best)):
            for key, name in (
                ("score_threshold", "score_threshold"),
                ("IL_MCC", "il_mcc"),
                ("IL_FPR", "il_fpr"),
                ("pmF1", "pm_f1"),
                ("cgF1", "cg_f1"),
            ):
                flat[f"presence/{key}{suffix}"] = getattr(point, name, None)
        return flat


def presence(
    gt: GroundTruth,
    predictions: Predictions,
    protocol: Protocol,
    groups: IntArray | None = None,
    *,
    score_threshold: float = SCORE_THRESHOLD,
) -> PresenceResult:
    """Presence and hallucination figures; definitions are those of this module's docstring.

    Args:
        gt: ground truth with K classes.
        predictions: detections of the same data set.
        protocol: rules and caps.
        groups: int (K,), classes of the same non-negative number are siblings (e.g. the clusters of a rung of the
            granularity ladder); None leaves the hard figures undefined.
        score_threshold: operating point of IL_MCC, IL_FPR, pmF1 and cgF1.

    Raises:
        DataError: ``groups`` is not of length K; or see ``metrics.matching.match``.
    """
    if groups is not None and groups.shape != (gt.num_classes,):
        raise DataError(f"presence: groups has shape {groups.shape}, expected ({gt.num_classes},), one per class")
    detections = participants(gt, predictions, protocol)
    truth, ignored = select_truth(gt, protocol)
    pairs = _Pairs.collect(gt, detections, truth, ignored, protocol)
    operating, best = cgf1(
        gt,
        detections,
        truth,
        ignored,
        protocol,
        positive_scores=pairs.positive_score,
        negative_scores=pairs.negative_score,
        negatives=int(pairs.negatives.sum()),
        score_threshold=score_threshold,
    )
    return PresenceResult(
        positives=int(pairs.positives.sum()),
        random=_separate(pairs),
        hard=None if groups is None else _separate(pairs.with_sibling(gt, groups, protocol)),
        operating=operating,
        best=best,
    )


@dataclass(frozen=True)
class _Pairs:
    """Pairs by class (K classes); those with a detection one by one, all of them as counts.

    Attributes:
        positive_keys: int64 (p,), sorted keys of all positive pairs.
        left_out_keys: int64, sorted keys of pairs that are neither positive nor negative.
        positive_class, positive_score: int64, float64; positive pairs with a detection.
        negative_key, negative_class, negative_score: int64, int64, float64; negative pairs with a detection.
        positives, negatives: int64 (K,), number of pairs, with a detection or without.
    """

    positive_keys: Int64
    left_out_keys: Int64
    positive_class: Int64
    positive_score: Float64
    negative_key: Int64
    negative_class: Int64
    negative_score: Float64
    positives: Int64
    negatives: Int64

    @staticmethod
    def collect(gt: GroundTruth, detections: Participants, truth: Truth, ignored: Truth, protocol: Protocol) -> _Pairs:
        classes = gt.num_classes
        positive = np.unique(pair_keys(truth.image_index, truth.class_index, classes))
        left_out = pair_keys(ignored.image_index, ignored.class_index, classes)
        if protocol.federated:
            unclear = pair_keys(gt.not_exhaustive.row_index(), gt.not_exhaustive.values, classes)
            left_out = np.concatenate([left_out, unclear])
        left_out = np.setdiff1d(left_out, positive)

        # Detections of a class are sorted by descending score: the first of a pair is its best.
        keys, best = np.unique(pair_keys(detections.image_index, detections.class_index, classes), return_index=True)
        score = detections.score[best]
        is_positive = np.isin(keys, positive)
        is_negative = ~is_positive & np.isin(keys, left_out, invert=True)
        return _Pairs(
            positive_keys=positive,
            left_out_keys=left_out,
            positive_class=keys[is_positive] % classes,
            positive_score=score[is_positive],
            negative_key=keys[is_negative],
            negative_class=keys[is_negative] % classes,
            negative_score=score[is_negative],
            positives=np.bincount(positive % classes, minlength=classes),
            negatives=_per_class(_listed_negatives(gt, positive, left_out), classes)
            if protocol.federated
            else gt.num_images - _per_class(positive, classes) - _per_class(left_out, classes),
        )

    def with_sibling(self, gt: GroundTruth, groups: IntArray, protocol: Protocol) -> _Pairs:
        """The same positives and only the hard negatives."""
        classes = gt.num_classes
        span = int(groups.max(initial=0)) + 1
        grouped = self.positive_keys[groups[self.positive_keys % classes] >= 0]
        present = np.unique(pair_keys(grouped // classes, groups[grouped % classes], span))

        def sibling_there(keys: Int64) -> Bool:
            group = groups[keys % classes]
            there: Bool = (group >= 0) & np.isin(pair_keys(keys // classes, group, span), present)
            return there

        if protocol.federated:
            listed = _listed_negatives(gt, self.positive_keys, self.left_out_keys)
            negatives = _per_class(listed[sibling_there(listed)], classes)
        else:  # images with the group are negatives, except those with the class itself or with the class left out
            images = np.append(np.bincount(present % span, minlength=span), 0)[np.maximum(groups, -1)]
            left_out = self.left_out_keys[sibling_there(self.left_out_keys)]
            negatives = images - _per_class(grouped, classes) - _per_class(left_out, classes)
        hard = sibling_there(self.negative_key)
        return _Pairs(
            self.positive_keys,
            self.left_out_keys,
            self.positive_class,
            self.positive_score,
            self.negative_key[hard],
            self.negative_class[hard],
            self.negative_score[hard],
            self.positives,
            negatives,
        )


def _listed_negatives(gt: GroundTruth, positive: Int64, left_out: Int64) -> Int64:
    listed = np.unique(pair_keys(gt.neg.row_index(), gt.neg.values, gt.num_classes))
    return listed[np.isin(listed, positive, invert=True) & np.isin(listed, left_out, invert=True)]


def _per_class(keys: Int64, classes: int) -> Int64:
    return np.bincount(keys % classes, minlength=classes)


def _separate(pairs: _Pairs) -> Separation:
    positives, negatives = int(pairs.positives.sum()), int(pairs.negatives.sum())
    classes = len(pairs.positives)
    class_auroc, class_fpr95 = np.full(classes, np.nan), np.full(classes, np.nan)
    positive, negative = (
        _by_class(label, score, classes)
        for label, score in (
            (pairs.positive_class, pairs.positive_score),
            (pairs.negative_class, pairs.negative_score),
        )
    )
    for k in np.flatnonzero((pairs.positives > 0) & (pairs.negatives > 0)):
        p, n = int(pairs.positives[k]), int(pairs.negatives[k])
        class_auroc[k] = _auroc(positive[k], p, negative[k], n)
        class_fpr95[k] = _fpr95(positive[k], p, negative[k], n)
    defined = positives > 0 and negatives > 0
    pooled, others = np.sort(pairs.positive_score), np.sort(pairs.negative_score)
    return Separation(
        negatives=negatives,
        auroc=_auroc(pooled, positives, others, negatives) if defined else None,
        auroc_macro=_mean(class_auroc),
        fpr95=_fpr95(pooled, positives, others, negatives) if defined else None,
        fpr95_macro=_mean(class_fpr95),
        class_auroc=class_auroc,
        roc=_roc(pooled, positives, others, negatives) if defined else None,
    )


def _by_class(label: Int64, score: Float64, classes: int) -> list[Float64]:
    """Scores of every class, each list ascending."""
    order = np.lexsort((score, label))
    return np.split(score[order], np.searchsorted(label[order], np.arange(1, classes)))


def _auroc(positive: Float64, positives: int, negative: Float64, negatives: int) -> float:
    """AUROC from the ascending scores of the pairs with a detection and the numbers of all pairs; exact integers."""
    silent_positives, silent_negatives = positives - len(positive), negatives - len(negative)
    below = np.searchsorted(negative, positive, side="left")
    up_to = np.searchsorted(negative, positive, side="right")
    twice = int(below.sum()) + int(up_to.sum()) + silent_negatives * (2 * len(positive) + silent_positives)
    return twice / (2 * positives * negatives)


def _fpr95(positive: Float64, positives: int, negative: Float64, negatives: int) -> float:
    """FPR at 95 % TPR from ascending scores, see the module's docstring."""
    needed = -(-19 * positives // 20)
    if needed > len(positive):
        return 1.0
    return int(len(negative) - np.searchsorted(negative, positive[-needed], side="left")) / negatives


def _roc(positive: Float64, positives: int, negative: Float64, negatives: int) -> RocCurve:
    threshold: npt.NDArray[np.float64] = np.unique(np.concatenate([positive, negative]))[::-1]
    tpr, fpr = (
        np.append(len(score) - np.searchsorted(score, threshold, side="left"), total) / total
        for score, total in ((positive, positives), (negative, negatives))
    )
    return RocCurve(np.append(threshold, -np.inf), tpr, fpr)


def _mean(values: Float64) -> float | None:
    defined = values[~np.isnan(values)]
    return float(defined.mean()) if len(defined) else None
