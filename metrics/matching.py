"""Matching of detections to ground truth as in lvis-api and pycocotools, but per class and in native code."""

from __future__ import annotations

import ctypes
import os
from collections.abc import Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt

from ovd_bench.metrics import native
from ovd_bench.metrics.errors import DataError
from ovd_bench.metrics.protocol import AREA_RANGES, IOU_THRESHOLDS, RECALL_THRESHOLDS, Protocol
from ovd_bench.metrics.types import GroundTruth, Predictions

T = TypeVar("T")

NUM_AREAS, NUM_THRESHOLDS, NUM_RECALLS = len(AREA_RANGES), len(IOU_THRESHOLDS), len(RECALL_THRESHOLDS)
NUM_LANES = NUM_AREAS * NUM_THRESHOLDS

_NO_LIMIT = 2**31 - 1
#: The official evaluators lower every IoU threshold to this.
_HIGHEST_IOU = 1 - 1e-10
_MAX_IMAGES = 2**27  # the native record packs the image number into 27 bits
_MAX_CLASSES = 2**16  # one precision plane takes 8 kB per class, so more would exceed half a gigabyte


def engine() -> ctypes.CDLL:
    """The native scoring engine, built on first use."""
    here = Path(native.__file__).parent
    library = native.load("engine", tuple(here / f"{name}.cc" for name in ("match", "curves", "bootstrap")))
    library.ovd_prepare.restype = ctypes.c_void_p
    return library


def default_threads() -> int:
    """Processors this process may use."""
    return len(os.sched_getaffinity(0))


@dataclass(frozen=True)
class MatchCounts:
    """Counts of detections by outcome (unless stated otherwise).

    Attributes:
        total: all rows.
        unknown_class: category id not in the ground truth; dropped.
        no_area: w * h <= 0; dropped by LVIS rules, kept as false positives by COCO rules.
        negative_size: w < 0 or h < 0; scored by its product as the official code does.
        unverified: LVIS rules: class neither present nor verified absent in the image; not counted.
        over_image_cap: cut by the cap per image over all classes.
        over_class_cap: cut by the cap per class over all images.
        images_at_cap: images with exactly as many detections as the cap.
        images_over_cap: images with more.
        kept: took part in matching.
    """

    total: int
    unknown_class: int
    no_area: int
    negative_size: int
    unverified: int
    over_image_cap: int
    over_class_cap: int
    images_at_cap: int
    images_over_cap: int
    kept: int


@dataclass(frozen=True)
class Records:
    """Outcome of every detection that took part, per class in score order (n rows, K classes).

    Attributes:
        class_offsets: int64 (K + 1,), rows of class k are ``class_offsets[k]:class_offsets[k + 1]``.
        image_index: int32 (n,).
        row: uint32 (n,), row of the detection in the predictions.
        tp: uint64 (n,), bit ``area * 10 + threshold`` set where it is a true positive. With fewer thresholds the last
            one is repeated.
        ignored: uint64 (n,), bit set where it does not count. A detection is a false positive where neither is set.
        rank: uint8 (n,), place among the detections of its image and class (0 = best; 255 = 255 or more).
    """

    class_offsets: npt.NDArray[np.int64]
    image_index: npt.NDArray[np.int32]
    row: npt.NDArray[np.uint32]
    tp: npt.NDArray[np.uint64]
    ignored: npt.NDArray[np.uint64]
    rank: npt.NDArray[np.uint8]


@dataclass(frozen=True)
class Matches:
    """Counts from which every statistic of the protocol follows (K classes, M detection limits).

    Attributes:
        protocol: rules used.
        counts: numbers of dropped detections by reason.
        truth_offsets: int64 (K + 1,), ground truth boxes per class that took part, cumulative.
        positives: int32 (K, 4), regular ground truth per area range.
        detections: int64 (K,), detections that took part.
        tp_count: int32 (K, M, 4, 10), true positives.
        fp_at_tp: uint32, false positives ranked before each true positive; the curve of class k, limit m, area a,
            threshold t starts at ``truth_offsets[k] * M * 40 + (m * 40 + a * 10 + t) * boxes_of_class_k``.
        records: outcome per detection, None unless requested.
        threads: threads for derived statistics.
    """

    protocol: Protocol
    counts: MatchCounts
    truth_offsets: npt.NDArray[np.int64]
    positives: npt.NDArray[np.int32]
    detections: npt.NDArray[np.int64]
    tp_count: npt.NDArray[np.int32]
    fp_at_tp: npt.NDArray[np.uint32]
    records: Records | None
    threads: int

    def precision(
        self, area: int, limit: int = -1, recall_thresholds: npt.NDArray[np.float64] = RECALL_THRESHOLDS
    ) -> npt.NDArray[np.float64]:
        """Interpolated precision (thresholds T, recalls 101, classes K) of one area range and detection limit.

        -1 where a class has no regular ground truth in the range, as in the official arrays.

        Args:
            area: number of the area range.
            limit: number of the detection limit.
            recall_thresholds: float64 (101,), contiguous, from 0 to 1, not decreasing.
        """
        classes, limits = self.tp_count.shape[:2]
        limit %= limits
        plane = np.empty((NUM_THRESHOLDS, NUM_RECALLS, classes))
        engine().ovd_precision(
            ctypes.c_int64(classes),
            _pointer(self.truth_offsets),
            _pointer(self.positives, area),
            ctypes.c_int64(NUM_AREAS),
            _pointer(self.tp_count, (limit * NUM_AREAS + area) * NUM_THRESHOLDS),
            ctypes.c_int64(limits * NUM_LANES),
            _pointer(self.fp_at_tp),
            ctypes.c_int64(limits),
            ctypes.c_int64(limit),
            ctypes.c_int64(area),
            _pointer(recall_thresholds),
            ctypes.c_int32(self.threads),
            _pointer(plane),
        )
        return plane[: len(self.protocol.iou_thresholds)]

    def recall(self, limit: int = -1) -> npt.NDArray[np.float64]:
        """Recall (thresholds T, classes K, areas 4) at a detection limit, -1 where undefined."""
        found = self.tp_count[:, limit].transpose(2, 0, 1).astype(np.float64)
        recall = np.full(found.shape, -1.0)
        np.divide(found, self.positives, out=recall, where=self.positives > 0)
        return recall[: len(self.protocol.iou_thresholds)]


