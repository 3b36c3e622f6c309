"""Runs that are shown: their predictions, annotations and images."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from ovd_bench.benchmarks.data.catalog.benchmark import Benchmark
from ovd_bench.benchmarks.data.files.annotations import read_ground_truth
from ovd_bench.benchmarks.data.files.atomic import file_sha256
from ovd_bench.benchmarks.data.files.predictions import read_predictions
from ovd_bench.benchmarks.data.image_match import located_paths
from ovd_bench.benchmarks.data.images import ImageError, image_file, read_image
from ovd_bench.benchmarks.data.match import ImageMatch
from ovd_bench.benchmarks.data.text import unknown_name
from ovd_bench.benchmarks.pictures.drawing import Pixels
from ovd_bench.benchmarks.pictures.gallery.matched_run import MatchedRun, match_run
from ovd_bench.benchmarks.scoring.score_notes import check_fit
from ovd_bench.benchmarks.store.manifest import RunManifest, read_manifest
from ovd_bench.benchmarks.store.predictions import read_run_predictions
from ovd_bench.benchmarks.store.run_names import find_predictions
from ovd_bench.metrics.departure import is_protocol, protocol_named
from ovd_bench.metrics.errors import DataError
from ovd_bench.metrics.participants import Bool
from ovd_bench.metrics.protocol import PROTOCOLS, Protocol
from ovd_bench.metrics.types import GroundTruth, Predictions


@dataclass(frozen=True)
class ShownRun:
    """A run, or a prediction file.

    Attributes:
        name: shown to readers; unique among those shown together.
        path: folder of the run, or the file.
        manifest: manifest of the run; None for a file.
    """

    name: str
    path: Path
    manifest: RunManifest | None

    def predictions(self) -> Predictions:
        """Read them.

        Raises:
            DataError: they are missing or damaged.
        """
        return read_predictions(self.path) if self.manifest is None else read_run_predictions(self.path)


def find_runs(specs: Sequence[str], root: Path, benchmark: str | None = None) -> list[ShownRun]:
    """Runs and prediction files by path or name.

    Raises:
        DataError: see ``find_predictions``.
    """
    paths = [find_predictions(spec, root, benchmark) for spec in specs]
    names = next(names for names in _names(paths) if len(set(names)) == len(names))
    return [
        ShownRun(name, path, None if path.is_file() else read_manifest(path))
        for name, path in zip(names, paths, strict=True)
    ]


def _names(paths: Sequence[Path]) -> list[list[str]]:
    """Names of the paths, the shortest kind first."""
    return [
        [path.stem if path.is_file() else path.name.split("@")[0] for path in paths],
        [path.name for path in paths],
        [f"{path.parent.name}/{path.name}" for path in paths],
        [str(path) for path in paths],
    ]


def find_benchmark(
    runs: Sequence[ShownRun],
    data_root: Path,
    *,
    name: str | None = None,
    annotations: Path | None = None,
    images: Path | None = None,
    match: ImageMatch | None = None,
) -> Benchmark:
    """Annotations and images for the runs: those given, otherwise those of a run, otherwise by name.

    Args:
        runs: to show.
        data_root: folder of the data sets.
        name: of the benchmark.
        annotations: its annotation file.
        images: folder of its images.
        match: how images are found there; None = as in the run, else by path.

    Raises:
        DataError: the benchmark is unknown, or its files are missing.
    """
    from ovd_bench.benchmarks.data.catalog.registry import open_benchmark

    if annotations is not None:
        return open_benchmark(str(annotations), data_root, images=images, match=match or "path")
    places = [run.manifest.benchmark for run in runs if run.manifest is not None]
    if places:
        try:
            benchmark = places[0].benchmark()
        except DataError:
            if name is None:
                raise
        else:
            return replace(benchmark, images=images or benchmark.images, match=match or benchmark.match)
    if name is None:
        raise DataError("a prediction file needs its benchmark: -b NAME, or -a ANNOTATIONS --images FOLDER")
    return open_benchmark(name, data_root, images=images, match=match or "path")


@dataclass(frozen=True)
class GalleryData:
    """Images and annotations of a gallery (I images).

    Attributes:
        gt: ground truth.
        protocol: rules that decide what counts.
        folder: folder of the images.
        files: names of the images below it.
        covered: bool (I,), images that all runs cover.
        unreadable: grows by one line per image that could not be read.
    """

    gt: GroundTruth
    protocol: Protocol
    folder: Path
    files: Sequence[str]
    covered: Bool
    unreadable: list[str] = field(default_factory=list)

    def match_runs(self, runs: Sequence[ShownRun], class_filter: int | None = None) -> list[MatchedRun]:
        """Every run at its operating point.

        Raises:
            DataError: predictions that cannot be read or do not fit the annotations.
        """
        made = []
        for run in runs:
            try:
                predictions = run.predictions()
                made.append(
                    match_run(
                        run.name,
                        self.gt,
                        predictions,
                        self.protocol,
                        images=self.covered,
                        class_filter=class_filter,
                    )
                )
            except DataError as error:
                raise DataError(f"{run.name}: {error}") from None
        return made

    def read(self, position: int) -> Pixels:
        """Pixels of an image; one that cannot be read is grey, and is added to ``unreadable``."""
        image, (width, height) = int(self.gt.image_ids[position]), (int(v) for v in self.gt.image_sizes[position])
        size = (width, height) if width and height else None
        try:
            return read_image(image, image_file(self.folder, self.files[position]), size).pixels
        except ImageError as error:
            self.unreadable.append(f"image {image} is shown grey: {error}")
            return np.full((height or 480, width or 640, 3), 128, np.uint8)

    def class_position(self, name: str) -> int:
        """Position of a class by its name, upper or lower case.

        Raises:
            DataError: no such class, or several of that name.
        """
        names = self.gt.categories.names
        found = [k for k, other in enumerate(names) if other == name]
        found = found or [k for k, other in enumerate(names) if other.casefold() == name.casefold()]
        if not found:
            raise DataError(
                unknown_name(
                    f"no class is called '{name}'", name, names, "the annotations have none of this or a similar name"
                )
            )
        if len(found) > 1:
            raise DataError(f"--class {name}: {len(found)} classes of the annotations have that name")
        return found[0]

    def image_positions(self, ids: Sequence[int]) -> list[int]:
        """Positions of images by id, in the order given.

        Raises:
            DataError: an unknown id.
        """
        known = {image: position for position, image in enumerate(self.gt.image_ids.tolist())}
        if missing := [image for image in ids if image not in known]:
            raise DataError(f"image {missing[0]} is not among the annotations' images")
        return [known[image] for image in ids]


def gallery_data(runs: Sequence[ShownRun], benchmark: Benchmark, ap: str | None = None) -> GalleryData:
    """Read the annotations and check that the runs belong to them.

    Args:
        runs: to show.
        benchmark: benchmark of the images.
        ap: kind of AP whose rules decide what counts; None = that of the runs, else the benchmark's usual one.

    Raises:
        DataError: runs on other annotations, or under different rules.
    """
    manifests = [run.manifest for run in runs if run.manifest is not None]
    here = file_sha256(benchmark.annotations)
    for run in runs:
        if run.manifest is not None and run.manifest.benchmark.annotations_sha256 != here:
            raise DataError(f"{run.name}: was made on other annotations than {benchmark.annotations}")
    kinds = sorted({manifest.protocol.name for manifest in manifests})
    if ap is None and len(kinds) > 1:
        raise DataError(f"the runs were made under {' and '.join(kinds)}: choose the rules with -p")
    name = ap or (kinds[0] if kinds else benchmark.protocol)
    if not is_protocol(name):
        raise DataError(unknown_name(f"unknown protocol '{name}'", name, PROTOCOLS))
    gt = read_ground_truth(benchmark.annotations)
    check_fit(gt, protocol_named(name))
    covered = np.ones(gt.num_images, np.bool_)
    for manifest in manifests:
        if manifest.image_ids is not None:
            covered &= np.isin(gt.image_ids, np.array(manifest.image_ids, np.int64))
    files = located_paths(gt, benchmark.images, benchmark.match)
    return GalleryData(gt, protocol_named(name), benchmark.images, files, covered)
