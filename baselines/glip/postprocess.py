"""Postprocessing of scores to boxes of classes (``ATSSPostProcessor`` in ``modeling/rpn/inference.py``)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torchvision.ops import nms

from ovd_bench.baselines.glip.anchors import decode

#: A class probability must exceed this, before multiplication with the centerness (``ATSS.INFERENCE_TH``).
SCORE_THRESHOLD = 0.05
#: Pairs of location and class that each level keeps (``ATSS.PRE_NMS_TOP_N``).
LEVEL_TOP_K = 1000
#: Overlap above which the lower-scoring of two boxes of one class is dropped (``ATSS.NMS_TH``).
NMS_IOU = 0.6


@dataclass(frozen=True)
class Found:
    """Boxes of one image, best first (n of them).

    Attributes:
        boxes_xyxy: (n, 4), pixels of the network's input, inside the image.
        scores: (n,), the square root of class probability times centerness.
        classes: int64 (n,), rows.
    """

    boxes_xyxy: Tensor
    scores: Tensor
    classes: Tensor


def select_boxes(
    scores: Tensor,
    deltas: Tensor,
    centerness: Tensor,
    anchors: Tensor,
    shapes: Sequence[tuple[int, int]],
    size: tuple[int, int],
    top_k: int,
) -> Found:
    """Threshold, centerness, best pairs of each level, suppression within each class, best pairs of all.

    Ties go to the earlier location, then the earlier class. The official code does not define their order, and keeps
    more than ``top_k`` if the last ones are equal.

    Args:
        scores: (N, K), probability of the classes at the locations.
        deltas: (N, 4).
        centerness: (N,), logits.
        anchors: (N, 4) xyxy.
        shapes: height and width of the levels.
        size: height and width of the image without padding, pixels.
        top_k: pairs in all.
    """
    parts = []
    begin = 0
    for height, width in shapes:
        level = slice(begin, begin + height * width)
        begin += height * width
        parts.append(_best_of_level(scores[level], deltas[level], centerness[level], anchors[level], size))
    boxes, values, classes = (torch.cat(column) for column in zip(*parts, strict=True))
    kept = _without_duplicates(boxes, values, classes)
    kept = kept[values[kept].sort(descending=True, stable=True).indices[:top_k]]
    return Found(boxes[kept], values[kept], classes[kept])


def _best_of_level(
    scores: Tensor, deltas: Tensor, centerness: Tensor, anchors: Tensor, size: tuple[int, int]
) -> tuple[Tensor, Tensor, Tensor]:
    locations, classes = (scores > SCORE_THRESHOLD).nonzero(as_tuple=True)
    values = scores[locations, classes] * centerness[locations].sigmoid()
    values, order = values.sort(descending=True, stable=True)
    values, order = values[:LEVEL_TOP_K], order[:LEVEL_TOP_K]
    locations, classes = locations[order], classes[order]
    boxes = decode(deltas[locations], anchors[locations])
    last = boxes.new_tensor([size[1] - 1, size[0] - 1] * 2)
    return boxes.clamp(min=0).minimum(last), values.sqrt(), classes


def _without_duplicates(boxes: Tensor, scores: Tensor, classes: Tensor) -> Tensor:
    """Kept rows, in order. IoU as in ``csrc/cuda/ml_nms.cu``: the last pixel belongs to a box."""
    kept = torch.zeros_like(classes, dtype=torch.bool)
    wide = boxes + boxes.new_tensor([0, 0, 1, 1])
    for number in classes.unique():  # torchvision's batched_nms shifts boxes by class instead, which rounds them
        rows = (classes == number).nonzero().squeeze(1)
        kept[rows[nms(wide[rows], scores[rows], NMS_IOU)]] = True
    return kept.nonzero().squeeze(1)