class _GroundTruthColumns(ctypes.Structure):
    _fields_ = (
        *((name, ctypes.c_int64) for name in ("images", "classes", "boxes")),
        *(
            (name, ctypes.c_void_p)
            for name in (
                *("image_ids", "category_ids", "image_index", "class_index", "boxes_xywh", "area"),
                *("ignored", "crowd", "id_is_zero", "neg_offsets", "neg", "nel_offsets", "nel"),
            )
        ),
    )


class _PredictionColumns(ctypes.Structure):
    _fields_ = (
        ("rows", ctypes.c_int64),
        *((name, ctypes.c_void_p) for name in ("image_id", "category_id", "score", "x", "y", "w", "h", "area")),
    )


class _Rules(ctypes.Structure):
    _fields_ = (
        *((name, ctypes.c_int32) for name in ("federated", "image_cap", "class_cap", "num_max_dets")),
        ("max_dets", ctypes.c_int32 * 3),
        ("threads", ctypes.c_int32),
        ("thresholds", ctypes.c_double * NUM_THRESHOLDS),
        ("area_low", ctypes.c_double * NUM_AREAS),
        ("area_high", ctypes.c_double * NUM_AREAS),
    )


_COUNTED = tuple(field.name for field in fields(MatchCounts) if field.name != "total")


class _Counts(ctypes.Structure):
    _fields_ = (("unknown_image_row", ctypes.c_int64), *((name, ctypes.c_int64) for name in _COUNTED))


class _Outputs(ctypes.Structure):
    _fields_ = tuple(
        (name, ctypes.c_void_p)
        for name in (
            *("truth_offsets", "positives", "detections", "tp_count", "fp_at_tp", "record_offsets"),
            *("record_image", "record_row", "record_tp", "record_ignored", "record_rank"),
        )
    )


