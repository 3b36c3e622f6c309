"""Mirroring, resizing and cropping of an image together with its boxes."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import PIL.Image

from ovd_bench.benchmarks.training.grounding.settings import CropSettings, TransformSettings

#: Boxes with smaller sides after the augmentation, in pixels, are removed.
_MIN_SIDE = 1.0


@dataclass(frozen=True)
class Transformed:
    """An augmented image (k of n boxes left).

    Attributes:
        image: uint8 (H, W, 3) RGB.
        boxes_xyxy: float64 (k, 4), pixels of ``image``, clipped to it, sides of at least one pixel.
        kept: int64 (k,), rows of the remaining boxes.
        mirrored: whether it was mirrored left to right.
    """

    image: npt.NDArray[np.uint8]
    boxes_xyxy: npt.NDArray[np.float64]
    kept: npt.NDArray[np.int64]
    mirrored: bool


def transform(
    image: npt.NDArray[np.uint8],
    boxes_xyxy: npt.NDArray[np.float64],
    rng: np.random.Generator,
    settings: TransformSettings,
) -> Transformed:
    """Augment an image as in DETR: mirror, then resize, sometimes with a crop before (``datasets/coco.py``).

    Args:
        image: uint8 (H, W, 3) RGB; not changed.
        boxes_xyxy: (n, 4), absolute pixels; clipped at the border.
        rng: source of all randomness.
        settings: of the augmentation.
    """
    picture = PIL.Image.fromarray(image)
    boxes = boxes_xyxy.copy()
    mirrored = rng.random() < settings.flip
    if mirrored:
        picture = picture.transpose(PIL.Image.Transpose.FLIP_LEFT_RIGHT)
        boxes[:, [0, 2]] = picture.width - boxes[:, [2, 0]]
    if (crop := settings.crop) is not None and rng.random() < crop.probability:
        picture, boxes = _resized(picture, boxes, int(rng.choice(crop.sizes)), None)
        picture, boxes = _cropped(picture, boxes, crop, rng)
    if settings.sizes:
        picture, boxes = _resized(picture, boxes, int(rng.choice(settings.sizes)), settings.longest)
    boxes = np.clip(boxes, 0, np.tile(picture.size, 2))
    kept = np.flatnonzero((boxes[:, 2:] - boxes[:, :2]).min(axis=1, initial=np.inf) >= _MIN_SIDE)
    return Transformed(np.asarray(picture), boxes[kept], kept, mirrored)


def resized_size(width: int, height: int, shorter: int, longest: int | None) -> tuple[int, int]:
    """Width and height with the shorter side resized to ``shorter``, or to less if the longer one is limited.

    Rounded as in DETR (``datasets/transforms.py``, resize).
    """
    low, high = min(width, height), max(width, height)
    if longest is not None and high / low * shorter > longest:
        shorter = max(1, round(longest * low / high))
    if width < height:
        return shorter, max(1, int(shorter * height / width))
    return max(1, int(shorter * width / height)), shorter


def _resized(
    picture: PIL.Image.Image, boxes: npt.NDArray[np.float64], shorter: int, longest: int | None
) -> tuple[PIL.Image.Image, npt.NDArray[np.float64]]:
    size = resized_size(*picture.size, shorter, longest)
    if size == picture.size:
        return picture, boxes
    ratio = np.tile(np.divide(size, picture.size), 2)
    # Pillow's bilinear filter widens when it shrinks: antialiased, as torchvision on Pillow images.
    return picture.resize(size, PIL.Image.Resampling.BILINEAR), boxes * ratio


def _cropped(
    picture: PIL.Image.Image, boxes: npt.NDArray[np.float64], crop: CropSettings, rng: np.random.Generator
) -> tuple[PIL.Image.Image, npt.NDArray[np.float64]]:
    """A window with sides between ``smallest`` and ``largest``, or at most those of the image."""
    width, height = (
        int(rng.integers(min(crop.smallest, side), min(crop.largest, side), endpoint=True)) for side in picture.size
    )
    x = int(rng.integers(picture.width - width, endpoint=True))
    y = int(rng.integers(picture.height - height, endpoint=True))
    return picture.crop((x, y, x + width, y + height)), boxes - np.array([x, y, x, y], np.float64)
