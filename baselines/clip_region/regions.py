"""Features of boxes for CLIP: square crops, and patches pooled inside the box.

Boxes are ``x1 y1 x2 y2`` in pixels of the image.
"""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image
from torch import Tensor

Pixels = npt.NDArray[np.uint8]
Boxes = npt.NDArray[np.float32]


def square_around(box_xyxy: npt.ArrayLike, context: float) -> tuple[int, int, int]:
    """Left, top and side of the square of whole pixels centred on a box.

    Args:
        box_xyxy: (4,).
        context: side of the square over the longer side of the box; 1 = equal.
    """
    x1, y1, x2, y2 = np.asarray(box_xyxy, np.float64).tolist()
    side = max(math.floor(context * max(x2 - x1, y2 - y1) + 0.5), 1)
    return math.floor((x1 + x2 - side) / 2 + 0.5), math.floor((y1 + y2 - side) / 2 + 0.5), side


def square_crop(
    pixels: Pixels, box_xyxy: npt.ArrayLike, context: float, size: int, fill: tuple[int, int, int]
) -> Pixels:
    """The square around a box, resized: uint8 (size, size, 3).

    A square keeps the aspect of objects, as in CLIP's own preprocessing. Pixels outside the image get the colour
    ``fill``.

    Args:
        pixels: uint8 (H, W, 3).
        box_xyxy: (4,).
        context: see ``square_around``.
        size: side of the result, pixels.
        fill: RGB.
    """
    left, top, side = square_around(box_xyxy, context)
    square = Image.new("RGB", (side, side), fill)
    height, width = pixels.shape[:2]
    x1, x2 = max(left, 0), min(left + side, width)
    y1, y2 = max(top, 0), min(top + side, height)
    if x1 < x2 and y1 < y2:
        square.paste(Image.fromarray(pixels[y1:y2, x1:x2]), (x1 - left, y1 - top))
    return _resized(square, size, size)


def resized(pixels: Pixels, height: int, width: int) -> Pixels:
    """Bicubic with antialias, by Pillow, as CLIP (``openai/CLIP``, ``clip/clip.py``): uint8 (height, width, 3)."""
    return _resized(Image.fromarray(pixels), height, width)


def _resized(image: Image.Image, height: int, width: int) -> Pixels:
    return np.array(image.resize((width, height), Image.Resampling.BICUBIC))


def patch_grid(height: int, width: int, longer: int, patch: int) -> tuple[int, int]:
    """Rows and columns of patches of an image resized to a longer side of about ``longer`` pixels; at least 1 each."""
    factor = longer / max(height, width) / patch
    return max(round(height * factor), 1), max(round(width * factor), 1)


def pool_boxes(features: Tensor, boxes_xyxy: Tensor, height: int, width: int) -> Tensor:
    """Mean of the patches under each box, each weighted by the area that the box covers of it.

    Args:
        features: (rows, columns, d), of patches on a regular grid over the image.
        boxes_xyxy: (n, 4), inside the image and not empty.
        height: height of the image, pixels.
        width: likewise.

    Returns:
        (n, d).
    """
    rows = _shares(boxes_xyxy[:, 1], boxes_xyxy[:, 3], features.shape[0], height)
    columns = _shares(boxes_xyxy[:, 0], boxes_xyxy[:, 2], features.shape[1], width)
    return torch.einsum("nr,nc,rcd->nd", rows, columns, features)


def _shares(low: Tensor, high: Tensor, cells: int, extent: int) -> Tensor:
    """Share of each interval in each cell: (n, cells), rows sum to 1."""
    edges = torch.arange(cells + 1, dtype=low.dtype, device=low.device) * (extent / cells)
    inside = torch.minimum(high[:, None], edges[1:]) - torch.maximum(low[:, None], edges[:-1])
    inside = inside.clamp(min=0)
    return inside / inside.sum(dim=1, keepdim=True)
