"""From uint8 images to network input, and boxes back to the frame of the original image."""

from __future__ import annotations

from collections.abc import Hashable, Sequence

import numpy as np
import numpy.typing as npt
import PIL.Image

from ovd_bench.detectors.types import Image

Floats = npt.NDArray[np.float32]


def float_pixels(image: Image) -> Floats:
    """Pixels as float32 (3, H, W), 0 … 255; in memory the channels lie together, as in the image."""
    return image.pixels.transpose(2, 0, 1).astype(np.float32)


def resized(image: Image, height: int, width: int) -> Floats:
    """Bilinear with antialias, by Pillow, on uint8: float32 (3, height, width), 0 … 255; in memory as the pixels."""
    picture = PIL.Image.fromarray(image.pixels).resize((width, height), PIL.Image.Resampling.BILINEAR)
    return np.asarray(picture).transpose(2, 0, 1).astype(np.float32)


def shorter_side_size(image: Image, shorter: int, longest: int) -> tuple[int, int]:
    """Height and width with the shorter side at ``shorter`` unless the longer one would pass ``longest``.

    The rule, roundings included, is that of Grounding DINO (``groundingdino/datasets/transforms.py``).
    """
    small, large = sorted((image.height, image.width))
    if large / small * shorter > longest:
        shorter = max(round(longest * small / large), 1)
    other = max(int(shorter * large / small), 1)
    return (other, shorter) if image.height > image.width else (shorter, other)


def from_unit_square(boxes_cxcywh: Floats, image: Image) -> Floats:
    """Boxes (n, 4) relative to the image's own height and width, as corners in its pixels."""
    return to_corners(boxes_cxcywh) * _frame(image)


def from_padded_square(boxes_cxcywh: Floats, image: Image) -> Floats:
    """Boxes (n, 4) relative to the square around the image, as corners in its pixels.

    Centre and size are first limited to the image, as ``unpad_box`` in OWL-ViT's evaluation does.
    """
    inside = np.maximum(boxes_cxcywh * np.float32(max(image.height, image.width)), np.float32(0))
    return to_corners(np.minimum(inside, _frame(image)))


def to_corners(boxes_cxcywh: Floats) -> Floats:
    """(…, 4) centre and size to (…, 4) corners."""
    centre, half = boxes_cxcywh[..., :2], boxes_cxcywh[..., 2:] / np.float32(2)
    return np.concatenate((centre - half, centre + half), axis=-1)


def _frame(image: Image) -> Floats:
    return np.array([image.width, image.height] * 2, np.float32)


def groups(keys: Sequence[Hashable]) -> list[list[int]]:
    """Positions of equal keys, groups in order of first appearance."""
    found: dict[Hashable, list[int]] = {}
    for position, key in enumerate(keys):
        found.setdefault(key, []).append(position)
    return list(found.values())
