"""Declarative cards of data sets; nothing here reads a file."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class Download:
    """One file of an official source, which the user fetches and unpacks.

    Attributes:
        url: address of the file, or of the page that leads to it.
        size: in words.
        into: folder below the data root in which an archive is unpacked or any other file is placed.
        gives: the resulting files or folders, relative to the data root.
        md5: published checksum of the file as downloaded; empty = none known.
        optional: the benchmark runs without it.
    """

    url: str
    size: str
    into: str
    gives: tuple[str, ...]
    md5: str = ""
    optional: bool = False


@dataclass(frozen=True)
class Counts:
    """Counts of an annotation file; None = not published, so not checked."""

    images: int | None = None
    classes: int | None = None
    boxes: int | None = None


@dataclass(frozen=True)
class DatasetCard:
    """One split of one data set.

    Attributes:
        name: on the command line.
        dataset, split: see ``benchmarks.data.catalog.benchmark.Benchmark``.
        title: as shown to readers.
        protocol: the usual kind of AP, or the grounding protocol of ``bench score``.
        annotations: usual paths of the annotation file below the data root; the first that exists is used, and the
            first in the list is where it is written and what instructions name.
        images: usual folders that file names in the annotations are relative to.
        image_folders: folders that must be inside, for annotations whose file names begin with them.
        image_name: file name by image id, such as ``{id}.jpg``, for annotation files that name no files.
        downloads: what to fetch.
        derived_from: name of the card whose annotation file this one is cut from.
        conversion: arguments of ``bench data convert`` that make the annotation file out of the downloads; ``{root}``
            stands for the data root.
        misspelt: official annotation file below the data root whose class names are corrected for this one.
        world: name in ``benchmarks.data.shapes.WORLDS`` for data that is rendered.
        licence: licence of annotations and images.
        counts: counts of the official file.
        sha256: hash of the official annotation file, if it is known reliably.
        tables: file with tables of class names below the data root (``benchmarks.scoring.vocabulary_tables``).
        image_sources, train_sources: see ``Benchmark``.
        task: ``grounding`` files are read by ``benchmarks.data.files.grounding``, ``queries`` by
            ``benchmarks.data.files.queries``.
        notes: one-line remarks.
    """

    name: str
    dataset: str
    split: str
    title: str
    protocol: str
    annotations: tuple[str, ...]
    images: tuple[str, ...]
    licence: str
    image_sources: tuple[str, ...]
    train_sources: tuple[str, ...]
    image_folders: tuple[str, ...] = ()
    image_name: str = ""
    downloads: tuple[Download, ...] = ()
    derived_from: str = ""
    conversion: str = ""
    misspelt: str = ""
    world: str = ""
    counts: Counts = Counts()
    sha256: str = ""
    tables: str = ""
    task: Literal["detection", "grounding", "queries"] = "detection"
    notes: tuple[str, ...] = ()
