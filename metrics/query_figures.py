"""Figures of queries: are the boxes of a text found, and is it told when a text means nothing?

Figures of ``evaluate_queries``, of the queries that have a box unless stated otherwise:

* ``queries/R@k_any``, ``R@k_merged``, ``acc@0.5`` …: those of ``metrics.grounding``, with other first words.
* ``queries/mIoU``: mean, over the queries, of the IoU of the highest-scoring box with the box that it overlaps most; 0
  without a box.
* ``queries/fpr95``: share of the queries known to be absent whose highest score is at least θ, where θ is the highest
  score that 95 % of the present queries reach, that is the ⌈0.95 P⌉-th highest; 1 if fewer have a box at all.
* ``queries/auroc``: chance that a present query has a higher score than an absent one, ties count half. A query
  without a box has the lowest score.
* ``queries/presence_ece``, ``queries/presence_brier``: calibration of the highest score (0 without a box) as the
  probability that the query is present, in ten bins of equal width; only for scores in 0 … 1.

Each is also given per kind of query, as ``queries/acc@0.5/KIND``. ``fpr95/KIND`` compares all present queries with the
absent ones of the kind.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial

import numpy as np
import numpy.typing as npt

from ovd_bench.metrics.bootstrap import bootstrap_ratio
from ovd_bench.metrics.boxes import max_iou, xywh_to_xyxy
from ovd_bench.metrics.grounding import (
    RECALL_AT,
    RULES,
    GroundingPredictions,
    GroundingTruth,
    evaluate_grounding,
)
from ovd_bench.metrics.intervals import ClassValues, Estimate
from ovd_bench.metrics.queries import Queries
from ovd_bench.metrics.types import FloatArray, Predictions, positions

Bool = npt.NDArray[np.bool_]
Float64 = npt.NDArray[np.float64]
Int64 = npt.NDArray[np.int64]
#: Terms per image of a figure that is a sum over images divided by a sum over images.
Share = tuple[Float64, Float64]
#: A figure on resamples of the images: from weights uint8 (n, I) to float64 (n,), NaN where it is undefined.
Resampled = Callable[[npt.NDArray[np.uint8]], Float64]

PRESENCE_BINS = 10


@dataclass(frozen=True)
class QueryResult:
    """Figures of a set of predictions; see the module's docstring.

    Attributes:
        metrics: flat; None where undefined.
        shares: terms per image (I,) of the figures that are a sum over images divided by a sum over images, for the
            bootstrap.
        resampled: other figures for the bootstrap, each with the number of images that it is computed over.
        notes: one-line remarks.
    """

    metrics: dict[str, float | None]
    shares: dict[str, Share] = field(default_factory=dict)
    resampled: dict[str, tuple[Resampled, int]] = field(default_factory=dict)
    notes: tuple[str, ...] = ()

    def estimates(self, weights: npt.NDArray[np.uint8]) -> dict[str, Estimate]:
        """Every figure that is defined and can be resampled, for weights (n, I) of ``resample_weights``."""
        found = {}
        for name, (above, below) in self.shares.items():
            if (value := self.metrics[name]) is not None:
                images = ClassValues.alone(value, int(np.count_nonzero(below)))
                found[name] = Estimate(value, bootstrap_ratio(weights, above, below), images)
        for name, (figure, count) in self.resampled.items():
            if (value := self.metrics[name]) is not None:
                found[name] = Estimate(value, figure(weights), ClassValues.alone(value, count))
        return found


def evaluate_queries(queries: Queries, predictions: Predictions) -> QueryResult:
    """Score boxes that were given for questions.

    Args:
        queries: what was asked.
        predictions: category ids are those of ``queries.truth``. Boxes of an (image, question) pair that nobody asked
            are left out and told.
    """
    row, query = _rows_of_queries(queries, predictions)
    unasked = len(predictions) - len(np.unique(row))
    known = queries.present | queries.absent
    row, query = row[known[query]], query[known[query]]
    truth = GroundingTruth(
        queries.query_ids,
        queries.truth.image_ids[queries.image_index],
        queries.box_offsets,
        queries.boxes_xywh,
        queries.kind_names,
        queries.kinds,
    )
    boxes = np.stack([predictions.x[row], predictions.y[row], predictions.w[row], predictions.h[row]], axis=1)
    score = predictions.score[row]
    grounding = evaluate_grounding(truth, GroundingPredictions(queries.query_ids[query], score, boxes))
    metrics = {name.replace("grounding/", "queries/", 1): value for name, value in grounding.metrics.items()}
    per_query: dict[str, Float64] = {
        f"R@{k}_{rule}": grounding.hits(rule, k).astype(np.float64) for rule in RULES for k in RECALL_AT
    }
    if metrics["queries/acc@0.5"] is not None:
        per_query["acc@0.5"] = per_query["R@1_any"]
    first = _first_rows(query, score, len(queries))
    per_query["mIoU"] = _overlap(queries, boxes, first)
    shares: dict[str, Share] = {}
    for suffix, member in _kinds(queries):
        chosen = queries.present & member
        total = _sums(queries, chosen.astype(np.float64))
        for name, values in per_query.items():
            shares[f"queries/{name}{suffix}"] = (_sums(queries, values * chosen), total)
    metrics |= {
        name: float(above.sum() / below.sum()) if below.any() else None
        for name, (above, below) in shares.items()
        if "/mIoU" in name
    }
    highest = np.full(len(queries), -np.inf)
    highest[first >= 0] = score[first[first >= 0]]
    resampled: dict[str, tuple[Resampled, int]] = {}
    for name, pairs, images in _presence(queries, highest):
        for figure, value in (("fpr95", pairs.fpr95), ("auroc", pairs.auroc)):
            metrics[f"queries/{figure}{name}"] = value
            if value is not None:
                resampled[f"queries/{figure}{name}"] = (partial(pairs.resampled, figure), images)
    metrics |= _calibration(queries, highest)
    remarks = (
        (unasked, "boxes answer what was not asked of their image: left out"),
        (int(np.sum(~known)), "queries have no box and are not known to be absent: not scored"),
        (int(np.sum(queries.present & (first < 0))), "queries with a true box got none: missed"),
    )
    return QueryResult(metrics, shares, resampled, tuple(f"{number:,} {text}" for number, text in remarks if number))


def _rows_of_queries(queries: Queries, predictions: Predictions) -> tuple[Int64, Int64]:
    """Pairs of a prediction row and a query that it answers, in the order of the predictions."""
    truth = queries.truth
    image = positions(truth.image_ids, predictions.image_id).astype(np.int64)
    question = positions(truth.categories.ids, predictions.category_id).astype(np.int64)
    key = np.where((image < 0) | (question < 0), -1, image * len(truth.categories) + question)
    asked = queries.image_index.astype(np.int64) * len(truth.categories) + queries.question
    order = np.argsort(asked, kind="stable")
    begin = np.searchsorted(asked[order], key, side="left")
    count = np.searchsorted(asked[order], key, side="right") - begin
    row = np.repeat(np.arange(len(key)), count)
    within = np.arange(len(row)) - np.repeat(np.cumsum(count) - count, count)
    return row, order[np.repeat(begin, count) + within]


def _first_rows(query: Int64, score: FloatArray, count: int) -> Int64:
    """Per query the row of its highest score, of equal scores the earliest; -1 without a row."""
    order = np.lexsort((np.arange(len(query)), -score, query))
    answered, start = np.unique(query[order], return_index=True)
    first = np.full(count, -1, np.int64)
    first[answered] = order[start]
    return first


def _overlap(queries: Queries, boxes_xywh: FloatArray, first: Int64) -> Float64:
    """Per query the largest IoU of its first box with one of its true boxes; 0 where there is none."""
    answered = np.flatnonzero(first >= 0)
    owner = np.repeat(np.arange(len(queries)), np.diff(queries.box_offsets))
    best, _ = max_iou(
        owner, xywh_to_xyxy(queries.boxes_xywh), answered.astype(np.int32), xywh_to_xyxy(boxes_xywh[first[answered]])
    )
    overlap = np.zeros(len(queries))
    overlap[answered] = best
    return overlap


def _sums(queries: Queries, values: Float64) -> Float64:
    """Sum of the values of the queries (Q,) of each image, float64 (I,)."""
    sums = np.zeros(queries.truth.num_images)
    np.add.at(sums, queries.image_index, values)
    return sums


def _kinds(queries: Queries) -> Iterator[tuple[str, Bool]]:
    """Suffix of the figures and members (Q,): all queries, then those of each kind."""
    yield "", np.ones(len(queries), np.bool_)
    owner = queries.kinds.row_index()
    for number, name in enumerate(queries.kind_names):
        member = np.zeros(len(queries), np.bool_)
        member[owner[queries.kinds.values == number]] = True
        yield f"/{name}", member


@dataclass(frozen=True)
class _Separation:
    """Highest scores of P present and N absent queries, ascending, and the positions of their images."""

    positive: Float64
    positive_image: Int64
    negative: Float64
    negative_image: Int64

    @property
    def fpr95(self) -> float | None:
        """See the module's docstring; None without a query of either sort."""
        return self._value("fpr95")

    @property
    def auroc(self) -> float | None:
        """See the module's docstring; None without a query of either sort."""
        return self._value("auroc")

    def _value(self, figure: str) -> float | None:
        images = int(max(self.positive_image.max(initial=0), self.negative_image.max(initial=0))) + 1
        value = float(self.resampled(figure, np.ones((1, images), np.uint8))[0])
        return None if np.isnan(value) else value

    def resampled(self, figure: str, weights: npt.NDArray[np.uint8]) -> Float64:
        """A figure for each row of weights (n, I) of the images; NaN where nothing of either sort was drawn."""
        compute = self._fpr95 if figure == "fpr95" else self._auroc
        parts = [compute(weights[first : first + 64]) for first in range(0, len(weights), 64)]  # memory
        return np.concatenate(parts) if parts else np.empty(0)

    def _fpr95(self, weights: npt.NDArray[np.uint8]) -> Float64:
        positive = weights[:, self.positive_image[::-1]].astype(np.int64)
        negative = weights[:, self.negative_image].astype(np.int64)
        total, reached = positive.sum(axis=1), positive.cumsum(axis=1)
        needed = -(-19 * total // 20)
        row = np.minimum((reached < needed[:, None]).sum(axis=1), max(len(self.positive) - 1, 0))
        threshold = self.positive[::-1][row] if len(self.positive) else np.full(len(weights), np.nan)
        from_here = np.searchsorted(self.negative, threshold, side="left")
        below = np.concatenate([np.zeros((len(weights), 1), np.int64), negative.cumsum(axis=1)], axis=1)
        wrong = below[:, -1] - below[np.arange(len(weights)), from_here]
        with np.errstate(invalid="ignore", divide="ignore"):
            share = np.where(threshold == -np.inf, 1.0, wrong / below[:, -1])
        return np.where((total > 0) & (below[:, -1] > 0), share, np.nan)

    def _auroc(self, weights: npt.NDArray[np.uint8]) -> Float64:
        positive = weights[:, self.positive_image].astype(np.float64)
        negative = weights[:, self.negative_image].astype(np.float64)
        up_to = np.concatenate([np.zeros((len(weights), 1)), positive.cumsum(axis=1)], axis=1)
        lower = up_to[:, np.searchsorted(self.positive, self.negative, side="left")]
        level = up_to[:, np.searchsorted(self.positive, self.negative, side="right")]
        lost = (negative * (lower + level)).sum(axis=1) / 2
        with np.errstate(invalid="ignore", divide="ignore"):
            auroc: Float64 = 1 - lost / (positive.sum(axis=1) * negative.sum(axis=1))
        return auroc


def _presence(queries: Queries, highest: Float64) -> Iterator[tuple[str, _Separation, int]]:
    """Present against absent queries, all and per kind of the absent ones; with the number of their images."""
    image = queries.image_index.astype(np.int64)
    present = np.flatnonzero(queries.present)
    present = present[np.argsort(highest[present], kind="stable")]
    for suffix, member in _kinds(queries):
        absent = np.flatnonzero(queries.absent & member)
        absent = absent[np.argsort(highest[absent], kind="stable")]
        images = len(np.union1d(image[present], image[absent]))
        yield suffix, _Separation(highest[present], image[present], highest[absent], image[absent]), images


def _calibration(queries: Queries, highest: Float64) -> dict[str, float | None]:
    """Expected calibration error in bins of equal width, and the Brier score."""
    present, absent = queries.present, queries.absent
    judged = present | absent
    probability = np.where(np.isfinite(highest), highest, 0.0)[judged]
    if not present.any() or not absent.any() or probability.min() < 0 or probability.max() > 1:
        return {"queries/presence_ece": None, "queries/presence_brier": None}
    apart = probability - present[judged]
    bins = np.minimum((probability * PRESENCE_BINS).astype(np.int64), PRESENCE_BINS - 1)
    gap = np.abs(np.bincount(bins, apart, PRESENCE_BINS)).sum() / len(probability)
    return {"queries/presence_ece": float(gap), "queries/presence_brier": float(np.mean(apart**2))}
