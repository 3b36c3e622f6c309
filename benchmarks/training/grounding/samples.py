"""One record and some randomness make one sample; several samples make a batch."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from ovd_bench.grounding_dino_jt.tokens import TokenBatch
from ovd_bench.grounding_dino_jt.training.batch import Targets, TrainingBatch


@dataclass(frozen=True)
class Sample:
    """One image with its caption.

    Attributes:
        image: uint8 (H, W, 3) RGB.
        ids: tokens of the caption, [CLS] and [SEP] included.
        targets: with as many token columns as there are ids.
    """

    image: npt.NDArray[np.uint8]
    ids: tuple[int, ...]
    targets: Targets


def relative_boxes(boxes_xyxy: npt.NDArray[np.float64], width: int, height: int) -> npt.NDArray[np.float32]:
    """Boxes (n, 4) in pixels of an image as cxcywh from 0 to 1."""
    boxes = boxes_xyxy / np.tile((width, height), 2)
    centres, sides = (boxes[:, :2] + boxes[:, 2:]) / 2, boxes[:, 2:] - boxes[:, :2]
    relative: npt.NDArray[np.float32] = np.concatenate([centres, sides], axis=1).astype(np.float32)
    return relative


def collate(samples: Sequence[Sample]) -> TrainingBatch:
    """Samples side by side: images in the upper left corner of zeros, captions padded to the longest."""
    sizes = np.array([sample.image.shape[:2] for sample in samples], np.int64).reshape(-1, 2)
    images = np.zeros((len(samples), *sizes.max(axis=0), 3), np.uint8)
    for row, sample in zip(images, samples, strict=True):
        height, width = sample.image.shape[:2]
        row[:height, :width] = sample.image
    tokens = TokenBatch.of([sample.ids for sample in samples])
    columns = tokens.ids.shape[1]
    targets = []
    for sample in samples:
        missing = columns - len(sample.ids)
        token_map = np.pad(sample.targets.token_map, ((0, 0), (0, missing)))
        targets.append(dataclasses.replace(sample.targets, token_map=token_map))
    return TrainingBatch(images, sizes, tokens, targets)
