"""Benchmarks by name or path: lookup of their files on this machine."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from filelock import FileLock

from ovd_bench.benchmarks.data.catalog.benchmark import Benchmark
from ovd_bench.benchmarks.data.catalog.card import Counts, DatasetCard
from ovd_bench.benchmarks.data.catalog.cards import CARDS
from ovd_bench.benchmarks.data.catalog.custom import open_own
from ovd_bench.benchmarks.data.catalog.data_root import tell_new_place
from ovd_bench.benchmarks.data.catalog.suites import KNOWN, SUITES, Member, Suite, find_suite
from ovd_bench.benchmarks.data.match import ImageMatch
from ovd_bench.benchmarks.data.text import unknown_name
from ovd_bench.metrics.departure import is_protocol
from ovd_bench.metrics.errors import DataError
from ovd_bench.metrics.protocol import PROTOCOLS


@dataclass(frozen=True)
class Located:
    """Files of a data set on this machine; None = missing.

    Attributes:
        annotations: the annotation file.
        images: folder that image names are relative to.
        tables: tables of class names.
    """

    annotations: Path | None
    images: Path | None
    tables: Path | None


def open_benchmark(
    spec: str,
    data_root: Path,
    *,
    images: Path | None = None,
    protocol: str | None = None,
    match: ImageMatch = "path",
    name: str | None = None,
    progress: Callable[[int], None] | None = None,
) -> Benchmark:
    """Open a benchmark by name or path.

    Args:
        spec: name of a card, path of a COCO or LVIS annotation file, or of a folder in COCO format.
        data_root: folder of the data sets.
        images: folder of the images if it is not the usual one.
        protocol: kind of AP if it is not the usual one.
        match: how images are found in their folder.
        name: of a benchmark that is given as a path; None = after its file or folder.
        progress: called with numbers of images finished while a rendered data set is made, at its first use.

    Raises:
        DataError: neither name nor path, or files are missing; names the paths that were tried and how to get the
            files.
    """
    if protocol is not None and not is_protocol(protocol):
        raise DataError(unknown_name(f"unknown protocol '{protocol}'", protocol, PROTOCOLS))
    if spec not in KNOWN:
        if suite := find_suite(spec):
            first = suite.members[0].spec
            raise DataError(f"{spec}: is a suite of {len(suite.members)} data sets: name one of them, such as {first}")
        if not Path(spec).exists():
            raise DataError(
                unknown_name(
                    f"no benchmark '{spec}' and no such file or folder",
                    spec,
                    [*CARDS, *SUITES],
                    "'bench data list' shows the names; for your own data give the path of a COCO or LVIS annotation "
                    "file, or of its folder",
                )
            )
        return open_own(Path(spec), images, protocol, match=match, name=name, taken=KNOWN)
    if name is not None:
        raise DataError(f"--name {name}: '{spec}' has its name; only data of your own is named")
    card = KNOWN[spec]
    if card.world:
        render(card, data_root, progress)
    found = locate(card, data_root)
    if found.annotations is None:
        raise _missing(card, "annotation file", data_root, card.annotations)
    folder = images or found.images
    if folder is None:
        inside = f" with {' and '.join(card.image_folders)} in it" if card.image_folders else ""
        raise _missing(card, f"folder of the images{inside}", data_root, card.images)
    if not folder.is_dir():
        raise DataError(f"{folder}: no such folder of images")
    return Benchmark(
        name=card.name,
        dataset=card.dataset,
        split=card.split,
        annotations=found.annotations,
        images=folder,
        protocol=protocol or card.protocol,
        image_sources=card.image_sources,
        train_sources=card.train_sources,
        tables=found.tables,
        match=match,
    )


def find_dataset(name: str) -> DatasetCard:
    """Card by name.

    Raises:
        DataError: no such data set.
    """
    if name not in KNOWN:
        raise DataError(unknown_name(f"no data set '{name}'", name, KNOWN, "'bench data list' shows the names"))
    return KNOWN[name]


def locate(card: DatasetCard, data_root: Path) -> Located:
    """Look for the files of a data set at their usual paths."""
    tables = data_root / card.tables if card.tables else None
    return Located(
        next((data_root / place for place in card.annotations if (data_root / place).is_file()), None),
        next(filter(None, (_image_root(data_root / place, card.image_folders) for place in card.images)), None),
        tables if tables is not None and tables.is_file() else None,
    )


def located_members(suite: Suite, data_root: Path) -> list[str]:
    """Names of the members of a suite whose files are on this machine."""
    return [member.name for member in suite.members if _is_here(member, data_root)]


def _is_here(member: Member, data_root: Path) -> bool:
    if member.spec not in KNOWN:
        return Path(member.spec).exists()
    found = locate(KNOWN[member.spec], data_root)
    return found.annotations is not None and found.images is not None


def render(card: DatasetCard, data_root: Path, progress: Callable[[int], None] | None = None) -> bool:
    """Render the data set of a card that has a world, unless it is complete; returns whether it was rendered.

    Raises:
        DataError: the data root cannot be written to.
    """
    from ovd_bench.benchmarks.data.shapes import WORLDS, write_split
    from ovd_bench.benchmarks.data.shapes.phrases import write_phrases
    from ovd_bench.benchmarks.data.shapes.writing import read_split_manifest

    world, folder = WORLDS[card.world], data_root / card.world
    asked = card.task == "queries"
    if not asked and read_split_manifest(world, card.split, folder) is not None:
        return False
    tell_new_place(data_root)
    try:
        data_root.mkdir(parents=True, exist_ok=True)
        with FileLock(data_root / f".{card.world}.lock"):  # two runs may render it at the same time
            there = read_split_manifest(world, card.split, folder) is not None
            if not there:
                write_split(world, card.split, folder, workers=0, progress=progress)
            if asked:
                write_phrases(world, card.split, folder, workers=len(os.sched_getaffinity(0)))
    except OSError as error:
        raise DataError(
            f"{data_root}: cannot be written: {error.strerror}; --data-root names another folder"
        ) from error
    return not there


def expected_counts(card: DatasetCard) -> Counts:
    """Expected counts of the annotation file of a card."""
    if not card.world:
        return card.counts
    from ovd_bench.benchmarks.data.shapes import WORLDS
    from ovd_bench.benchmarks.data.shapes.phrases import IMAGES

    world = WORLDS[card.world]
    if card.task == "queries":
        return Counts(world.splits[card.split] if card.split == "train" else IMAGES)
    return Counts(world.splits[card.split], world.frequent + world.common + world.rare)


def _image_root(place: Path, folders: tuple[str, ...]) -> Path | None:
    """The folder of the images. If its parts are links, the folder that they lead to, because no path may leave it."""
    if not place.is_dir() or not all((place / folder).is_dir() for folder in folders):
        return None
    parts = [(place / folder).resolve() for folder in folders]
    if parts and [part.name for part in parts] == list(folders) and len({part.parent for part in parts}) == 1:
        return place if parts[0].parent == place.resolve() else parts[0].parent
    return place


def _missing(card: DatasetCard, what: str, data_root: Path, places: tuple[str, ...]) -> DataError:
    looked = ", ".join(str(data_root / place) for place in places)
    return DataError(f"{card.name}: the {what} is missing, looked for {looked}: see 'bench data get {card.name}'")
