"""Losses: focal loss of the classes, L1 and GIoU of the boxes, cross-entropy of the IoU branch."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from ovd_bench.baselines.owl_nano.boxes import generalized_iou

WEIGHT_CLASS, WEIGHT_L1, WEIGHT_GIOU, WEIGHT_QUALITY = 1.0, 5.0, 2.0, 1.0
COST_CLASS, COST_L1, COST_GIOU = 2.0, 5.0, 2.0
#: Weight of the label 1 in the focal loss; the exponent of both class losses is 2.
ALPHA = 0.25


def focal_positive(logits: Tensor) -> Tensor:
    """Focal loss of each logit if its label is 1 (Lin et al. 2017, section 3.2); shape as given."""
    return ALPHA * torch.sigmoid(-logits).square() * functional.softplus(-logits)


def focal_negative(logits: Tensor) -> Tensor:
    """Focal loss of each logit if its label is 0; shape as given."""
    return (1 - ALPHA) * torch.sigmoid(logits).square() * functional.softplus(logits)


def focal_loss(logits: Tensor, image: Tensor, cell: Tensor, row: Tensor, sure: Tensor) -> Tensor:
    """Focal loss over all cells and classes, divided by the number of positive cells.

    Args:
        logits: (B, N, K).
        image: (P,) with ``cell`` and ``row``: where the label is 1; elsewhere it is 0.
        cell: (P,).
        row: (P,), class.
        sure: bool (B, K), False where a missing label is not a negative, because the class is not annotated
            exhaustively.
    """
    here = logits[image, cell, row]
    change = focal_positive(here) - focal_negative(here) * sure[image, row]
    return (_everywhere(focal_negative(logits), sure) + change.sum()) / max(len(image), 1)


def quality_focal_loss(
    logits: Tensor, image: Tensor, cell: Tensor, row: Tensor, target: Tensor, sure: Tensor
) -> Tensor:
    """Quality focal loss of all cells and classes, divided by the sum of targets, at least 1 (Li et al. 2020, eq. 5).

    Args:
        logits: (B, N, K).
        image: (P,) with ``cell`` and ``row``: where the target is not 0.
        cell: (P,).
        row: (P,), class.
        target: (P,), the IoU of the cell's box and its object.
        sure: as in ``focal_loss``.
    """
    here = logits[image, cell, row]
    entropy = functional.binary_cross_entropy_with_logits(here, target, reduction="none")
    change = (target - here.sigmoid()).square() * entropy - _soft_negative(here) * sure[image, row]
    return (_everywhere(_soft_negative(logits), sure) + change.sum()) / target.sum().clamp(min=1)


def _soft_negative(logits: Tensor) -> Tensor:
    """Quality focal loss of each logit if its target is 0."""
    return torch.sigmoid(logits).square() * functional.softplus(logits)


def _everywhere(loss: Tensor, sure: Tensor) -> Tensor:
    """Sum of (B, N, K) where the class is sure, (B, K)."""
    return (loss.sum(1) * sure).sum()


def relative_l1(a: Tensor, b: Tensor, size: tuple[int, int]) -> Tensor:
    """Sum of absolute differences of cx, cy, w, h, divided by the image's width and height.

    Args:
        a: boxes xyxy (..., 4) in pixels.
        b: the others, which broadcast against them.
        size: width and height of the image, pixels.
    """
    scale = a.new_tensor([*size, *size])
    low, high = (a - b)[..., :2], (a - b)[..., 2:]
    return (torch.cat([(low + high) / 2, high - low], dim=-1) / scale).abs().sum(-1)


def box_losses(boxes: Tensor, truth: Tensor, size: tuple[int, int]) -> tuple[Tensor, Tensor]:
    """Mean L1 distance (see ``relative_l1``) and mean 1 - GIoU of P pairs of boxes (P, 4)."""
    count = max(len(boxes), 1)
    return relative_l1(boxes, truth, size).sum() / count, (1 - generalized_iou(boxes, truth)).sum() / count


def quality_loss(quality: Tensor, overlap: Tensor) -> Tensor:
    """Mean cross-entropy between the IoU branch (P,), logits, and the actual IoU (P,) of the boxes."""
    return functional.binary_cross_entropy_with_logits(quality, overlap, reduction="sum") / max(len(overlap), 1)
