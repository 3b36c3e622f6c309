"""Losses: focal loss of the tokens, GIoU of the boxes, cross-entropy of the centerness.

Source: ``modeling/rpn/loss.py`` (``ATSSLossComputation``) and ``layers/sigmoid_focal_loss.py`` of microsoft/GLIP. The
official code also averages both divisors over processes; this is not implemented.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional

from ovd_bench.baselines.glip.anchors import decode
from ovd_bench.baselines.glip.assign import Assignment, Targets, assign
from ovd_bench.baselines.glip.model import GlipOutput
from ovd_bench.baselines.owl_nano.boxes import generalized_iou
from ovd_bench.baselines.owl_nano.losses import focal_negative, focal_positive

#: ``ATSS.REG_LOSS_WEIGHT``; the other weights are 1.
WEIGHT_BOX = 2.0
#: Token column for "no object". It is used only if the caption is that long.
NO_OBJECT = 255


class Losses(NamedTuple):
    """The parts, weighted: scalars."""

    token: Tensor
    box: Tensor
    centerness: Tensor

    @property
    def total(self) -> Tensor:
        """Their sum."""
        return self.token + self.box + self.centerness


def glip_losses(output: GlipOutput, text_mask: Tensor, anchors: Tensor, targets: Targets) -> Losses:
    """Losses of a batch.

    Args:
        output: output of the network; its images and captions belong together one by one.
        text_mask: bool (B, n), False for padding.
        anchors: (N, 4) xyxy.
        targets: objects.
    """
    chosen = assign(anchors, output.shapes, targets)
    token = token_loss(output.logits, text_mask, chosen, targets.tokens)
    if not len(chosen.image):
        return Losses(token, output.deltas.sum() * 0, output.centerness.sum() * 0)
    at = anchors[chosen.location]
    truth = targets.boxes_xyxy[chosen.image, chosen.target]
    central = centerness_targets(at, truth)
    box = box_loss(output.deltas[chosen.image, chosen.location], at, truth, central)
    centerness = functional.binary_cross_entropy_with_logits(output.centerness[chosen.image, chosen.location], central)
    return Losses(token, WEIGHT_BOX * box, centerness)


def token_loss(logits: Tensor, text_mask: Tensor, chosen: Assignment, tokens: Tensor) -> Tensor:
    """Focal loss over all locations and tokens, divided by the number of positive locations, at least 1.

    Args:
        logits: (B, N, n).
        text_mask: bool (B, n), False for padding, which does not count.
        chosen: positives, where the label of the object's tokens is 1. Elsewhere it is 0, except for ``NO_OBJECT``.
        tokens: bool (B, G, n), of the objects.
    """
    labels = torch.zeros_like(logits, dtype=torch.bool)
    labels[:, :, NO_OBJECT:] = True
    labels[chosen.image, chosen.location] = tokens[chosen.image, chosen.target]
    loss = torch.where(labels, focal_positive(logits), focal_negative(logits))
    return (loss.sum(1) * text_mask).sum() / max(len(chosen.image), 1)


def box_loss(deltas: Tensor, anchors: Tensor, truth: Tensor, central: Tensor) -> Tensor:
    """1 - GIoU of P boxes (P, 4), averaged with the weights ``central`` (P,), which are the centerness targets."""
    boxes = decode(deltas, anchors)
    boxes = torch.cat((boxes[:, :2], torch.maximum(boxes[:, :2], boxes[:, 2:])), 1)
    return ((1 - generalized_iou(boxes, truth)) * central).sum() / central.sum()


def centerness_targets(anchors: Tensor, truth: Tensor) -> Tensor:
    """Centerness of the centres of anchors (P, 4) in their objects (P, 4), 0 … 1 (Tian et al. 2019, eq. 3)."""
    middles = (anchors[:, :2] + anchors[:, 2:]) / 2
    low, high = middles - truth[:, :2], truth[:, 2:] - middles
    return (torch.minimum(low, high) / torch.maximum(low, high)).prod(-1).sqrt()
