"""A tiny ``owl-nano`` and random objects."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import torch

from ovd_bench.baselines.batch import Batch
from ovd_bench.baselines.owl_nano.assign import Targets
from ovd_bench.baselines.owl_nano.config import OwlNanoConfig
from ovd_bench.baselines.owl_nano.model import STRIDE, Output, cell_boxes, cell_centres

TINY = OwlNanoConfig(widths=(8, 8, 16), depths=(1, 2, 1), window=2, neck=16, embedding=8, text_width=12)
SIDE = 32


def random_boxes(rng: np.random.Generator, count: int, side: float = SIDE) -> npt.NDArray[np.float32]:
    """float32 (count, 4) xyxy with a positive size, inside a square."""
    corners = rng.uniform(0, side - 4, (count, 2))
    sizes = rng.uniform(3, side - corners)
    boxes: npt.NDArray[np.float32] = np.concatenate([corners, corners + sizes], 1).astype(np.float32)
    return boxes


def random_output(seed: int, images: int = 3, side: int = 64, classes: int = 5, quality: bool = True) -> Output:
    """What a network might say, boxes near their cells."""
    generator = torch.Generator().manual_seed(seed)
    cells = side // STRIDE
    logits = torch.randn(images, cells**2, classes, generator=generator)
    boxes = cell_boxes(0.7 * torch.randn(images, cells**2, 4, generator=generator), cells, cells)
    return Output(logits, boxes, torch.randn(images, cells**2, generator=generator) if quality else None)


def random_targets(seed: int, counts: tuple[int, ...] = (4, 1, 0), side: int = 64, classes: int = 5) -> Targets:
    """Objects, some images with fewer than others."""
    rng = np.random.default_rng(seed)
    most = max(1, *counts)
    boxes, rows = np.zeros((len(counts), most, 4), np.float32), np.zeros((len(counts), most), np.int64)
    valid = np.arange(most) < np.array(counts)[:, None]
    for image, count in enumerate(counts):
        boxes[image, :count] = random_boxes(rng, count, side)
        rows[image, :count] = rng.integers(0, classes, count)
    sure = rng.random((len(counts), classes)) < 0.8
    return Targets(*(torch.from_numpy(array) for array in (boxes, rows, valid, sure)))


def centres(side: int = 64) -> torch.Tensor:
    """Of the cells of ``random_output``."""
    return cell_centres(side // STRIDE, side // STRIDE)


def random_batch(seed: int, images: int = 2, classes: int = 3) -> Batch:
    """A batch of bright rectangles on noise; the colour channel says the class."""
    rng = np.random.default_rng(seed)
    pixels = rng.integers(0, 60, (images, SIDE, SIDE, 3), np.uint8)
    boxes = [np.rint(random_boxes(rng, 1)).astype(np.float32) for _ in range(images)]
    rows = [rng.integers(0, classes, 1) for _ in range(images)]
    for image, (box, row) in enumerate(zip(boxes, rows, strict=True)):
        x0, y0, x1, y1 = box[0].astype(int)
        pixels[image, y0:y1, x0:x1, row[0]] = 255
    return Batch(pixels, boxes, rows, np.ones((images, classes), np.bool_))
