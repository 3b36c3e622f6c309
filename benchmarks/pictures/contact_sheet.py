"""A contact sheet of a data set: images with their boxes and class names."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from ovd_bench.benchmarks.data.catalog.benchmark import Benchmark
from ovd_bench.benchmarks.data.files.annotations import read_ground_truth
from ovd_bench.benchmarks.data.files.atomic import atomic_write
from ovd_bench.benchmarks.data.image_match import located_paths
from ovd_bench.benchmarks.data.images import ImageError, image_file, read_image
from ovd_bench.benchmarks.data.output_paths import check_name
from ovd_bench.benchmarks.data.text import unknown_name
from ovd_bench.benchmarks.pictures.drawing import Tile, contact_sheet
from ovd_bench.metrics.errors import DataError
from ovd_bench.metrics.types import GroundTruth

#: Suffix of a picture's file -> its format.
FORMATS = {".png": "PNG", ".jpg": "JPEG", ".jpeg": "JPEG", ".webp": "WEBP"}


def write_contact_sheet(
    benchmark: Benchmark, target: Path, count: int, *, class_name: str = "", seed: int = 0
) -> tuple[list[int], list[str]]:
    """Draw images of a data set, chosen at random, and write them as one picture.

    Args:
        benchmark: the data set.
        target: ``.png``, ``.jpg`` or ``.webp``.
        count: maximum number of images.
        class_name: only images with this class, and only its boxes.
        seed: seed of the choice.

    Returns:
        Ids of the images, in the order in which they are drawn, and one line for every image that was skipped because
        it cannot be used.

    Raises:
        DataError: no such class, no usable image with it, another suffix.
    """
    gt = read_ground_truth(benchmark.annotations)
    rows = np.flatnonzero(_of_class(gt, class_name)) if class_name else np.arange(len(gt.ann_ids))
    positions = np.unique(gt.image_index[rows]).tolist() if class_name else list(range(gt.num_images))
    names = located_paths(gt, benchmark.images, benchmark.match)

    def tile(position: int) -> tuple[Tile, str]:
        image_id, (width, height) = int(gt.image_ids[position]), gt.image_sizes[position].tolist()
        image = read_image(image_id, image_file(benchmark.images, names[position]), (width, height))
        own = rows[gt.image_index[rows] == position]
        boxes_xyxy = gt.boxes_xywh[own] + np.pad(gt.boxes_xywh[own, :2], ((0, 0), (2, 0)))
        return (image.pixels, boxes_xyxy, _labels(gt, own), None), str(image_id)

    shown, passed_over = draw_some(tile, positions, target, count, benchmark.name, seed)
    return [int(gt.image_ids[position]) for position in shown], passed_over


def draw_some(
    tile: Callable[[int], tuple[Tile, str]], positions: list[int], target: Path, count: int, name: str, seed: int
) -> tuple[list[int], list[str]]:
    """Draw some images, chosen at random, side by side.

    Args:
        tile: reads the image at a position; returns it with its boxes, and a title.
        positions: to choose from.
        target: ``.png``, ``.jpg`` or ``.webp``.
        count: maximum number of images.
        name: name of their source, for messages.
        seed: seed of the choice.

    Returns:
        Positions that are drawn, in order, and one line for every image that cannot be used.

    Raises:
        DataError: no image can be used, another suffix.
    """
    check_name(target, FORMATS)
    tiles: list[tuple[Tile, str]] = []
    shown: list[int] = []
    passed_over: list[str] = []
    for position in random.Random(seed).sample(positions, len(positions)):
        if len(tiles) == count:
            break
        try:
            tiles.append(tile(position))
        except ImageError as error:
            passed_over.append(str(error))
            continue
        shown.append(position)
    if not tiles:
        why = f", first: {passed_over[0]}" if passed_over else ""
        raise DataError(f"{name}: none of {len(positions):,} images can be shown{why}")
    columns = max(1, round(len(tiles) ** 0.5 * 1.2))
    sheet = contact_sheet([image for image, _ in tiles], columns, [title for _, title in tiles])
    with atomic_write(target) as file:
        sheet.save(file, FORMATS[target.suffix.lower()])
    return shown, passed_over


def _of_class(gt: GroundTruth, class_name: str) -> np.ndarray[tuple[int], np.dtype[np.bool_]]:
    classes = [index for index, name in enumerate(gt.categories.names) if name == class_name]
    if not classes:
        others = "the annotations have none of this or a similar name"
        raise DataError(unknown_name(f"no class is called '{class_name}'", class_name, gt.categories.names, others))
    return np.isin(gt.class_index, classes)


def _labels(gt: GroundTruth, rows: Sequence[int] | np.ndarray[tuple[int], np.dtype[np.int64]]) -> list[str]:
    return [gt.categories.names[index] for index in gt.class_index[rows].tolist()]
