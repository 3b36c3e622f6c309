"""Overlap of boxes, xyxy, any leading dimensions, in the same unit."""

from __future__ import annotations

import torch
from torch import Tensor

_TINY = 1e-7


def _overlap(a: Tensor, b: Tensor) -> tuple[Tensor, Tensor]:
    """Intersection and union areas of boxes (..., 4) that broadcast against each other."""
    sides = (torch.minimum(a[..., 2:], b[..., 2:]) - torch.maximum(a[..., :2], b[..., :2])).clamp(min=0)
    intersection = sides.prod(-1)
    areas = [(box[..., 2:] - box[..., :2]).prod(-1) for box in (a, b)]
    return intersection, areas[0] + areas[1] - intersection


def iou(a: Tensor, b: Tensor) -> Tensor:
    """Intersection over union of boxes (..., 4) that broadcast against each other; 0 for two empty boxes."""
    intersection, union = _overlap(a, b)
    return intersection / union.clamp(min=_TINY)


def generalized_iou(a: Tensor, b: Tensor) -> Tensor:
    """GIoU of boxes (..., 4) that broadcast against each other, -1 … 1 (Rezatofighi et al. 2019, algorithm 1)."""
    intersection, union = _overlap(a, b)
    hull = (torch.maximum(a[..., 2:], b[..., 2:]) - torch.minimum(a[..., :2], b[..., :2])).prod(-1)
    return intersection / union.clamp(min=_TINY) - (hull - union) / hull.clamp(min=_TINY)
