"""From uint8 images to network input, and boxes back to the frame of the original image."""

from __future__ import annotations

from collections.abc import Hashable, Sequence

import numpy as np
import PIL.Image
import torch
from torch.nn import functional

from ovd_bench.detectors.types import Image


def float_pixels(image: Image) -> torch.Tensor:
    """Pixels as float32 (3, H, W), 0 … 255."""
    return torch.from_numpy(np.array(image.pixels)).permute(2, 0, 1).float()


def resized(image: Image, height: int, width: int) -> torch.Tensor:
    """Bilinear with antialias, by Pillow, on uint8: float32 (3, height, width), 0 … 255."""
    picture = PIL.Image.fromarray(image.pixels).resize((width, height), PIL.Image.Resampling.BILINEAR)
    return torch.from_numpy(np.array(picture)).permute(2, 0, 1).float()


def shorter_side_size(image: Image, shorter: int, longest: int) -> tuple[int, int]:
    """Height and width with the shorter side at ``shorter`` unless the longer one would pass ``longest``.

    The rule, roundings included, is that of Grounding DINO (``groundingdino/datasets/transforms.py``).
    """
    small, large = sorted((image.height, image.width))
    if large / small * shorter > longest:
        shorter = max(round(longest * small / large), 1)
    other = max(int(shorter * large / small), 1)
    return (other, shorter) if image.height > image.width else (shorter, other)


def padded_square(image: Image, side: int) -> torch.Tensor:
    """The image in the upper left of a black square: float32 (3, side, side), 0 … 1.

    The longer side becomes ``side``; bilinear without antialias, then zeros on the right and at the bottom, as
    ``ResizeWithPad`` in the evaluation of OWL-ViT (``scenic/projects/owl_vit/preprocessing/image_ops.py``).
    """
    longest = max(image.height, image.width)
    height, width = (max(edge * side // longest, 1) for edge in (image.height, image.width))
    pixels = float_pixels(image)[None] / 255
    small = functional.interpolate(pixels, (height, width), mode="bilinear", align_corners=False)[0]
    return functional.pad(small, (0, side - width, 0, side - height))


def to_corners(boxes_cxcywh: torch.Tensor) -> torch.Tensor:
    """(…, 4) centre and size to (…, 4) corners."""
    centre, half = boxes_cxcywh[..., :2], boxes_cxcywh[..., 2:] / 2
    return torch.cat((centre - half, centre + half), dim=-1)


def from_unit_square(boxes_cxcywh: torch.Tensor, image: Image) -> torch.Tensor:
    """Boxes relative to the image's own height and width, as corners in its pixels: float32 (n, 4)."""
    corners = to_corners(boxes_cxcywh.float())
    return corners * corners.new_tensor([image.width, image.height, image.width, image.height])


def from_padded_square(boxes_cxcywh: torch.Tensor, image: Image) -> torch.Tensor:
    """Boxes relative to the square around the image, as corners in its pixels: float32 (n, 4).

    Centre and size are first limited to the image, as ``unpad_box`` in OWL-ViT's evaluation does.
    """
    longest = max(image.height, image.width)
    frame = boxes_cxcywh.new_tensor([image.width, image.height, image.width, image.height]).float()
    return to_corners(torch.minimum((boxes_cxcywh.float() * longest).clamp(min=0), frame))


def groups(keys: Sequence[Hashable]) -> list[list[int]]:
    """Positions of equal keys, groups in order of first appearance."""
    found: dict[Hashable, list[int]] = {}
    for position, key in enumerate(keys):
        found.setdefault(key, []).append(position)
    return list(found.values())
