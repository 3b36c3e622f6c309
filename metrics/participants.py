"""The detections that count under a protocol and the ground truth that they have to find."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from ovd_bench.metrics.boxes import match_greedy, xywh_to_xyxy
from ovd_bench.metrics.matching import match
from ovd_bench.metrics.protocol import AREA_RANGES, Protocol
from ovd_bench.metrics.types import GroundTruth, IntArray, Predictions

Bool = npt.NDArray[np.bool_]
Float64 = npt.NDArray[np.float64]
Int32 = npt.NDArray[np.int32]
Int64 = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Participants:
    """Detections that take part under a protocol (n rows), by class, then score descending, image, row.

    Caps are applied and unknown classes are left out. LVIS rules also leave out boxes without area and detections of
    classes that are unverified in their image.

    Attributes:
        row: int64 (n,), row in the predictions.
        image_index: int32 (n,).
        class_index: int32 (n,).
        score: float64 (n,).
        boxes_xyxy: float64 (n, 4), absolute pixels.
        excused: bool (n,), not a false positive if unmatched: its class is not exhaustively annotated in the image, or
            at IoU 0.5 it matches only an ignored ground truth (crowd, ``ignore`` field).
    """

    row: Int64
    image_index: Int32
    class_index: Int32
    score: Float64
    boxes_xyxy: Float64
    excused: Bool

    def __len__(self) -> int:
        return len(self.row)


@dataclass(frozen=True)
class Truth:
    """Some rows of a ground truth (g rows), in file order.

    Attributes:
        row: int64 (g,), row in the ground truth.
        image_index: int32 (g,).
        class_index: int32 (g,).
        boxes_xyxy: float64 (g, 4), absolute pixels.
    """

    row: Int64
    image_index: Int32
    class_index: Int32
    boxes_xyxy: Float64

    def __len__(self) -> int:
        return len(self.row)


def participants(gt: GroundTruth, predictions: Predictions, protocol: Protocol) -> Participants:
    """Detections that the protocol counts, as the exact engine selects and orders them.

    Raises:
        DataError: see ``metrics.matching.match``.
    """
    usual = replace(protocol, iou=(), areas=())  # the statistics ask for IoU 0.5, whatever AP is averaged over
    records = match(gt, predictions, usual, keep_records=True).records
    assert records is not None
    row = records.row.astype(np.int64)
    taken = predictions.take(row)
    class_index = np.repeat(np.arange(gt.num_classes, dtype=np.int32), np.diff(records.class_offsets))
    excused = (records.ignored & np.uint64(1)) != 0  # lane 0: all areas, IoU 0.5
    if protocol.federated:
        unclear = pair_keys(gt.not_exhaustive.row_index(), gt.not_exhaustive.values, gt.num_classes)
        excused |= np.isin(pair_keys(records.image_index, class_index, gt.num_classes), unclear)
    return Participants(
        row=row,
        image_index=records.image_index,
        class_index=class_index,
        score=taken.score.astype(np.float64),
        boxes_xyxy=taken.boxes_xyxy(),
        excused=excused,
    )


def select_truth(gt: GroundTruth, protocol: Protocol) -> tuple[Truth, Truth]:
    """Ground truth that has to be found, and ignored ground truth.

    Ignored is crowd (COCO rules) or has the ``ignore`` field (LVIS rules). LVIS rules drop ground truth without area.
    """
    ignored = gt.ignore if protocol.federated else gt.iscrowd
    low, high = AREA_RANGES[0]
    regular = ~ignored & (gt.area >= low) & (gt.area <= high)
    exists = gt.area > 0 if protocol.federated else np.ones(len(gt.ann_ids), np.bool_)
    return _rows(gt, exists & regular), _rows(gt, exists & ~regular)


def match_by_class(detections: Participants, truth: Truth, iou_threshold: float) -> Int64:
    """Row of ``truth`` that each detection finds, -1 where none: greedy by score inside its image and class."""
    return match_greedy(
        truth.image_index,
        truth.boxes_xyxy,
        detections.image_index,
        detections.boxes_xyxy,
        detections.score,
        iou_threshold,
        truth.class_index,
        detections.class_index,
    )


def pair_keys(image_index: IntArray, class_index: IntArray, num_classes: int) -> Int64:
    """One number per (image, class) pair, increasing by image, then class; int64 (n,)."""
    keys: Int64 = image_index.astype(np.int64) * num_classes + class_index
    return keys


def _rows(gt: GroundTruth, where: Bool) -> Truth:
    boxes = xywh_to_xyxy(gt.boxes_xywh[where])
    return Truth(np.flatnonzero(where), gt.image_index[where], gt.class_index[where], boxes)
