"""Sources of predictions for scoring: a prediction file, or a run."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from ovd_bench.benchmarks.data.files.atomic import file_sha256
from ovd_bench.benchmarks.data.files.predictions import read_predictions
from ovd_bench.benchmarks.data.image_names import image_ids_by_text
from ovd_bench.benchmarks.data.match import TextMatch
from ovd_bench.metrics.errors import DataError
from ovd_bench.metrics.types import GroundTruth, Predictions

if TYPE_CHECKING:
    from ovd_bench.benchmarks.store.manifest import (
        RunManifest,  # a prediction file does not need pydantic, which takes time to import
    )


@dataclass(frozen=True)
class Source:
    """Predictions by their path.

    Attributes:
        path: a prediction file, or a run folder.
        manifest: manifest of the run; None for a file.
    """

    path: Path
    manifest: RunManifest | None

    @staticmethod
    def of(path: Path) -> Source:
        """From the path of a prediction file, a run folder or its ``result.json``.

        Raises:
            DataError: a folder that is not a run, or a result without predictions.
        """
        if not path.is_dir() and path.name != "result.json":
            return Source(path, None)
        from ovd_bench.benchmarks.store.manifest import read_manifest, run_of

        run = run_of(path)
        return Source(path, None) if run is None else Source(run, read_manifest(run))

    def read(self, gt: GroundTruth, *, threads: int = 0, match: TextMatch = "id") -> Predictions:
        """The predictions.

        Args:
            gt: ground truth, for a file that names its images by texts.
            threads: see ``read_predictions``.
            match: what these texts are, see ``image_ids_by_text``.

        Raises:
            DataError: anything wrong with them; one line.
        """
        if self.manifest is None:
            return read_predictions(self.path, threads=threads, image_ids=partial(image_ids_by_text, gt, match))
        from ovd_bench.benchmarks.store.predictions import read_run_predictions

        return read_run_predictions(self.path)

    @property
    def sha256(self) -> str:
        """Hash of the file; for a run, see ``run_sha256``."""
        if self.manifest is None:
            return file_sha256(self.path)
        from ovd_bench.benchmarks.store.predictions import run_sha256

        return run_sha256(self.path)

    def covered(self, gt: GroundTruth, annotations: Path) -> tuple[GroundTruth, list[str]]:
        """The part of the ground truth that the predictions cover, and notes on it."""
        notes: list[str] = []
        if self.manifest is None:
            return gt, notes
        made_on = self.manifest.benchmark
        if file_sha256(annotations) != made_on.annotations_sha256:
            notes.append(f"warning: the run was made on other annotations than these: {made_on.annotations}")
        elif self.manifest.image_ids is None:
            from ovd_bench.benchmarks.store.manifest import ids_sha256

            if ids_sha256(gt.image_ids.tolist()) != self.manifest.recipe.images_sha256:
                raise DataError(
                    f"{self.path}: made on other images than all of these: its manifest was changed by hand"
                )
        image_ids = self.manifest.image_ids
        if image_ids is not None:
            from ovd_bench.benchmarks.data.subset import restrict

            notes.append(f"partial run: {len(image_ids):,} of {gt.num_images:,} images")
            gt = restrict(gt, image_ids)
        return gt, notes


def find_annotations(
    paths: Sequence[Path], annotations: Path | None, benchmark: str | None, data_root: Path
) -> tuple[Path | None, str]:
    """Annotations and protocol for scoring predictions, with defaults from the run.

    Args:
        paths: paths of the predictions.
        annotations: file given by the user; it has priority.
        benchmark: name given by the user; its images need not exist.
        data_root: folder of the data sets.

    Returns:
        The annotation file (given, of the benchmark, or of the first run; None if unknown), and the default kind of AP:
        that of the first run, else ``lvis``.

    Raises:
        DataError: unknown benchmark, or the annotations of the run are missing.
    """
    manifests = [one.manifest for one in map(Source.of, paths) if one.manifest is not None]
    if annotations is None and benchmark is not None:
        from ovd_bench.benchmarks.data.catalog.registry import find_dataset, locate, open_benchmark

        found = locate(find_dataset(benchmark), data_root).annotations
        annotations = found or open_benchmark(benchmark, data_root).annotations
    elif annotations is None and manifests:
        annotations = manifests[0].benchmark.benchmark().annotations
    return annotations, manifests[0].protocol.name if manifests else "lvis"


def same_images(a: Source, b: Source) -> None:
    """Check that both runs cover the same images.

    Raises:
        DataError: they cover different parts of the images.
    """
    parts = [None if one.manifest is None else one.manifest.image_ids for one in (a, b)]
    if parts[0] != parts[1]:
        said = ["all images" if part is None else f"{len(part):,} images" for part in parts]
        raise DataError(f"A covers {said[0]} and B {said[1]}, but different ones: compare runs on the same images")
