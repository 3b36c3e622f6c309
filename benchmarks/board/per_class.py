"""AP per class of a run, from its ``per_class.csv``."""

from __future__ import annotations

import csv
import io
import math
from dataclasses import dataclass
from pathlib import Path

from ovd_bench.benchmarks.data.files.atomic import file_sha256
from ovd_bench.benchmarks.store.folders import PER_CLASS
from ovd_bench.benchmarks.store.schema import Result
from ovd_bench.metrics.errors import DataError

_MAX_BYTES = 64 * 2**20


@dataclass(frozen=True)
class ClassRow:
    """One class; None where the file has no number.

    Attributes:
        category_id: id in the annotations.
        name, frequency: as the annotations give them.
        train_images: images of the training set that show it.
        boxes: ground truth boxes.
        ap: AP over IoU 0.50:0.95.
    """

    category_id: int
    name: str
    frequency: str
    train_images: int | None
    boxes: int
    ap: float | None


def read_per_class(folder: Path, result: Result) -> list[ClassRow]:
    """The classes of a run in the order of the file.

    Raises:
        DataError: no such file, not the one of the result, or damaged; one line.
    """
    table = per_class_table(folder, result)
    try:
        return [_row(row) for row in table]
    except (ValueError, KeyError, TypeError) as error:
        raise _damaged(folder, error) from error


def per_class_table(folder: Path, result: Result) -> list[dict[str, str]]:
    """The cells of ``per_class.csv`` as text, a dictionary per class.

    Raises:
        DataError: no such file, not the one of the result, or no CSV; one line.
    """
    path = folder / PER_CLASS
    if not path.is_file() or path.stat().st_size > _MAX_BYTES:
        raise DataError(f"{path}: is missing or too large: make it again with 'bench score'")
    if result.files.get(PER_CLASS) != file_sha256(path):
        raise DataError(f"{path}: is not the file that the result was written with: run 'bench score' again")
    try:
        return list(csv.DictReader(io.StringIO(path.read_text(encoding="utf-8"), newline="")))
    except (ValueError, csv.Error) as error:
        raise _damaged(folder, error) from error


def _damaged(folder: Path, error: Exception) -> DataError:
    return DataError(f"{folder / PER_CLASS}: is damaged: {str(error)[:150]}")


def _row(row: dict[str, str]) -> ClassRow:
    ap = float(row["AP"]) if row["AP"] else None
    if ap is not None and not (math.isfinite(ap) and 0 <= ap <= 1):
        raise ValueError(f"AP {ap} of class {row['category_id']}")
    train = int(row["train_images"]) if row["train_images"] else None
    return ClassRow(int(row["category_id"]), row["name"], row["frequency"], train, int(row["boxes"]), ap)
