"""Assignment of locations to objects: ATSS (Zhang et al. 2020, algorithm 1; ``modeling/rpn/loss.py``)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from ovd_bench.baselines.glip.anchors import legacy_iou

#: Candidate locations of each level per object: the nearest ones (``DYHEAD.TOPK``).
TOP = 9
#: Minimum distance of an anchor's centre from the border of the object, pixels.
_INSIDE = 0.01


class Targets(NamedTuple):
    """Objects of B images, padded to G each.

    Attributes:
        boxes_xyxy: float32 (B, G, 4), pixels of the network input, in the legacy frame: a COCO box x, y, w, h is
            x, y, x + w - 1, y + h - 1.
        tokens: bool (B, G, n), the caption's tokens that name the object.
        valid: bool (B, G), False in the padding.
    """

    boxes_xyxy: Tensor
    tokens: Tensor
    valid: Tensor


class Assignment(NamedTuple):
    """The P positive locations: image, location and position of the object, int64 (P,) each."""

    image: Tensor
    location: Tensor
    target: Tensor


@torch.no_grad()  # type: ignore[untyped-decorator]
def assign(anchors: Tensor, shapes: Sequence[tuple[int, int]], targets: Targets) -> Assignment:
    """Adaptive training sample selection.

    Candidates are the ``TOP`` anchors of each level whose centres are nearest to the object's; ties go to the earlier
    one. Positive are those whose IoU with the object is at least the mean plus the (sample) standard deviation of the
    candidates' IoUs, and whose centre is inside it. A location that is positive for several objects is assigned to the
    one with the highest IoU; ties go to the earlier one.

    Args:
        anchors: (N, 4) xyxy.
        shapes: height and width of the levels.
        targets: objects.
    """
    sizes = [height * width for height, width in shapes]
    middles = (anchors[:, :2] + anchors[:, 2:]) / 2
    columns: list[tuple[Tensor, Tensor, Tensor]] = []
    for image, valid in enumerate(targets.valid):
        objects = valid.nonzero().squeeze(1)
        if not len(objects):
            continue
        boxes = targets.boxes_xyxy[image, objects]
        distance = torch.cdist(middles, (boxes[:, :2] + boxes[:, 2:]) / 2, compute_mode="donot_use_mm_for_euclid_dist")
        begins = [sum(sizes[:level]) for level in range(len(sizes))]
        nearest = [
            part.sort(dim=0, stable=True).indices[:TOP] + begin
            for part, begin in zip(distance.split(sizes), begins, strict=True)
        ]
        candidates = torch.cat(nearest)  # (K, G)
        overlap = legacy_iou(anchors, boxes)
        among = overlap.gather(0, candidates)
        at = middles[candidates]  # (K, G, 2)
        inside = torch.minimum(at - boxes[:, :2], boxes[:, 2:] - at).amin(-1) > _INSIDE
        wanted = inside & (among >= among.mean(0) + among.std(0))
        rival = torch.full_like(overlap, -torch.inf)
        rival.scatter_(0, candidates, torch.where(wanted, among, -torch.inf))
        best, owner = rival.max(1)
        location = best.isfinite().nonzero().squeeze(1)
        columns.append((torch.full_like(location, image), location, objects[owner[location]]))
    if not columns:
        nothing = torch.empty(0, dtype=torch.int64, device=anchors.device)
        return Assignment(nothing, nothing, nothing)
    return Assignment(*(torch.cat(column) for column in zip(*columns, strict=True)))
