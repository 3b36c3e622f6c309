"""Assignment of cells to objects."""

from __future__ import annotations

from typing import NamedTuple

import torch
from scipy.optimize import linear_sum_assignment
from torch import Tensor

from ovd_bench.baselines.owl_nano.boxes import generalized_iou, iou
from ovd_bench.baselines.owl_nano.losses import (
    COST_CLASS,
    COST_GIOU,
    COST_L1,
    focal_negative,
    focal_positive,
    relative_l1,
)
from ovd_bench.baselines.owl_nano.model import Output

#: Cells per object, and the weight of the IoU in the alignment.
TOP = 7
IOU_POWER = 6.0


class Targets(NamedTuple):
    """Objects of B images, padded to G each.

    Attributes:
        boxes_xyxy: float32 (B, G, 4), pixels of the network input.
        rows: int64 (B, G), class; 0 in the padding.
        valid: bool (B, G), False in the padding.
        sure: bool (B, K), False for classes that are not annotated exhaustively in the image.
    """

    boxes_xyxy: Tensor
    rows: Tensor
    valid: Tensor
    sure: Tensor


class Assignment(NamedTuple):
    """The P positive cells: image, cell and position of the object in its image, int64 (P,) each."""

    image: Tensor
    cell: Tensor
    target: Tensor


@torch.no_grad()  # type: ignore[untyped-decorator]
def assign_one_to_many(output: Output, targets: Targets, centres: Tensor) -> Assignment:
    """The best aligned cells of each object (after Feng et al. 2021, *TOOD*, section 3.3).

    A cell is a candidate if its centre lies inside the object's box, or if it is the cell nearest to the box's centre.
    Of these the ``TOP`` with the largest ``p * IoU ** IOU_POWER`` are positive, where p is the probability of the right
    class; ties go to the earlier cell. A cell that is positive for several objects is assigned to the one with the
    highest IoU.

    Args:
        output: output of the network.
        targets: objects.
        centres: (N, 2) of the cells, pixels.
    """
    overlap = iou(targets.boxes_xyxy[:, :, None], output.boxes_xyxy[:, None])  # (B, G, N)
    wanted = targets.rows[:, None].expand(-1, output.logits.shape[1], -1)  # (B, N, G)
    probability = output.logits.gather(2, wanted).sigmoid().transpose(1, 2)
    inside = (centres > targets.boxes_xyxy[:, :, None, :2]) & (centres < targets.boxes_xyxy[:, :, None, 2:])
    middle = (targets.boxes_xyxy[..., :2] + targets.boxes_xyxy[..., 2:]) / 2
    nearest = (middle[:, :, None] - centres).square().sum(-1).argmin(-1, keepdim=True)
    candidate = inside.all(-1).scatter(2, nearest, True) & targets.valid[..., None]
    alignment = torch.where(candidate, probability * overlap**IOU_POWER, -1.0)
    best = alignment.sort(dim=2, descending=True, stable=True).indices[..., :TOP]
    chosen = torch.zeros_like(candidate).scatter(2, best, True) & candidate
    rival = torch.where(chosen, overlap, -1.0)
    owner = rival.argmax(1)  # (B, N)
    image, cell = chosen.any(1).nonzero(as_tuple=True)
    return Assignment(image, cell, owner[image, cell])


@torch.no_grad()  # type: ignore[untyped-decorator]
def assign_hungarian(output: Output, targets: Targets, size: tuple[int, int]) -> Assignment:
    """One cell per object, at minimum total cost (Carion et al. 2020, *DETR*, section 3.1).

    The cost of a pair is ``COST_CLASS`` x focal cost of the object's class + ``COST_L1`` x L1 distance of cxcywh over
    the image size - ``COST_GIOU`` x GIoU.

    Args:
        output: output of the network.
        targets: objects.
        size: width and height of the network input, pixels.
    """
    image, cell, target = [], [], []
    for row in range(len(targets.valid)):
        number = int(targets.valid[row].sum())
        boxes, classes = targets.boxes_xyxy[row, :number], targets.rows[row, :number]
        logits = output.logits[row][:, classes]
        cost = COST_CLASS * (focal_positive(logits) - focal_negative(logits))
        cost += COST_L1 * relative_l1(output.boxes_xyxy[row][:, None], boxes, size)
        cost -= COST_GIOU * generalized_iou(output.boxes_xyxy[row][:, None], boxes)
        cells, objects = linear_sum_assignment(cost.cpu().numpy())
        image += [row] * len(cells)
        cell += cells.tolist()
        target += objects.tolist()
    device = output.logits.device
    return Assignment(*(torch.tensor(column, dtype=torch.int64, device=device) for column in (image, cell, target)))
