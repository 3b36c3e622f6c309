"""The training images of a data set in memory, and endless batches of them."""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from ovd_bench.baselines.batch import Batch
from ovd_bench.benchmarks.data.catalog.benchmark import vocabulary_of
from ovd_bench.benchmarks.data.files.annotations import read_ground_truth
from ovd_bench.benchmarks.data.images import image_file, image_paths, read_image
from ovd_bench.detectors.prompts import default_plan
from ovd_bench.metrics.errors import DataError
from ovd_bench.metrics.types import GroundTruth


@dataclass(frozen=True)
class TrainingData:
    """Images of equal size with boxes, and the names of the classes that have at least one box (K of them).

    Classes without a box are left out with their names, so a model trained on it has never read them.

    Attributes:
        images: uint8 (I, H, W, 3).
        boxes_xyxy: float32 (N, 4), pixels, sorted by image.
        rows: int64 (N,), position of the class in ``names``.
        offsets: int64 (I + 1,): image i has the boxes ``offsets[i] : offsets[i + 1]``.
        names: cleaned names of the classes, in the order of their ids.
        sure: bool (I, K), False for classes that are not annotated exhaustively in the image.
    """

    images: npt.NDArray[np.uint8]
    boxes_xyxy: npt.NDArray[np.float32]
    rows: npt.NDArray[np.int64]
    offsets: npt.NDArray[np.int64]
    names: tuple[str, ...]
    sure: npt.NDArray[np.bool_]

    @staticmethod
    def read(annotations: Path, folder: Path) -> TrainingData:
        """Decode all images of an annotation file into memory.

        Args:
            annotations: LVIS JSON.
            folder: what the file names are relative to.

        Raises:
            DataError: a bad annotation file, no boxes, a missing or unreadable image, images of different sizes.
        """
        gt = read_ground_truth(annotations)
        if not len(gt.ann_ids):
            raise DataError(f"{annotations}: contains no boxes to learn from")
        order = np.argsort(gt.image_index, kind="stable")
        seen = np.unique(gt.class_index)
        row = np.full(gt.num_classes, -1, np.int64)
        row[seen] = np.arange(len(seen))
        boxes = gt.boxes_xywh[order].astype(np.float32)
        boxes[:, 2:] += boxes[:, :2]
        offsets = np.zeros(gt.num_images + 1, np.int64)
        np.cumsum(np.bincount(gt.image_index, minlength=gt.num_images), out=offsets[1:])
        clean = default_plan(vocabulary_of(gt.categories)).clean
        return TrainingData(
            images=decode_images(gt, folder),
            boxes_xyxy=boxes,
            rows=row[gt.class_index[order]],
            offsets=offsets,
            names=tuple(clean(gt.categories.names[i]) for i in seen.tolist()),
            sure=_exhaustive(gt)[:, seen],
        )

    def batches(self, size: int, seed: int, first: int = 0) -> Generator[Batch, None, None]:
        """Endless batches; every image once per epoch, mirrored left to right with probability 0.5.

        Batch n depends only on ``size``, ``seed`` and n, so a training can continue from any batch.

        Args:
            size: images per batch; the remainder of an epoch is not used.
            seed: of order and mirroring.
            first: number of the first batch given.

        Raises:
            DataError: fewer images than a batch has.
        """
        per_epoch = len(self.images) // size
        if not per_epoch:
            raise DataError(f"a batch of {size} images needs at least {size} images, found {len(self.images)}")
        step, epoch = first, -1
        order = np.empty(0, np.int64)
        while True:
            if step // per_epoch != epoch:
                epoch = step // per_epoch
                order = np.random.Generator(np.random.PCG64([seed, 0, epoch])).permutation(len(self.images))
            begin = step % per_epoch * size
            mirror = np.random.Generator(np.random.PCG64([seed, 1, step])).integers(0, 2, size).astype(np.bool_)
            yield self._batch(order[begin : begin + size], mirror)
            step += 1

    def _batch(self, chosen: npt.NDArray[np.int64], mirror: npt.NDArray[np.bool_]) -> Batch:
        images = self.images[chosen]
        images[mirror] = images[mirror, :, ::-1]
        boxes, rows = [], []
        for image, mirrored in zip(chosen.tolist(), mirror.tolist(), strict=True):
            part = slice(self.offsets[image], self.offsets[image + 1])
            box = self.boxes_xyxy[part].copy()
            if mirrored:
                box[:, [0, 2]] = self.images.shape[2] - box[:, [2, 0]]
            boxes.append(box)
            rows.append(self.rows[part])
        return Batch(images, boxes, rows, self.sure[chosen])


def decode_images(gt: GroundTruth, folder: Path) -> npt.NDArray[np.uint8]:
    """All images of a data set, uint8 (I, H, W, 3).

    Raises:
        DataError: a missing or unreadable image, a path that leaves the folder, images of different sizes.
    """
    images: npt.NDArray[np.uint8] | None = None
    for position, name in enumerate(image_paths(gt)):
        path = image_file(folder, name)
        pixels = read_image(int(gt.image_ids[position]), path).pixels
        if images is None:
            images = np.empty((gt.num_images, *pixels.shape), np.uint8)
        if pixels.shape != images.shape[1:]:
            raise DataError(
                f"{path}: is {pixels.shape}, the first image is {images.shape[1:]}; all images need one size"
            )
        images[position] = pixels
    if images is None:
        raise DataError("the annotations name no image")
    return images


def _exhaustive(gt: GroundTruth) -> npt.NDArray[np.bool_]:
    """False for the pairs listed as not exhaustive; bool (I, classes)."""
    sure = np.ones((gt.num_images, gt.num_classes), np.bool_)
    image = np.repeat(np.arange(gt.num_images), np.diff(gt.not_exhaustive.offsets))
    sure[image, gt.not_exhaustive.values] = False
    return sure
