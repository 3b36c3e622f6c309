"""Precision, recall and scores on custom axes; ``metrics.evaluate`` has the axes of the official protocols."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from ovd_bench.metrics.errors import DataError
from ovd_bench.metrics.matching import (
    NUM_AREAS,
    NUM_LANES,
    NUM_RECALLS,
    NUM_THRESHOLDS,
    Matches,
    Records,
    match,
    padded,
)
from ovd_bench.metrics.protocol import Protocol
from ovd_bench.metrics.types import GroundTruth, Predictions

Float64 = npt.NDArray[np.float64]

#: Detection limits of one pass of the engine.
_LIMITS = 3


@dataclass(frozen=True)
class Grid:
    """Axes of the arrays.

    Attributes:
        iou_thresholds: T numbers, in any order.
        recall_thresholds: R numbers from 0 to 1, not decreasing.
        areas: A ranges in square pixels, inclusive at both ends.
        limits: M limits of detections per image and class, not decreasing, for COCO rules; empty for LVIS rules, which
            have no such limit (M = 1).
    """

    iou_thresholds: tuple[float, ...]
    recall_thresholds: tuple[float, ...]
    areas: tuple[tuple[float, float], ...]
    limits: tuple[int, ...]

    def __post_init__(self) -> None:
        for field in ("iou_thresholds", "recall_thresholds", "areas"):
            if not getattr(self, field):
                raise DataError(f"{field} is empty")
        if not all(np.isfinite(self.iou_thresholds)):
            raise DataError(f"iou_thresholds are {self.iou_thresholds}, finite numbers are needed")
        recalls = np.array(self.recall_thresholds)
        if not (np.all(recalls >= 0) and np.all(recalls <= 1) and np.all(np.diff(recalls) >= 0)):
            raise DataError("recall_thresholds must be numbers from 0 to 1 that do not decrease")
        if any(np.isnan(area).any() for area in self.areas):
            raise DataError("a bound of areas is NaN")
        if any(limit < 1 for limit in self.limits) or np.any(np.diff(self.limits) < 0):
            raise DataError(f"limits are {self.limits}, numbers from 1 up that do not decrease are needed")


@dataclass(frozen=True)
class GridArrays:
    """Arrays in the official order of axes (T IoU thresholds, R recalls, K classes, A area ranges, M limits).

    Attributes:
        precision: float64 (T, R, K, A, M), interpolated; -1 where a class has no regular ground truth in the range.
        recall: float64 (T, K, A, M), -1 likewise.
        scores: float64 (T, R, K, A, M), score at which each recall is reached, 0 where it is not; -1 as in
            ``precision``. None unless requested.
    """

    precision: Float64
    recall: Float64
    scores: Float64 | None


def evaluate_grid(
    gt: GroundTruth,
    predictions: Predictions,
    protocol: Protocol,
    grid: Grid,
    *,
    detection_area: Float64 | None = None,
    want_scores: bool = False,
    threads: int | None = None,
) -> GridArrays:
    """Score predictions on a grid, equal to lvis-api 0.5.3 and pycocotools 2.0.11 with these parameters.

    Args:
        gt: ground truth of K classes.
        predictions: detections (N rows).
        protocol: rules and caps; its ``max_dets`` are not used.
        grid: the axes.
        detection_area: float64 (N,) square pixels, decides the area ranges of the detections; None = w * h.
        want_scores: whether to compute ``scores``.
        threads: default all processors this process may use; the result does not depend on it.

    Raises:
        DataError: see ``metrics.matching.match``.
    """
    order = np.argsort(grid.iou_thresholds, kind="stable")
    rising = [grid.iou_thresholds[t] for t in order]
    recalls = np.array(grid.recall_thresholds, np.float64)
    shape = (len(order), len(recalls), gt.num_classes, len(grid.areas), max(1, len(grid.limits)))
    precision, recall = np.empty(shape), np.empty((shape[0], *shape[2:]))
    scores = np.empty(shape) if want_scores else None
    columns = None if detection_area is None else np.ascontiguousarray(detection_area, np.float64)
    for areas in _blocks(len(grid.areas), NUM_AREAS):
        for thresholds in _blocks(len(order), NUM_THRESHOLDS):
            for limits in _blocks(shape[-1], _LIMITS):
                rules = Protocol(
                    protocol.name,
                    protocol.rules,
                    protocol.image_cap,
                    protocol.class_cap,
                    max_dets=grid.limits[limits],
                )
                matches = match(
                    gt,
                    predictions,
                    rules,
                    keep_records=want_scores,
                    threads=threads,
                    iou_thresholds=rising[thresholds],
                    areas=grid.areas[areas],
                    detection_area=columns,
                )
                rows = order[thresholds]
                ranks = None if matches.records is None else _ranks(matches.records)
                for m, limit in enumerate(range(limits.start, limits.stop)):
                    found = matches.recall(m)
                    for a, area in enumerate(range(areas.start, areas.stop)):
                        recall[rows, :, area, limit] = found[: len(rows), :, a]
                        precision[rows, :, :, area, limit] = _precision(matches, a, m, recalls)[: len(rows)]
                    if scores is not None and matches.records is not None and ranks is not None:
                        counted = ranks < (rules.max_dets[m] if rules.max_dets else len(ranks) + 1)
                        planes = _scores(matches, matches.records, counted, predictions, recalls)
                        scores[rows, :, :, areas, limit] = planes[: len(rows), :, :, : areas.stop - areas.start]
    return GridArrays(precision, recall, scores)


def _precision(matches: Matches, area: int, limit: int, recalls: Float64) -> Float64:
    """Precision (10, R, K) of one area range and detection limit at R recall thresholds."""
    parts = []
    for block in _blocks(len(recalls), NUM_RECALLS):
        thresholds = np.array(padded(recalls[block].tolist(), NUM_RECALLS))
        parts.append(matches.precision(area, limit, thresholds)[:, : block.stop - block.start])
    return np.concatenate(parts, axis=1)


def _ranks(records: Records) -> npt.NDArray[np.int64]:
    """Place of every detection among those of its image and class, from 0; ``records.rank`` counts to 255 only."""
    classes = np.repeat(np.arange(len(records.class_offsets) - 1), np.diff(records.class_offsets))
    order = np.lexsort((records.image_index, classes))  # stable: score order stays
    first = np.ones(len(order), np.bool_)
    first[1:] = (np.diff(records.image_index[order]) != 0) | (np.diff(classes[order]) != 0)
    starts = np.flatnonzero(first)
    ranks = np.empty(len(order), np.int64)
    ranks[order] = np.arange(len(order)) - np.repeat(starts, np.diff(np.append(starts, len(order))))
    return ranks


def _scores(
    matches: Matches,
    records: Records,
    counted: npt.NDArray[np.bool_],
    predictions: Predictions,
    recalls: Float64,
) -> Float64:
    """Scores (10, R, K, 4) at which recall thresholds are reached by the detections that count (n,)."""
    planes = np.full((NUM_LANES, len(recalls), len(matches.positives)), -1.0)
    for k, positives in enumerate(matches.positives):
        rows = np.arange(*records.class_offsets[k : k + 2])
        rows = rows[counted[rows]]
        score = predictions.score[records.row[rows]].astype(np.float64)
        hits = (records.tp[rows] >> np.arange(NUM_LANES, dtype=np.uint64)[:, None] & np.uint64(1)).astype(np.bool_)
        _, at = np.nonzero(hits)  # by lane, then in score order
        ends = np.cumsum(hits.sum(axis=1))
        for area in np.flatnonzero(positives):
            # number of the true positive with which each recall is reached, from 0
            wanted = np.searchsorted(np.arange(1, positives[area] + 1) / positives[area], recalls, side="left")
            for lane in range(area * NUM_THRESHOLDS, (area + 1) * NUM_THRESHOLDS):
                hit = at[ends[lane - 1] if lane else 0 : ends[lane]]
                reached = wanted < len(hit)
                planes[lane, :, k] = 0
                planes[lane, reached, k] = score[hit[wanted[reached]]]
                if len(score):
                    planes[lane, recalls <= 0, k] = score[0]  # the very first detection, hit or not
    return planes.reshape(NUM_AREAS, NUM_THRESHOLDS, len(recalls), -1).transpose(1, 2, 3, 0)


def _blocks(count: int, size: int) -> Iterator[slice]:
    """Slices of up to ``size`` that cover ``count`` rows."""
    for start in range(0, count, size):
        yield slice(start, min(start + size, count))
