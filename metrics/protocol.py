"""Scoring protocols: the rules and caps of each kind of AP."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, Literal

import numpy as np

#: IoU thresholds and recall thresholds exactly as lvis-api and pycocotools compute them.
IOU_THRESHOLDS = np.linspace(0.5, 0.95, 10, endpoint=True)
RECALL_THRESHOLDS = np.linspace(0.0, 1.0, 101, endpoint=True)

#: Raised when the same predictions, ground truth and rules give another number: matching, interpolation, means, ties.
#: It is part of every protocol's hash.
SCORER_VERSION = 1

AREA_NAMES = ("all", "small", "medium", "large")
#: Inclusive at both ends (square pixels): an area of exactly 1024 is small and medium.
AREA_RANGES = ((0.0, 1e10), (0.0, 1024.0), (1024.0, 9216.0), (9216.0, 1e10))

FREQUENCIES = ("r", "c", "f")


@dataclass(frozen=True)
class Protocol:
    """Rules of one kind of AP.

    Attributes:
        name: its name in result files and on the board.
        rules: ``lvis`` = federated (lvis-api), ``coco`` = exhaustive (pycocotools).
        image_cap: detections kept per image over all classes together, before anything else; None = no cap.
        class_cap: detections kept per class over the whole data set, before anything else; None = no cap.
        max_dets: limits per image and class at which recall is reported; empty for LVIS.
        iou: IoU thresholds, rising, at most as many as usual; empty = ``IOU_THRESHOLDS``.
        areas: ranges under ``AREA_NAMES``; empty = ``AREA_RANGES``.
    """

    name: str
    rules: Literal["lvis", "coco"]
    image_cap: int | None = None
    class_cap: int | None = None
    max_dets: tuple[int, ...] = ()
    iou: tuple[float, ...] = ()
    areas: tuple[tuple[float, float], ...] = ()

    @property
    def iou_thresholds(self) -> tuple[float, ...]:
        """The IoU thresholds over which AP is averaged."""
        return self.iou or tuple(IOU_THRESHOLDS.tolist())

    @property
    def area_ranges(self) -> tuple[tuple[float, float], ...]:
        """The area ranges, square pixels, inclusive at both ends."""
        return self.areas or AREA_RANGES

    def as_dict(self) -> dict[str, Any]:
        """All fields as in hashes and documents: axes only where they are not the usual ones."""
        return {key: value for key, value in asdict(self).items() if value or key not in ("iou", "areas")}

    @property
    def federated(self) -> bool:
        """True when only verified (image, class) pairs count."""
        return self.rules == "lvis"


PROTOCOLS = {
    protocol.name: protocol
    for protocol in (
        Protocol("lvis", "lvis", image_cap=300),
        Protocol("lvis-fixed", "lvis", class_cap=10_000),
        Protocol("coco", "coco", max_dets=(1, 10, 100)),
        Protocol("queries", "lvis"),
    )
}
