"""A file of records with its images and class names, opened."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from ovd_bench.benchmarks.data.odvg.index import OdvgFile
from ovd_bench.benchmarks.data.odvg.records import read_label_map
from ovd_bench.benchmarks.training.grounding.settings import SourceSettings
from ovd_bench.detectors.prompts import PromptPlan
from ovd_bench.metrics.errors import DataError


@dataclass(frozen=True)
class Source:
    """Training records.

    Attributes:
        records: one by one.
        folder: of the images.
        names: of the labels, cleaned; none if all records are grounding records.
        weight: how often per epoch each record is seen, on average.
    """

    records: OdvgFile
    folder: Path
    names: tuple[str, ...]
    weight: float = 1.0


def open_source(settings: SourceSettings, progress: Callable[[int], None] | None = None) -> Source:
    """Open the files of a source; the first time, all its records are checked.

    Args:
        settings: where they are.
        progress: called with numbers of bytes checked.

    Raises:
        DataError: a bad file, no such folder, or detection records with labels that are not in the label map.
    """
    folder = Path(settings.images)
    if not folder.is_dir():
        raise DataError(f"{folder}: is not a folder of images")
    names = read_label_map(Path(settings.label_map)) if settings.label_map else ()
    records = OdvgFile.open(Path(settings.annotations), progress=progress)
    present = records.labels.values
    if len(present) and (highest := int(present.max())) >= len(names):
        has = f"{settings.label_map} has {len(names)} classes" if settings.label_map else "no label_map is given"
        raise DataError(f"{records.path}: holds label {highest}, but {has}")
    clean = PromptPlan(cleaning=settings.cleaning).clean
    return Source(records, folder, tuple(map(clean, names)), settings.weight)
