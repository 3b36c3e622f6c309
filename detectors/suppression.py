"""Suppression of duplicates: of two boxes of one class that overlap by much, only the better one is reported."""

from __future__ import annotations

from torch import Tensor
from torchvision.ops import nms

#: Overlap above which the lesser of two boxes of one class is a duplicate, where nothing else is asked for.
NMS_IOU = 0.6
#: The overlap at which nothing is a duplicate.
NO_SUPPRESSION = 1.0
#: Boxes of a class, the best ones, among which duplicates are looked for; the others are dropped.
NMS_BOXES = 100
#: In place of a score: this pair is not reported.
NOTHING = -1.0


def without_duplicates(scores: Tensor, boxes: Tensor, iou: float = NMS_IOU) -> Tensor:
    """Scores with ``NOTHING`` in place of boxes that a better one of the same class overlaps, and of the worst.

    Another rule raises ``suppression_version`` of the cards of all that use it.

    Args:
        scores: (K, N).
        boxes: (N, 4) xyxy.
        iou: overlap above which a box is a duplicate; ``NO_SUPPRESSION`` gives the scores back as they are.
    """
    if iou >= NO_SUPPRESSION:
        return scores
    top, cells = scores.sort(dim=1, descending=True, stable=True)
    top, cells = top[:, :NMS_BOXES], cells[:, :NMS_BOXES]
    remaining = scores.new_full(scores.shape, NOTHING)
    for row, (best, cell) in enumerate(zip(top, cells, strict=True)):  # batched_nms is slower with many classes
        kept = cell[nms(boxes[cell], best, iou)]
        remaining[row, kept] = scores[row, kept]
    return remaining
