"""Phrase grounding: Recall@k by the ANY-BOX and MERGED-BOX rules of Flickr30k Entities, and RefCOCO's acc@0.5."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt

from ovd_bench.metrics.boxes import max_iou, xywh_to_xyxy
from ovd_bench.metrics.errors import DataError
from ovd_bench.metrics.types import MAX_COORDINATE, FloatArray, Ragged, positions

#: Number of highest-scoring boxes per phrase at which recall is reported.
RECALL_AT = (1, 5, 10)
#: A box hits when its IoU is at least this.
IOU_THRESHOLD = 0.5

Rule = Literal["any", "merged"]
RULES: tuple[Rule, ...] = ("any", "merged")

# Rows processed at a time: keeps temporaries small compared with the predictions.
_BLOCK = 1 << 20


@dataclass(frozen=True)
class GroundingTruth:
    """Phrases of a data set and the boxes they refer to, as columns (P phrases, N boxes).

    A phrase is one mention in one caption; the same words in another caption are another phrase.

    Attributes:
        phrase_ids: int64 (P,), strictly increasing.
        image_id: int64 (P,), image of the phrase.
        box_offsets: int64 (P + 1,), boxes of phrase ``i`` are rows ``box_offsets[i]:box_offsets[i + 1]``; none for a
            phrase that is not visible.
        boxes_xywh: float64 (N, 4), absolute pixels, finite, width and height not negative.
        type_names: names of the entity types (people, clothing …), or of the data sets if several are mixed.
        types: per phrase, positions in ``type_names``; a phrase may have several types or none.
    """

    phrase_ids: npt.NDArray[np.int64]
    image_id: npt.NDArray[np.int64]
    box_offsets: npt.NDArray[np.int64]
    boxes_xywh: npt.NDArray[np.float64]
    type_names: tuple[str, ...]
    types: Ragged

    def __post_init__(self) -> None:
        n = len(self.phrase_ids)
        if np.any(self.phrase_ids[1:] <= self.phrase_ids[:-1]):  # a difference could overflow
            raise DataError("GroundingTruth: phrase_ids must be strictly increasing")
        if len(self.image_id) != n or len(self.types) != n:
            raise DataError(f"GroundingTruth: image_id and types need one row per phrase ({n})")
        if self.box_offsets.shape != (n + 1,) or self.box_offsets[0] != 0 or np.any(np.diff(self.box_offsets) < 0):
            raise DataError(f"GroundingTruth: box_offsets must be {n + 1} numbers that start at 0 and do not decrease")
        if self.boxes_xywh.shape != (int(self.box_offsets[-1]), 4):
            raise DataError(
                f"GroundingTruth: boxes_xywh is {self.boxes_xywh.shape}, expected ({self.box_offsets[-1]}, 4)"
            )
        _check_finite("GroundingTruth", self.boxes_xywh)
        if np.any(self.boxes_xywh[:, 2:] < 0):
            row = int(np.argmax((self.boxes_xywh[:, 2:] < 0).any(axis=1)))
            raise DataError(f"GroundingTruth: box {row} has a negative width or height")
        values = self.types.values
        if len(values) and (values.min() < 0 or values.max() >= len(self.type_names)):
            raise DataError(f"GroundingTruth: types must lie in 0 … {len(self.type_names) - 1}")

    def __len__(self) -> int:
        return len(self.phrase_ids)


@dataclass(frozen=True)
class GroundingPredictions:
    """Boxes predicted for phrases, as columns (N rows, any order).

    Attributes:
        phrase_id: int64 (N,).
        score: float32 or float64 (N,), finite.
        boxes_xywh: float32 or float64 (N, 4), absolute pixels, finite.
    """

    phrase_id: npt.NDArray[np.int64]
    score: FloatArray
    boxes_xywh: FloatArray

    def __post_init__(self) -> None:
        n = len(self.phrase_id)
        if self.score.shape != (n,) or self.boxes_xywh.shape != (n, 4):
            raise DataError(
                f"GroundingPredictions: phrase_id has {n} rows, score is {self.score.shape}, "
                f"boxes_xywh is {self.boxes_xywh.shape}"
            )
        # min and max propagate NaN and need no temporary of the column's size
        if n and not (-np.inf < float(self.score.min()) and float(self.score.max()) < np.inf):
            row = int(np.argmin(np.isfinite(self.score)))
            raise DataError(
                f"GroundingPredictions: record {row}: score is {self.score[row]}, a finite number is needed"
            )
        _check_finite("GroundingPredictions", self.boxes_xywh)

    def __len__(self) -> int:
        return len(self.phrase_id)


@dataclass(frozen=True)
class GroundingResult:
    """Recall of P phrases.

    Attributes:
        metrics: ``grounding/R@k_any`` and ``grounding/R@k_merged`` for k in ``RECALL_AT``;
            ``grounding/upper_bound_any`` and ``…_merged``, recall of all predicted boxes whatever their rank;
            ``grounding/acc@0.5``, defined only where every scored phrase has exactly one box. The same with ``/<type>``
            appended for every entity type. None where undefined.
        phrase_ids: int64 (P,), all phrases of the ground truth.
        image_id: int64 (P,).
        scored: bool (P,), False for phrases without a box, which no figure counts.
        rank: per rule, int64 (P,): 1 + number of boxes of the phrase that rank above its first hit; 0 without a hit.
        notes: one-line remarks on what was left out or found odd.
    """

    metrics: dict[str, float | None]
    phrase_ids: npt.NDArray[np.int64]
    image_id: npt.NDArray[np.int64]
    scored: npt.NDArray[np.bool_]
    rank: dict[Rule, npt.NDArray[np.int64]]
    notes: tuple[str, ...]

    def hits(self, rule: Rule, k: int | None) -> npt.NDArray[np.bool_]:
        """Phrases hit by one of their first ``k`` boxes (None: by any box), bool (P,); what a bootstrap resamples."""
        return _hits(self.rank[rule], k)


def evaluate_grounding(truth: GroundingTruth, predictions: GroundingPredictions) -> GroundingResult:
    """Recall@k of phrase grounding.

    A phrase is hit at k when one of its k highest-scoring boxes (equal scores: earlier row first) has IoU >= 0.5 with

    * ANY-BOX: any ground-truth box of the phrase;
    * MERGED-BOX: the smallest box around all ground-truth boxes of the phrase.

    ``R@k = phrases hit at k / phrases with at least one ground-truth box``. Phrases without a box are left out, as
    both protocols do. A phrase with several entity types counts in the row of each and once in the overall figure. A
    scored phrase without a predicted box is a miss. With one box per phrase both rules agree, and R@1 is the
    referring-expression accuracy ``acc@0.5``.

    Source: Plummer et al., Flickr30k Entities (merged boxes); Kamath et al., MDETR, ``datasets/flickr_eval.py`` (both
    rules, types, upper bound). MDETR's ``datasets/refexp.py`` thresholds generalised IoU instead, which is never
    larger than IoU; here it is IoU, as in Kazemzadeh et al. 2014.

    Args:
        truth: P phrases.
        predictions: N boxes.

    Raises:
        DataError: a prediction for a phrase id that the ground truth does not have.
    """
    phrase_index = positions(truth.phrase_ids, predictions.phrase_id)
    if np.any(phrase_index < 0):
        row = int(np.argmin(phrase_index))
        raise DataError(f"record {row}: phrase_id {int(predictions.phrase_id[row])} is not in the ground truth")
    num_boxes = np.diff(truth.box_offsets)
    scored = num_boxes > 0

    hit = _hit_rows(truth, predictions, phrase_index)
    rank = {rule: _rank_of_first_hit(phrase_index, predictions.score, hit[rule], len(truth)) for rule in RULES}
    figures = {f"R@{k}_{rule}": _hits(rank[rule], k) for rule in RULES for k in RECALL_AT}
    figures |= {f"upper_bound_{rule}": _hits(rank[rule], None) for rule in RULES}
    metrics: dict[str, float | None] = {}
    for name, hits in figures.items():
        metrics |= _recalls(name, hits, scored, truth)
    accuracy = _recalls("acc@0.5", figures["R@1_any"], scored, truth)
    metrics |= dict.fromkeys(accuracy) if np.any(num_boxes > 1) else accuracy
    notes = _notes(scored, phrase_index, predictions)
    return GroundingResult(metrics, truth.phrase_ids, truth.image_id, scored, rank, notes)


def _hits(rank: npt.NDArray[np.int64], k: int | None) -> npt.NDArray[np.bool_]:
    return (rank > 0) if k is None else (rank > 0) & (rank <= k)


def _recalls(
    name: str, hits: npt.NDArray[np.bool_], scored: npt.NDArray[np.bool_], truth: GroundingTruth
) -> dict[str, float | None]:
    """Share of the scored phrases that were hit, over all of them and per entity type."""
    phrase, types, count = truth.types.row_index(), truth.types.values, len(truth.type_names)
    hit = [hits.sum(), *np.bincount(types[hits[phrase]], minlength=count)]
    total = [scored.sum(), *np.bincount(types[scored[phrase]], minlength=count)]
    keys = [f"grounding/{name}", *(f"grounding/{name}/{type_name}" for type_name in truth.type_names)]
    return {k: int(h) / int(t) if t else None for k, h, t in zip(keys, hit, total, strict=True)}


def _hit_rows(
    truth: GroundingTruth, predictions: GroundingPredictions, phrase_index: npt.NDArray[np.int32]
) -> dict[Rule, npt.NDArray[np.bool_]]:
    """Per rule, whether each predicted box overlaps its phrase enough; bool (N,)."""
    num_boxes = np.diff(truth.box_offsets)
    boxes = xywh_to_xyxy(truth.boxes_xywh)
    visible = np.flatnonzero(num_boxes > 0)
    starts = truth.box_offsets[visible]
    if len(visible):
        lower = np.minimum.reduceat(boxes[:, :2], starts, axis=0)
        upper = np.maximum.reduceat(boxes[:, 2:], starts, axis=0)
        merged = np.concatenate([lower, upper], axis=1)
    else:
        merged = boxes
    # phrases are grouped as images are for detections
    targets: dict[Rule, tuple[npt.NDArray[np.int64], npt.NDArray[np.float64]]] = {
        "any": (np.repeat(np.arange(len(truth)), num_boxes), boxes),
        "merged": (visible, merged),
    }
    hit: dict[Rule, npt.NDArray[np.bool_]] = {rule: np.empty(len(predictions), np.bool_) for rule in RULES}
    for start in range(0, len(predictions), _BLOCK):
        rows = slice(start, start + _BLOCK)
        candidates = xywh_to_xyxy(predictions.boxes_xywh[rows])
        for rule, (target_phrase, target_boxes) in targets.items():
            best, _ = max_iou(target_phrase, target_boxes, phrase_index[rows], candidates)
            hit[rule][rows] = best >= IOU_THRESHOLD
    return hit


def _rank_of_first_hit(
    phrase_index: npt.NDArray[np.int32], score: FloatArray, hit: npt.NDArray[np.bool_], num_phrases: int
) -> npt.NDArray[np.int64]:
    """Rank (from 1) of each phrase's highest-scoring hit among the boxes of the phrase, 0 without one; int64 (P,).

    Counting the boxes above the hit avoids sorting all N rows.
    """
    rows = np.flatnonzero(hit)
    best = np.full(num_phrases, -np.inf)
    np.maximum.at(best, phrase_index[rows], score[rows])
    rows = rows[score[rows] == best[phrase_index[rows]]]
    first = np.full(num_phrases, len(score))
    np.minimum.at(first, phrase_index[rows], rows)

    above = np.zeros(num_phrases, np.int64)
    for start in range(0, len(score), _BLOCK):
        phrases, scores = phrase_index[start : start + _BLOCK], score[start : start + _BLOCK]
        row = np.arange(start, start + len(scores))
        is_above = (scores > best[phrases]) | ((scores == best[phrases]) & (row < first[phrases]))
        above += np.bincount(phrases[is_above], minlength=num_phrases)
    return np.where(first < len(score), above + 1, 0)


def _notes(
    scored: npt.NDArray[np.bool_], phrase_index: npt.NDArray[np.int32], predictions: GroundingPredictions
) -> tuple[str, ...]:
    predicted = np.bincount(phrase_index, minlength=len(scored)) > 0
    empty = np.any(predictions.boxes_xywh[:, 2:] <= 0, axis=1)
    remarks = (
        (int(np.sum(~scored)), "phrases have no ground-truth box and are not scored"),
        (int(np.sum(scored & ~predicted)), "scored phrases have no predicted box and count as missed"),
        (int(np.sum(~scored[phrase_index])), "predicted boxes belong to phrases that are not scored"),
        (int(np.sum(empty)), "predicted boxes have no area and hit nothing"),
    )
    return tuple(f"{number} {text}" for number, text in remarks if number)


def _check_finite(owner: str, boxes: FloatArray) -> None:
    if len(boxes) and not (float(boxes.min()) > -MAX_COORDINATE and float(boxes.max()) < MAX_COORDINATE):
        row = int(np.argmin((np.abs(boxes) < MAX_COORDINATE).all(axis=1)))
        raise DataError(f"{owner}: box {row} is {boxes[row].tolist()}, four finite numbers are needed")
