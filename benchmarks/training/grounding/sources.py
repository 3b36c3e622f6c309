"""A file of records with its images and class names, opened."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from benchmarks.odvg.records import OdvgRecord, read_label_map, read_odvg
from benchmarks.training.grounding.settings import SourceSettings
from metrics.types import DataError, Ragged


@dataclass(frozen=True)
class Source:
    """Records to learn from (N of them).

    Attributes:
        file: that they are in.
        folder: of the images.
        records: one by one.
        names: of the labels; none where all records are grounding records.
        labels: of each record, each once; none of grounding records.
        wide: bool (N,), images wider than high.
        weight: repeats per epoch.
    """

    file: Path
    folder: Path
    records: Sequence[OdvgRecord]
    names: tuple[str, ...]
    labels: Ragged
    wide: npt.NDArray[np.bool_]
    weight: float


def open_source(settings: SourceSettings) -> Source:
    """Open the files of a source.

    Raises:
        DataError: a bad file, no records, or detection records whose labels the label map does not have.
    """
    file = Path(settings.annotations)
    records = list(read_odvg(file))
    if not records:
        raise DataError(f"{file}: holds no records to learn from")
    names = read_label_map(Path(settings.label_map)) if settings.label_map else ()
    rows = [sorted({i.label for i in record.detection.instances}) if record.detection else [] for record in records]
    offsets = np.concatenate([[0], np.cumsum([len(row) for row in rows])]).astype(np.int64)
    labels = Ragged(offsets, np.array([label for row in rows for label in row], np.int32))
    if len(labels.values) and (highest := int(labels.values.max())) >= len(names):
        where = f"{settings.label_map} has {len(names)} classes" if settings.label_map else "no label_map is given"
        raise DataError(f"{file}: holds label {highest}, but {where}")
    wide = np.array([record.width > record.height for record in records])
    return Source(file, Path(settings.images), records, names, labels, wide, settings.weight)
