"""A run before its first shard: benchmark, images, protocol, folder and manifest. No detector is loaded for this."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from ovd_bench.benchmarks.data.catalog.benchmark import Benchmark
from ovd_bench.benchmarks.data.files.annotations import read_ground_truth
from ovd_bench.benchmarks.data.files.atomic import file_sha256
from ovd_bench.benchmarks.data.files.queries import is_query_file, read_queries
from ovd_bench.benchmarks.data.image_match import located_paths
from ovd_bench.benchmarks.data.pixel_hashes import probe_sha256
from ovd_bench.benchmarks.runner.image_subset import RunImages
from ovd_bench.benchmarks.runner.locks import LOCKS, held, remove_leftovers
from ovd_bench.benchmarks.runner.request import Overwrite, RunRequest
from ovd_bench.benchmarks.store.describe import protocol_info, source_sha256
from ovd_bench.benchmarks.store.folders import PREDICTIONS, RESULT, manifest_path, run_folder
from ovd_bench.benchmarks.store.manifest import (
    BenchmarkPlace,
    Recipe,
    RunManifest,
    cut,
    ids_sha256,
    read_manifest,
    write_document,
)
from ovd_bench.benchmarks.store.protocols import RunProtocol
from ovd_bench.benchmarks.store.schema import DetectorInfo
from ovd_bench.detectors.hub_names import commit_of
from ovd_bench.detectors.registry import find_card
from ovd_bench.metrics.errors import DataError

#: Seconds to wait for another process that is writing the manifest.
_MANIFEST_PATIENCE = 60.0


@dataclass(frozen=True)
class RunPlan:
    """A request with its benchmark, protocol and images.

    Attributes:
        request: the request.
        benchmark: its files exist on this machine.
        protocol: of the run.
        run_images: images and the classes given for each.
    """

    request: RunRequest
    benchmark: Benchmark
    protocol: RunProtocol
    run_images: RunImages

    @staticmethod
    def of(request: RunRequest, progress: Callable[[int], None] | None = None) -> RunPlan:
        """Open the benchmark and choose the images.

        Args:
            request: to open.
            progress: called with numbers of images where a data set is rendered first.

        Raises:
            DataError: the benchmark cannot be read; one line.
        """
        benchmark = request.open_benchmark(progress)
        questions = None
        if is_query_file(benchmark.annotations):
            asked = read_queries(benchmark.annotations)
            gt, questions = asked.queries.truth, asked.questions
        else:
            gt = read_ground_truth(benchmark.annotations)
        protocol = request.protocol(benchmark, gt.categories)
        names = located_paths(gt, benchmark.images, benchmark.match)
        chosen = request.choose(gt.image_ids.tolist())
        run_images = RunImages.of(gt, protocol.vocabulary, chosen, names, questions)
        return RunPlan(request, benchmark, protocol, run_images)

    def folder(self, detector: str, weights_sha256: str) -> Path:
        """Of the run with these weights."""
        out, partial = self.request.out, self.request.partial
        return run_folder(out, self.benchmark.name, self.protocol.slug, detector, weights_sha256, partial=partial)

    def recipe(
        self, detector: str, weights_sha256: str, device: str, shards_there: int | None, revision: str | None = None
    ) -> Recipe:
        """Everything that the predictions depend on. Default number of shards: that of the existing run.

        Args:
            detector: its name in the results.
            weights_sha256: of its weights.
            device: where it runs.
            shards_there: number of shards of an existing run.
            revision: commit of weights from the hub; None = others, or not known before they are loaded.

        Raises:
            DataError: more shards than images.
            DetectorError: no detector of the request's name.
        """
        card = find_card(self.request.detector)
        request, image_ids = self.request, self.run_images.image_ids
        adopted = shards_there if request.shards is None else None
        return Recipe(
            detector=detector,
            weights_sha256=weights_sha256,
            source_sha256=source_sha256(request.detector),
            annotations_sha256=file_sha256(self.benchmark.annotations),
            images_sha256=ids_sha256(image_ids),
            protocol_sha256=self.protocol.sha256,
            shards=adopted or request.shard_count(len(image_ids)),
            device=device.partition(":")[0],
            dtype=request.dtype,
            batch=request.batch,
            chunk_batch=request.chunk_batch,
            nms_iou=request.nms_iou,
            seed=request.seed,
            weights_revision=revision,
            weights_key=request.weights_key,
            adapter_version=card.adapter_version,
            suppression_version=card.suppression_version,
            probe_sha256=self._probe,
        )

    @cached_property
    def _probe(self) -> str:
        """Of the images as they are now on this machine."""
        run_images = self.run_images
        return probe_sha256(self.benchmark.images, run_images.image_ids, run_images.files, run_images.sizes)

    def manifest(self, info: DetectorInfo, device: str, shards_there: int | None) -> RunManifest:
        """The manifest of the run of a loaded detector; see ``recipe``."""
        recipe = self.recipe(info.name, info.weights_sha256, device, shards_there, commit_of(info.weights))
        image_ids = self.run_images.image_ids
        return RunManifest(
            schema=1,
            recipe=recipe,
            recipe_sha256=recipe.sha256,
            detector=info,
            protocol=protocol_info(self.protocol, self.run_images.vocabulary),
            benchmark=BenchmarkPlace.of(self.benchmark, recipe.annotations_sha256),
            image_ids=image_ids if self.request.partial else None,
            shards=cut(image_ids, recipe.shards),
        )


def prepare_run(
    folder: Path, wanted: Callable[[int | None], RunManifest], *, overwrite: Overwrite, whole: bool
) -> RunManifest:
    """Make the folder with its manifest, or check that the existing run has the same recipe.

    Args:
        folder: of the run.
        wanted: returns the manifest of this run for the number of shards of an existing run, or for None.
        overwrite: ``always`` removes an existing run, unless only some shards are requested.
        whole: whether all shards are requested.

    Raises:
        DataError: the existing run has another recipe; the message lists the differences.
    """
    predictions = folder / PREDICTIONS
    predictions.mkdir(parents=True, exist_ok=True)
    path = manifest_path(folder)
    with held(predictions / LOCKS / "manifest", f"{folder}: the manifest", patience=_MANIFEST_PATIENCE):
        remove_leftovers(path)
        if overwrite == "always" and whole:
            _clear(folder)
        if path.exists():
            have = read_manifest(folder)
            differences = have.recipe.differences(wanted(have.recipe.shards).recipe)
            if differences and whole and not any(predictions.glob("shard-*.json")):
                _clear(folder)  # an edited adapter whose first run never finished a shard: nothing is lost
            elif differences:
                raise DataError(
                    f"{folder}: already has a run made with {', '.join(differences)}: use the same settings, "
                    "--overwrite always, or another --out"
                )
            else:
                return have
        manifest = wanted(None)
        write_document(path, manifest)
        return manifest


def _clear(folder: Path) -> None:
    """Remove a run. Results and records go first, so that nothing looks valid if this process is killed here."""
    (folder / RESULT).unlink(missing_ok=True)
    predictions = folder / PREDICTIONS
    for pattern in ("shard-*.json", "manifest.json", "shard-*.arrow"):
        for path in predictions.glob(pattern):
            path.unlink()
