"""Anchors and boxes in the legacy frame, in which a box from pixel 2 to pixel 4 is 3 wide.

Source: ``modeling/rpn/anchor_generator.py`` and ``BoxCoder`` in ``modeling/rpn/vldyhead.py`` of microsoft/GLIP. The
last pixel belongs to a box, hence the 1 in sizes (``TO_REMOVE``) and corners. The network outputs boxes in that frame,
and the evaluation on LVIS uses their corners unchanged (``lvis_eval.py``, ``convert_to_xywh``).
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

#: Factors of the deltas: shift of the centre divided by the anchor's size, and logarithm of the ratio of sizes.
_SHIFT, _GROWTH = 10.0, 5.0
#: A box is at most this many times as large as its anchor.
_LARGEST = 1000 / 16


def anchor_boxes(
    shapes: Sequence[tuple[int, int]], strides: Sequence[int], sizes: Sequence[int], device: torch.device | str = "cpu"
) -> Tensor:
    """One square per location, centred in the location's first stride x stride pixels.

    Args:
        shapes: height and width of each level, in locations.
        strides: stride of each level, pixels.
        sizes: sides of the squares of each level, pixels.
        device: device of the result.

    Returns:
        Float32 (N, 4) xyxy, levels one after the other, row by row.
    """
    levels = []
    for (height, width), stride, size in zip(shapes, strides, sizes, strict=True):
        middle = (stride - 1) / 2
        y = torch.arange(height, device=device)[:, None].expand(height, width) * stride + middle
        x = torch.arange(width, device=device).expand(height, width) * stride + middle
        reach = (size - 1) / 2
        levels.append(torch.stack((x - reach, y - reach, x + reach, y + reach), -1).view(-1, 4))
    return torch.cat(levels)


def encode(boxes: Tensor, anchors: Tensor) -> Tensor:
    """Boxes (N, 4) xyxy as deltas (N, 4) from anchors (N, 4) xyxy: (dx, dy, dw, dh)."""
    centres, sizes = _centres_and_sizes(boxes)
    at, of = _centres_and_sizes(anchors)
    return torch.cat((_SHIFT * (centres - at) / of, _GROWTH * (sizes / of).log()), -1)


def decode(deltas: Tensor, anchors: Tensor) -> Tensor:
    """The inverse of ``encode``; sizes are limited to 62.5 times the anchor's."""
    at, of = _centres_and_sizes(anchors)
    centres = deltas[..., :2] / _SHIFT * of + at
    reach = ((deltas[..., 2:] / _GROWTH).clamp(max=math.log(_LARGEST)).exp() * of - 1) / 2
    return torch.cat((centres - reach, centres + reach), -1)


def _centres_and_sizes(boxes: Tensor) -> tuple[Tensor, Tensor]:
    return (boxes[..., :2] + boxes[..., 2:]) / 2, boxes[..., 2:] - boxes[..., :2] + 1


def legacy_iou(boxes: Tensor, others: Tensor) -> Tensor:
    """IoU (N, M) of boxes (N, 4) and (M, 4) in the legacy frame."""
    overlap = torch.minimum(boxes[:, None, 2:], others[:, 2:]) - torch.maximum(boxes[:, None, :2], others[:, :2]) + 1
    shared = overlap.clamp(min=0).prod(-1)
    area, other = (_centres_and_sizes(part)[1].prod(-1) for part in (boxes, others))
    return shared / (area[:, None] + other - shared)
