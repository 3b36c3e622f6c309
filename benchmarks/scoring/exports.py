"""Files beside a score: AP per class, the official arrays."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from ovd_bench.benchmarks.data.csv_text import csv_text
from ovd_bench.benchmarks.data.files.atomic import atomic_write
from ovd_bench.benchmarks.data.output_paths import check_name
from ovd_bench.metrics.comparison import Comparison
from ovd_bench.metrics.evaluate import Evaluation
from ovd_bench.metrics.types import GroundTruth

#: Columns of the table of classes: from the annotations, then the statistics.
PER_CLASS_COLUMNS = (
    *("category_id", "name", "frequency", "train_images", "boxes", "images"),
    *("verified_images", "detections", "AP", "AP50", "AR"),
)
#: Columns of the table of classes of two runs.
DIFFERENCE_COLUMNS = ("category_id", "name", "frequency", "AP_A", "AP_B", "delta", "p_greater")


def write_per_class(path: Path, gt: GroundTruth, evaluation: Evaluation) -> None:
    """CSV with one row per class, see ``class_rows``; undefined numbers are empty."""
    _write_csv(path, PER_CLASS_COLUMNS, class_rows(gt, evaluation))


def class_rows(gt: GroundTruth, evaluation: Evaluation) -> list[tuple[object, ...]]:
    """One row per class in the order of ``PER_CLASS_COLUMNS``; undefined numbers are None.

    Columns: ``category_id``, ``name``, ``frequency``, ``train_images`` (the file's image count), ``boxes`` and
    ``images`` (ground truth in these annotations), ``verified_images`` (images in which the class counts),
    ``detections`` (that were evaluated), ``AP``, ``AP50``, ``AR`` (recall averaged over IoU).
    """
    categories, matches = gt.categories, evaluation.matches
    pairs = np.unique(np.stack([gt.class_index, gt.image_index], axis=1), axis=0)
    images = np.bincount(pairs[:, 0], minlength=gt.num_classes)
    recall = matches.recall()[:, :, 0].mean(axis=0)
    verified = _verified_images(gt, evaluation)
    boxes = np.bincount(gt.class_index, minlength=gt.num_classes)
    return [
        (
            int(categories.ids[k]),
            categories.names[k],
            categories.frequency[k],
            int(categories.image_count[k]) if categories.image_count[k] >= 0 else None,
            int(boxes[k]),
            int(images[k]),
            int(verified[k]),
            int(matches.detections[k]),
            _number(evaluation.per_class_ap[k]),
            _number(evaluation.per_class_ap50[k]),
            float(recall[k]) if recall[k] >= 0 else None,
        )
        for k in range(gt.num_classes)
    ]


def write_class_differences(path: Path, gt: GroundTruth, comparison: Comparison) -> None:
    """CSV with one row per class, see ``difference_rows``; undefined numbers are empty."""
    _write_csv(path, DIFFERENCE_COLUMNS, difference_rows(gt, comparison))


def difference_rows(gt: GroundTruth, comparison: Comparison) -> list[tuple[object, ...]]:
    """One row per class in the order of ``DIFFERENCE_COLUMNS``; undefined numbers are None.

    AP of both runs, their difference B - A, and the probability that B is ahead.
    """
    categories, classes = gt.categories, comparison.classes
    return [
        (
            int(categories.ids[k]),
            categories.names[k],
            categories.frequency[k],
            *(
                _number(value)
                for value in (classes.a[k], classes.b[k], classes.b[k] - classes.a[k], classes.p_greater[k])
            ),
        )
        for k in range(gt.num_classes)
    ]


def write_arrays(path: Path, evaluation: Evaluation) -> None:
    """``precision`` and ``recall`` in the official axis order with the labels of the axes, as an npz file.

    ``precision`` is (IoU 10, recall 101, class, area 4) as lvis-api's ``eval["precision"]``, with COCO rules followed
    by the axis of detection limits; undefined is -1, as there. Read with ``numpy.load``; there is no pickle in it.
    """
    check_name(path, (".npz",))
    with atomic_write(path) as file:
        np.savez(file, precision=evaluation.precision, recall=evaluation.recall, **evaluation.axes())


def _verified_images(gt: GroundTruth, evaluation: Evaluation) -> np.ndarray[tuple[int], np.dtype[np.int64]]:
    """Images in which a class counts: all, or under LVIS rules those where it is present or listed as absent."""
    if not evaluation.protocol.federated:
        return np.full(gt.num_classes, gt.num_images, np.int64)
    present = gt.area > 0
    classes = np.concatenate([gt.class_index[present], gt.neg.values]).astype(np.int64)
    images = np.concatenate([gt.image_index[present], gt.neg.row_index()])
    pairs = np.unique(classes * gt.num_images + images)
    return np.bincount(pairs // gt.num_images, minlength=gt.num_classes).astype(np.int64)


def _number(value: float) -> float | None:
    return None if np.isnan(value) else float(value)


def _write_csv(path: Path, header: tuple[str, ...], rows: Sequence[tuple[object, ...]]) -> None:
    with atomic_write(path) as file:
        file.write(csv_text(header, rows).encode())
