"""Class-agnostic region proposals."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import numpy as np
import numpy.typing as npt
import torch
from torchvision.ops import nms

from ovd_bench.baselines.clip_region.regions import Boxes, Pixels

#: Minimum width and height of a region, pixels.
THINNEST = 0.5

Proposals = tuple[Boxes, npt.NDArray[np.float32]]


class Proposer(Protocol):
    """Anything that proposes regions: a detector, a class-agnostic head, a grid."""

    def propose(self, images: Sequence[Pixels]) -> list[Proposals]:
        """Regions of each image (uint8 (H, W, 3)), independent of the other images.

        Returns:
            Per image, float32 boxes (n, 4), ``x1 y1 x2 y2`` in its pixels, inside it and not empty, and float32
            objectness (n,), 0 … 1, best first.
        """
        ...


class GridProposer:
    """A baseline that ignores the image: windows of the image's aspect at four scales, overlapping by half.

    All have the same objectness, so only CLIP ranks them. 284 boxes per image.
    """

    def propose(self, images: Sequence[Pixels]) -> list[Proposals]:
        """See ``Proposer``."""
        return [_grid(*pixels.shape[:2]) for pixels in images]


def _grid(height: int, width: int) -> Proposals:
    boxes = []
    for parts in (1, 2, 4, 8):
        starts = np.arange(2 * parts - 1) / (2 * parts)
        left, top = (values.ravel() for values in np.meshgrid(starts, starts))
        boxes.append(np.stack([left, top, left + 1 / parts, top + 1 / parts], axis=1))
    scaled = np.concatenate(boxes) * (width, height, width, height)
    return scaled.astype(np.float32), np.ones(len(scaled), np.float32)


def pooled(
    boxes_xyxy: Boxes, objectness: npt.NDArray[np.float32], size: tuple[int, int], iou: float, most: int
) -> Proposals:
    """The best boxes of any classes as proposals: clipped to the image, without duplicates.

    Args:
        boxes_xyxy: (n, 4).
        objectness: (n,).
        size: height and width of the image.
        iou: overlap above which the lower-scoring of two boxes is a duplicate, whatever their classes.
        most: maximum number of kept boxes.

    Raises:
        ValueError: an objectness outside 0 … 1.
    """
    if len(objectness) and not (objectness.min() >= 0 and objectness.max() <= 1):
        raise ValueError(
            f"objectness from {objectness.min():.4g} to {objectness.max():.4g}: it must lie between 0 and 1 to be "
            "multiplied with a probability"
        )
    height, width = size
    frame = np.array([width, height, width, height], np.float32)
    boxes = np.clip(boxes_xyxy, 0, frame).astype(np.float32)
    real = ((boxes[:, 2:] - boxes[:, :2]) >= THINNEST).all(axis=1)
    boxes, objectness = boxes[real], objectness[real]
    kept = nms(torch.from_numpy(boxes), torch.from_numpy(objectness), iou)[:most].numpy()
    return boxes[kept], objectness[kept]
