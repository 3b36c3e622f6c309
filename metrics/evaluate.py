"""Average precision and recall: the 13 statistics of lvis-api, the 12 of pycocotools, their arrays, AP per class."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt

from ovd_bench.metrics.matching import Matches, match
from ovd_bench.metrics.protocol import AREA_NAMES, FREQUENCIES, RECALL_THRESHOLDS, Protocol
from ovd_bench.metrics.types import Categories, GroundTruth, Predictions

#: Statistics at one IoU threshold; without it they do not exist.
SINGLE_IOU = {"AP50": 0.5, "AP75": 0.75}
_AREA_SUFFIX = ("", "s", "m", "l")


@dataclass(frozen=True)
class Evaluation:
    """Result of scoring one set of predictions under one protocol.

    Attributes:
        categories: the vocabulary; axis K of the arrays.
        matches: counts from which all results are computed.
        metrics: official statistics under lvis-api's names, None where undefined.
        per_class_ap: float64 (K,), AP over the IoU thresholds of each class, NaN where it has no ground truth.
        per_class_ap50: float64 (K,), the same at IoU 0.50; NaN if that is none of the thresholds.
    """

    categories: Categories
    matches: Matches
    metrics: dict[str, float | None]
    per_class_ap: npt.NDArray[np.float64]
    per_class_ap50: npt.NDArray[np.float64]

    @property
    def protocol(self) -> Protocol:
        """Rules the predictions were scored under."""
        return self.matches.protocol

    @cached_property
    def precision(self) -> npt.NDArray[np.float64]:
        """Interpolated precision in the official axis order.

        ``(iou T, recall 101, class K, area 4)`` as lvis-api's ``eval["precision"]``; with COCO rules a last axis of
        detection limits ``(1, 10, 100)`` as in pycocotools. -1 where undefined.
        """
        limits = self.matches.tp_count.shape[1]
        planes = [
            np.stack([self.matches.precision(area, limit) for area in range(len(AREA_NAMES))], axis=-1)
            for limit in range(limits)
        ]
        return planes[0] if self.protocol.federated else np.stack(planes, axis=-1)

    @cached_property
    def recall(self) -> npt.NDArray[np.float64]:
        """Recall ``(iou T, class K, area 4)``, with COCO rules and a last axis of detection limits. -1 = undefined."""
        limits = self.matches.tp_count.shape[1]
        planes = [self.matches.recall(limit) for limit in range(limits)]
        return planes[0] if self.protocol.federated else np.stack(planes, axis=-1)

    def axes(self) -> dict[str, npt.NDArray[np.generic]]:
        """Labels of the axes of ``precision``."""
        axes: dict[str, npt.NDArray[np.generic]] = {
            "iou_thresholds": np.array(self.protocol.iou_thresholds),
            "recall_thresholds": RECALL_THRESHOLDS,
            "category_ids": self.categories.ids,
            "areas": np.array(AREA_NAMES),
        }
        if not self.protocol.federated:
            axes["max_dets"] = np.array(self.protocol.max_dets)
        return axes


def evaluate(
    gt: GroundTruth,
    predictions: Predictions,
    protocol: Protocol,
    *,
    keep_records: bool = False,
    threads: int | None = None,
) -> Evaluation:
    """Score predictions; bit-identical to lvis-api 0.5.3 (``lvis``, ``lvis-fixed``) and pycocotools 2.0.11 (``coco``).

    Args:
        gt: ground truth.
        predictions: detections of the same data set.
        protocol: one of ``metrics.protocol.PROTOCOLS``, or a variant with other caps or axes.
        keep_records: keep the outcome of every detection in ``matches.records`` (bootstrap, pooled AP).
        threads: default all processors this process may use; the result does not depend on it.

    Raises:
        DataError: see ``metrics.matching.match``.
    """
    return summarize(gt, match(gt, predictions, protocol, keep_records=keep_records, threads=threads))


def summarize(gt: GroundTruth, matches: Matches) -> Evaluation:
    """Statistics of matched predictions (lvis-api ``LVISEval.summarize``, pycocotools ``COCOeval.summarize``)."""
    metrics: dict[str, float | None] = {}
    everything = matches.precision(area=0)
    thresholds = matches.protocol.iou_thresholds
    metrics["AP"] = _mean(everything)
    for name, threshold in SINGLE_IOU.items():
        if threshold in thresholds:
            metrics[name] = _mean(everything[thresholds.index(threshold)])
    for area in range(1, len(AREA_NAMES)):
        metrics[f"AP{_AREA_SUFFIX[area]}"] = _mean(matches.precision(area))
    if matches.protocol.federated:
        for letter in FREQUENCIES:
            members = [k for k, frequency in enumerate(gt.categories.frequency) if frequency == letter]
            metrics[f"AP{letter}"] = _mean(everything[:, :, members])
    for name, plane in _recalls(matches):
        metrics[name] = _mean(plane)
    # One contiguous row per class, so that numpy adds up in the order it would for the class alone.
    classes = np.ascontiguousarray(everything.transpose(2, 0, 1)).reshape(gt.num_classes, -1)
    defined = matches.positives[:, 0] > 0
    ap50 = np.full(gt.num_classes, np.nan)
    if 0.5 in thresholds:
        begin = thresholds.index(0.5) * len(RECALL_THRESHOLDS)
        ap50 = classes[:, begin : begin + len(RECALL_THRESHOLDS)].mean(axis=1)
    return Evaluation(
        categories=gt.categories,
        matches=matches,
        metrics=metrics,
        per_class_ap=np.where(defined, classes.mean(axis=1), np.nan),
        per_class_ap50=np.where(defined, ap50, np.nan),
    )


def _recalls(matches: Matches) -> Iterator[tuple[str, npt.NDArray[np.float64]]]:
    protocol = matches.protocol
    limits = protocol.max_dets or (protocol.image_cap or -1,)  # lvis-api writes "no cap" as -1
    for index, limit in enumerate(limits):
        recall = matches.recall(index)
        yield f"AR@{limit}", recall[..., 0]
    for area in range(1, len(AREA_NAMES)):
        yield f"AR{_AREA_SUFFIX[area]}@{limits[-1]}", recall[..., area]


def _mean(plane: npt.NDArray[np.float64]) -> float | None:
    """Mean over the defined entries in C order: numpy's pairwise summation decides the last bit."""
    defined = plane[plane > -1]
    return float(np.mean(defined)) if len(defined) else None