def match(
    gt: GroundTruth,
    predictions: Predictions,
    protocol: Protocol,
    *,
    keep_records: bool = False,
    threads: int | None = None,
    iou_thresholds: Sequence[float] | None = None,
    areas: Sequence[tuple[float, float]] | None = None,
    detection_area: npt.NDArray[np.float64] | None = None,
) -> Matches:
    """Match detections to ground truth under a protocol.

    Greedy per image, class, area range and IoU threshold by descending score; on equal scores the order of the file, on
    equal IoU the later ground truth wins (lvis-api ``lvis/eval.py``, pycocotools ``cocoeval.py``). The result does not
    depend on ``threads``.

    Args:
        gt: ground truth.
        predictions: detections; ids unknown to ``gt`` are an error for images and counted for classes.
        protocol: rules and caps.
        keep_records: also return the outcome of every detection (bootstrap, pooled AP).
        threads: default all processors this process may use.
        iou_thresholds: up to ten IoU thresholds, not decreasing; default the protocol's.
        areas: up to four area ranges, square pixels, inclusive at both ends; default the protocol's.
        detection_area: (N,) square pixels, contiguous, by which detections fall into area ranges; None = w * h.

    Raises:
        DataError: a detection names an unknown image, or the data set is too large.
    """
    if gt.num_images >= _MAX_IMAGES or len(predictions) > _NO_LIMIT or gt.num_classes > _MAX_CLASSES:
        limits_text = f"{_MAX_IMAGES:,} images, {_MAX_CLASSES:,} classes and {_NO_LIMIT:,} detections"
        raise DataError(f"the data set is beyond {limits_text}: score it in parts")
    threads = threads or default_threads()
    limits = protocol.max_dets or (_NO_LIMIT,)
    thresholds = [min(one, _HIGHEST_IOU) for one in iou_thresholds or protocol.iou_thresholds]
    ranges = list(areas or protocol.area_ranges)
    # Arrays are held in locals until the native call returns.
    held: list[npt.NDArray[Any]] = []
    gt_columns = _ground_truth_columns(gt, protocol, held)
    dt_columns = _PredictionColumns(
        len(predictions),
        *(_pointer(getattr(predictions, name)) for name in ("image_id", "category_id", "score", "x", "y", "w", "h")),
        None if detection_area is None else _pointer(detection_area),
    )
    rules = _Rules(
        federated=protocol.federated,
        image_cap=protocol.image_cap or 0,
        class_cap=protocol.class_cap or 0,
        num_max_dets=len(limits),
        max_dets=(ctypes.c_int32 * 3)(*limits),
        threads=threads,
        thresholds=_doubles(padded(thresholds, NUM_THRESHOLDS)),
        area_low=_doubles([low for low, _ in padded(ranges, NUM_AREAS)]),
        area_high=_doubles([high for _, high in padded(ranges, NUM_AREAS)]),
    )
    counts, truth_boxes = _Counts(), ctypes.c_int64()
    handle = engine().ovd_prepare(
        ctypes.byref(gt_columns),
        ctypes.byref(dt_columns),
        ctypes.c_int32(predictions.score.dtype == np.float64),
        ctypes.byref(rules),
        ctypes.byref(counts),
        ctypes.byref(truth_boxes),
    )
    if not handle:
        row = counts.unknown_image_row
        raise DataError(f"record {row}: image_id {int(predictions.image_id[row])} is not among the annotations' images")

    classes, kept = gt.num_classes, counts.kept
    truth_offsets = np.empty(classes + 1, np.int64)
    positives = np.empty((classes, NUM_AREAS), np.int32)
    detections = np.empty(classes, np.int64)
    tp_count = np.empty((classes, len(limits), NUM_AREAS, NUM_THRESHOLDS), np.int32)
    fp_at_tp = np.empty(truth_boxes.value * len(limits) * NUM_LANES, np.uint32)
    outputs = _Outputs(*(_pointer(array) for array in (truth_offsets, positives, detections, tp_count, fp_at_tp)))
    records = None
    if keep_records:
        records = Records(
            np.empty(classes + 1, np.int64),
            np.empty(kept, np.int32),
            np.empty(kept, np.uint32),
            np.empty(kept, np.uint64),
            np.empty(kept, np.uint64),
            np.empty(kept, np.uint8),
        )
        outputs.record_offsets = _pointer(records.class_offsets)
        outputs.record_image = _pointer(records.image_index)
        outputs.record_row = _pointer(records.row)
        outputs.record_tp = _pointer(records.tp)
        outputs.record_ignored = _pointer(records.ignored)
        outputs.record_rank = _pointer(records.rank)
    engine().ovd_match(ctypes.c_void_p(handle), ctypes.byref(outputs))
    if records is not None and records.class_offsets[-1] < kept:
        end = int(records.class_offsets[-1])
        columns = (records.image_index, records.row, records.tp, records.ignored, records.rank)
        records = Records(records.class_offsets, *(column[:end] for column in columns))  # type: ignore[arg-type]
    return Matches(
        protocol,
        MatchCounts(total=len(predictions), **{field: getattr(counts, field) for field in _COUNTED}),
        truth_offsets,
        positives,
        detections,
        tp_count,
        fp_at_tp,
        records,
        threads,
    )


def _ground_truth_columns(gt: GroundTruth, protocol: Protocol, held: list[npt.NDArray[Any]]) -> _GroundTruthColumns:
    # lvis-api reads `ignore` and no `iscrowd`; pycocotools overwrites `ignore` by `iscrowd`.
    nobody = np.zeros(len(gt.ann_ids), np.bool_)
    ignored, crowd = (gt.ignore, nobody) if protocol.federated else (gt.iscrowd, gt.iscrowd)
    columns = [
        np.ascontiguousarray(array, dtype)
        for array, dtype in (
            (gt.image_ids, np.int64),
            (gt.categories.ids, np.int64),
            (gt.image_index, np.int32),
            (gt.class_index, np.int32),
            (gt.boxes_xywh, np.float64),
            (gt.area, np.float64),
            (ignored, np.uint8),
            (crowd, np.uint8),
            (gt.ann_ids == 0, np.uint8),
            (gt.neg.offsets, np.int64),
            (gt.neg.values, np.int32),
            (gt.not_exhaustive.offsets, np.int64),
            (gt.not_exhaustive.values, np.int32),
        )
    ]
    held.extend(columns)
    return _GroundTruthColumns(
        gt.num_images, gt.num_classes, len(gt.ann_ids), *(_pointer(column) for column in columns)
    )


def padded(values: list[T], length: int) -> list[T]:
    """The values, with the last repeated up to a length."""
    return values + values[-1:] * (length - len(values))


def _pointer(array: npt.NDArray[Any], element: int = 0) -> ctypes.c_void_p:
    return ctypes.c_void_p(array.ctypes.data + element * array.itemsize)


def _doubles(values: Sequence[float]) -> ctypes.Array[ctypes.c_double]:
    return (ctypes.c_double * len(values))(*values)
