"""A benchmark whose files are on this machine."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from ovd_bench.benchmarks.data.match import ImageMatch
from ovd_bench.detectors.types import Vocabulary
from ovd_bench.metrics.types import Categories


@dataclass(frozen=True)
class Benchmark:
    """One split of one data set on disk.

    Attributes:
        name: on the command line and the board, such as ``lvis-minival``; a legal folder name.
        dataset: the data set it is a split of, such as ``lvis-v1``.
        split: such as ``minival``.
        annotations: LVIS or COCO instances JSON.
        images: folder that the file names in the annotations are relative to; no path leaves it.
        protocol: the usual kind of AP (``metrics.protocol.PROTOCOLS``).
        image_sources: collections of its images, such as ``coco-val2017``; used to judge contamination.
        train_sources: data sets that count as training on this benchmark, such as ``lvis-v1-train``.
        tables: JSON tables of class names (``benchmarks.scoring.vocabulary_tables``), or None.
        match: how images are found in their folder.
    """

    name: str
    dataset: str
    split: str
    annotations: Path
    images: Path
    protocol: str
    image_sources: tuple[str, ...] = ()
    train_sources: tuple[str, ...] = ()
    tables: Path | None = None
    match: ImageMatch = "path"


def vocabulary_of(categories: Categories) -> Vocabulary:
    """The vocabulary of a benchmark: categories in order of their ids.

    Raises:
        DetectorError: a name is empty, or an id does not fit 32 bits.
    """
    return Vocabulary(
        ids=tuple(int(i) for i in categories.ids),
        names=categories.names,
        synonyms=categories.synonyms,
        synset=categories.synset,
        frequency=categories.frequency,
        supercategory=categories.supercategory,
    )
