"""Average precision for training loops: batches in, a dictionary out; keys are those of torchmetrics."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from ovd_bench.metrics.errors import DataError
from ovd_bench.metrics.grid import Grid, GridArrays, evaluate_grid
from ovd_bench.metrics.protocol import AREA_NAMES, AREA_RANGES, IOU_THRESHOLDS, PROTOCOLS, RECALL_THRESHOLDS
from ovd_bench.metrics.types import MAX_COORDINATE, Categories, GroundTruth, Predictions, Ragged

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]
#: An array, a tensor of any framework, or nested lists.
ArrayLike = Any


@dataclass(frozen=True)
class _Boxes:
    """Boxes of one image: xywh in pixels (n, 4) and labels (n,)."""

    boxes_xywh: Floats
    labels: Ints


@dataclass(frozen=True)
class _Found:
    """Predictions of one image: boxes and their scores (n,)."""

    boxes: _Boxes
    scores: Floats


@dataclass(frozen=True)
class _Truth:
    """Ground truth of one image: boxes, areas in square pixels (n,), and whether each is a crowd (n,)."""

    boxes: _Boxes
    area: Floats
    crowd: npt.NDArray[np.bool_]


class MeanAveragePrecision:
    """COCO's average precision and recall of boxes over batches.

    Between processes, gather the objects (they can be pickled) and ``merge`` them.
    """

    def __init__(
        self,
        *,
        class_metrics: bool = False,
        iou_thresholds: Sequence[float] | None = None,
        rec_thresholds: Sequence[float] | None = None,
        max_detection_thresholds: Sequence[int] | None = None,
    ) -> None:
        """Start with no images.

        Args:
            class_metrics: also tell the numbers of each class.
            iou_thresholds: None = 0.50, 0.55, … 0.95.
            rec_thresholds: recalls from 0 to 1 at which precision is read, not decreasing; None = 0, 0.01, … 1.
            max_detection_thresholds: detections per image and class that count; None = 1, 10 and 100.

        Raises:
            DataError: thresholds that mean nothing.
        """
        limits = PROTOCOLS["coco"].max_dets if max_detection_thresholds is None else max_detection_thresholds
        if not len(limits):
            raise DataError("max_detection_thresholds is empty")
        self._class_metrics = class_metrics
        self._grid = Grid(
            iou_thresholds=tuple(map(float, IOU_THRESHOLDS if iou_thresholds is None else iou_thresholds)),
            recall_thresholds=tuple(map(float, RECALL_THRESHOLDS if rec_thresholds is None else rec_thresholds)),
            areas=AREA_RANGES,
            limits=tuple(sorted(map(int, limits))),
        )
        self._images: list[tuple[_Found, _Truth]] = []

    def update(
        self, predictions: Sequence[Mapping[str, ArrayLike]], targets: Sequence[Mapping[str, ArrayLike]]
    ) -> None:
        """Add a batch: one entry of each list per image.

        Tensors are copied to the host. Half precision counts as float32. Widths and heights are taken in the precision
        of the boxes.

        Args:
            predictions: per image ``boxes`` (n, 4) xyxy in pixels, ``scores`` (n,) and ``labels`` (n,), integers.
            targets: per image ``boxes`` (m, 4) and ``labels`` (m,); where known ``iscrowd`` (m,) and ``area`` (m,) in
                square pixels. An area that is missing or 0 is that of the box.

        Raises:
            DataError: lists of unequal length, a key is missing, or something has another shape or is no number. The
                batch is not added then.
        """
        if len(predictions) != len(targets):
            raise DataError(
                f"{len(predictions)} predictions and {len(targets)} targets: expected one of each per image"
            )
        batch = []
        for number, (predicted, target) in enumerate(zip(predictions, targets, strict=True)):
            where = f"prediction {number} of the batch"
            found = _boxes(predicted, where)
            scores = _column(predicted, "scores", len(found.labels), np.float64, where)
            where = f"target {number} of the batch"
            truth = _boxes(target, where)
            area = truth.boxes_xywh[:, 2] * truth.boxes_xywh[:, 3]
            crowd = np.zeros(len(area), np.bool_)
            if "area" in target:
                given = _column(target, "area", len(area), np.float64, where)
                area = np.where(given > 0, given, area)
            if "iscrowd" in target:
                crowd = _column(target, "iscrowd", len(area), np.bool_, where)
            batch.append((_Found(found, scores), _Truth(truth, area, crowd)))
        self._images += batch

    def compute(self) -> dict[str, Any]:
        """The numbers of all images so far, as fractions; -1 = undefined, as in torchmetrics and pycocotools.

        Returns:
            At the largest limit of detections ``map``, ``map_50``, ``map_75``, ``map_small``, ``map_medium``,
            ``map_large``, ``mar_small``, ``mar_medium``, ``mar_large``; one per limit ``mar_1``, ``mar_10``,
            ``mar_100``; ``classes``, int64 (K,), the labels that occur, in increasing order; ``map_per_class`` and
            ``mar_100_per_class``, float64 (K,), or -1 without ``class_metrics``.
        """
        labels = [part.boxes.labels for image in self._images for part in image]
        classes = np.unique(_joined(labels).astype(np.int64))
        limits = self._grid.limits
        arrays = self._arrays(classes)
        precision, recall = arrays.precision[..., -1], arrays.recall[..., -1]
        ious = np.array(self._grid.iou_thresholds)
        numbers: dict[str, Any] = {
            "map": _mean(precision[..., 0]),
            "map_50": _mean(precision[ious == 0.5, ..., 0]),
            "map_75": _mean(precision[ious == 0.75, ..., 0]),
        }
        for area, name in enumerate(AREA_NAMES[1:], 1):
            numbers[f"map_{name}"] = _mean(precision[..., area])
        for place, limit in enumerate(limits):
            numbers[f"mar_{limit}"] = _mean(arrays.recall[..., 0, place])
        for area, name in enumerate(AREA_NAMES[1:], 1):
            numbers[f"mar_{name}"] = _mean(recall[..., area])
        per_class: tuple[Any, Any] = (np.float64(-1), np.float64(-1))
        if self._class_metrics:
            # a class is undefined as a whole or not at all
            per_class = precision[..., 0].mean(axis=(0, 1)), recall[..., 0].mean(axis=0)
        numbers["map_per_class"], numbers[f"mar_{limits[-1]}_per_class"] = per_class
        numbers["classes"] = classes
        return numbers

    def merge(self, other: MeanAveragePrecision) -> None:
        """Add the images of another object behind those of this one.

        Args:
            other: one that was made alike; it stays as it is.

        Raises:
            DataError: it was made with other thresholds.
        """
        if other._grid != self._grid or other._class_metrics != self._class_metrics:
            raise DataError("merge: the two objects were made with different parameters")
        self._images += list(other._images)

    def reset(self) -> None:
        """Forget all images."""
        self._images = []

    def _arrays(self, classes: Ints) -> GridArrays:
        found = [one for one, _ in self._images]
        truth = [one for _, one in self._images]
        nothing = Ragged.from_lists([[] for _ in truth])
        image, label, boxes = _columns([one.boxes for one in truth], classes)
        gt = GroundTruth(
            image_ids=np.arange(len(truth), dtype=np.int64),
            image_sizes=np.zeros((len(truth), 2), np.int32),
            categories=Categories.plain(np.arange(len(classes))),
            ann_ids=np.arange(1, len(boxes) + 1),
            image_index=image,
            class_index=label,
            boxes_xywh=boxes,
            area=_joined([one.area for one in truth]),
            iscrowd=_joined([one.crowd for one in truth]).astype(np.bool_),
            ignore=np.zeros(len(boxes), np.bool_),
            neg=nothing,
            not_exhaustive=nothing,
            federated=False,
        )
        image, label, boxes = _columns([one.boxes for one in found], classes)
        predictions = Predictions.from_boxes(image, label, _joined([one.scores for one in found]), boxes)
        return evaluate_grid(gt, predictions, PROTOCOLS["coco"], self._grid)


def _mean(plane: Floats) -> np.float64:
    """Mean over the defined entries, -1 if there is none."""
    defined = plane[plane > -1]
    return np.float64(np.mean(defined)) if len(defined) else np.float64(-1)


def _joined(arrays: list[npt.NDArray[Any]]) -> Floats:
    return np.concatenate(arrays) if arrays else np.zeros(0)


def _columns(parts: Sequence[_Boxes], classes: Ints) -> tuple[npt.NDArray[np.int32], npt.NDArray[np.int32], Floats]:
    """Image number (N,), place of the label among the classes (N,) and box xywh (N, 4)."""
    images = np.repeat(np.arange(len(parts), dtype=np.int32), [len(part.labels) for part in parts])
    labels = np.searchsorted(classes, _joined([part.labels for part in parts])).astype(np.int32)
    return images, labels, _joined([part.boxes_xywh for part in parts]).reshape(-1, 4)


def _boxes(entry: Mapping[str, ArrayLike], where: str) -> _Boxes:
    """Boxes and labels of an entry of a batch, xyxy made xywh."""
    labels = _column(entry, "labels", None, np.int64, where)
    boxes = _array(entry, "boxes", where)
    if boxes.size == 0:
        boxes = boxes.reshape(0, 4)
    if boxes.shape != (len(labels), 4):
        raise DataError(
            f"{where}: boxes have shape {boxes.shape}, expected ({len(labels)}, 4), as there are {len(labels)} labels"
        )
    if boxes.dtype.kind != "f":
        boxes = boxes.astype(np.float64)
    elif boxes.dtype.itemsize < 4:
        boxes = boxes.astype(np.float32)
    if not np.all(np.abs(boxes) < MAX_COORDINATE):
        raise DataError(f"{where}: a coordinate of boxes is not finite")
    xywh = np.concatenate([boxes[:, :2], boxes[:, 2:] - boxes[:, :2]], axis=1).astype(np.float64)
    return _Boxes(xywh, labels)


def _column(
    entry: Mapping[str, ArrayLike], key: str, length: int | None, dtype: type[np.generic], where: str
) -> npt.NDArray[Any]:
    values = _array(entry, key, where)
    if values.size == 0:
        values = values.reshape(0)
    if values.ndim != 1 or length not in (None, len(values)):
        raise DataError(f"{where}: {key} have shape {values.shape}, expected ({'n' if length is None else length},)")
    if dtype is np.int64 and values.size and values.dtype.kind not in "iu":
        raise DataError(f"{where}: {key} are {values.dtype}, expected integers")
    if not np.all(np.isfinite(values)):
        raise DataError(f"{where}: a number of {key} is not finite")
    return values.astype(dtype)


def _array(entry: Mapping[str, ArrayLike], key: str, where: str) -> npt.NDArray[Any]:
    """A numeric array, from tensors without importing their framework."""
    if key not in entry:
        raise DataError(f"{where}: no '{key}'")
    value = entry[key]
    for method in ("detach", "cpu"):
        if hasattr(value, method):
            value = getattr(value, method)()
    if str(getattr(value, "dtype", "")) == "torch.bfloat16":  # numpy has no such type
        value = value.float()
    array = np.asarray(value.numpy() if hasattr(value, "numpy") else value)
    if array.dtype.kind not in "biuf":
        raise DataError(f"{where}: {key} are {array.dtype}, expected numbers")
    return array
