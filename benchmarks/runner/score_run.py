"""From the shards of a run to ``result.json`` and ``per_class.csv``."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field
from pathlib import Path

from ovd_bench.benchmarks.data import class_names
from ovd_bench.benchmarks.data.catalog.benchmark import Benchmark
from ovd_bench.benchmarks.data.files.atomic import file_sha256
from ovd_bench.benchmarks.data.pixel_hashes import pixels_sha256
from ovd_bench.benchmarks.runner.locks import remove_leftovers, run_held
from ovd_bench.benchmarks.runner.run_speed import run_speed
from ovd_bench.benchmarks.scoring.exports import write_per_class
from ovd_bench.benchmarks.scoring.extra_metrics import NEEDS, wanted_metrics
from ovd_bench.benchmarks.scoring.score import Score, ScoreRequest, score
from ovd_bench.benchmarks.scoring.vocabulary_tables import VocabularyTables
from ovd_bench.benchmarks.store.contamination import contamination
from ovd_bench.benchmarks.store.describe import card_of, scored_under
from ovd_bench.benchmarks.store.folders import PER_CLASS, PREDICTIONS, RESULT, manifest_path
from ovd_bench.benchmarks.store.manifest import (
    RunFiles,
    RunManifest,
    ShardRecord,
    pixels_of,
    read_manifest,
    read_records,
)
from ovd_bench.benchmarks.store.names_seen import names_seen
from ovd_bench.benchmarks.store.schema import (
    BenchmarkInfo,
    JudgeInfo,
    Metric,
    ProtocolInfo,
    Result,
    RunInfo,
    new_result,
    write_result,
)
from ovd_bench.detectors.prompts import PromptPlan
from ovd_bench.metrics.errors import DataError

#: Statistics of every run besides the official ones.
USUAL_METRICS = ("pool", "ladder", "presence", "errors", "calibration", "unseen")
#: The same for queries.
QUERY_METRICS = ("queries", "pool", "presence")
BOOTSTRAP = 1000


@dataclass(frozen=True)
class ScoreOptions:
    """How a run is scored.

    Attributes:
        extra_metrics: see ``benchmarks.scoring.extra_metrics``; empty = ``USUAL_METRICS`` or ``QUERY_METRICS``, with a
            judge ``srp`` too.
        resamples, bootstrap_seed: bootstrap of the images.
        judge: similarity matrix for ``srp``.
        tables: tables of class names; None = the benchmark's.
        threshold: score threshold of the presence decision.
        threads: 0 = all processors.
    """

    extra_metrics: list[str] = field(default_factory=list)
    resamples: int = BOOTSTRAP
    bootstrap_seed: int = 0
    judge: Path | None = None
    tables: Path | None = None
    threshold: float = 0.5
    threads: int = 0

    def check(self) -> None:
        """Refuse before hours of work what scoring would refuse.

        Raises:
            DataError: an unknown metric, or a file that cannot be used.
        """
        missing = {"region", *(() if self.judge else ("srp",))}
        for name in missing.intersection(wanted_metrics(self.extra_metrics, missing)):
            raise DataError(NEEDS[name])
        VocabularyTables.read(self.tables)
        if self.judge is not None:
            from ovd_bench.benchmarks.scoring.text_judge import load_similarity

            load_similarity(self.judge)


def score_run(
    folder: Path, benchmark: Benchmark, options: ScoreOptions, *, command: str, engine: str
) -> tuple[Score, Result]:
    """Score a run under its own protocol and write ``per_class.csv`` and ``result.json`` into its folder.

    Args:
        folder: of the run, with all shards.
        benchmark: of the run.
        options: what to compute.
        command: command line of the run.
        engine: which made the shards.

    Raises:
        DataError: a shard is missing, or the annotations are not those of the run.
    """
    manifest = read_manifest(folder)
    with run_held(folder):
        return _score_held(folder, manifest, benchmark, options, command=command, engine=engine)


def _score_held(
    folder: Path, manifest: RunManifest, benchmark: Benchmark, options: ScoreOptions, *, command: str, engine: str
) -> tuple[Score, Result]:
    records = read_records(folder, manifest)
    annotations_sha256 = file_sha256(benchmark.annotations)
    if annotations_sha256 != manifest.benchmark.annotations_sha256:
        raise DataError(f"{folder}: was made on other annotations than {benchmark.annotations}: no result is written")
    asked = manifest.protocol.vocabulary == "queries"
    usual = QUERY_METRICS if asked else USUAL_METRICS
    request = ScoreRequest(
        folder,
        benchmark.annotations,
        manifest.protocol.name,
        extra_metrics=options.extra_metrics or [*usual, *(["srp"] if options.judge else [])],
        resamples=options.resamples,
        seed=options.bootstrap_seed,
        threads=options.threads,
        judge=options.judge,
        tables=options.tables or benchmark.tables,
        threshold=options.threshold,
    )
    protocol = _protocol(folder, manifest, request)  # first, because it may raise
    outcome = score(request)
    clean = PromptPlan(cleaning="lvis" if manifest.protocol.plan.cleaning == "lvis" else "none").clean
    names = [] if asked else class_names.remarks(outcome.gt, clean)
    notes = [*_about_shards(records), *names, *outcome.notes]
    outcome = dataclasses.replace(outcome, notes=notes)
    intervals = outcome.ci95
    for name in (PER_CLASS, RESULT):
        remove_leftovers(folder / name)
    write_per_class(folder / PER_CLASS, outcome.gt, outcome.evaluation)
    card = card_of(manifest.detector)
    seen = [] if asked else names_seen(card, benchmark, outcome.gt.categories)
    result = new_result(
        partial=manifest.partial,
        detector=manifest.detector,
        benchmark=BenchmarkInfo(
            name=manifest.benchmark.name,
            split=manifest.benchmark.split,
            annotations_sha256=annotations_sha256,
            images=outcome.gt.num_images,
            classes=outcome.gt.num_classes,
            boxes=len(outcome.gt.ann_ids),
        ),
        protocol=protocol,
        metrics={name: Metric(value=value, ci95=intervals.get(name)) for name, value in outcome.metrics.items()},
        run=_run_info(manifest, records, options, command=command, engine=engine),
        env=records[0].env,
        speed=run_speed(records),
        files=_files(folder, records),
        contamination=[*contamination(card, benchmark), *seen],
        notes=notes,
    )
    write_result(folder / RESULT, result)
    return outcome, result


def _protocol(folder: Path, manifest: RunManifest, request: ScoreRequest) -> ProtocolInfo:
    """The protocol of the result; reads the tables and the similarity matrix."""
    tables = None if request.tables is None else file_sha256(request.tables)
    judge = None
    if request.judge is not None:
        from ovd_bench.benchmarks.scoring.text_judge import load_similarity

        similarity = load_similarity(request.judge)
        judge = JudgeInfo(name=similarity.judge, sha256=similarity.content_sha256)
    try:
        return scored_under(manifest.protocol, tables, judge)
    except DataError as error:
        raise DataError(f"{folder}: {error}") from None


def _run_info(
    manifest: RunManifest, records: list[ShardRecord], options: ScoreOptions, *, command: str, engine: str
) -> RunInfo:
    recipe = manifest.recipe
    return RunInfo(
        started=min(record.started for record in records),
        seconds=sum(record.seconds for record in records),
        seed=recipe.seed,
        dtype=recipe.dtype,
        device=recipe.device,
        batch=recipe.batch,
        smallest_batch=min(record.smallest_batch for record in records),
        shards=recipe.shards,
        engine=engine,
        images=sum(record.images for record in records),
        detections=sum(record.detections for record in records),
        images_failed=[image for record in records for image in record.images_failed],
        bootstrap=options.resamples,
        bootstrap_seed=options.bootstrap_seed,
        command=command,
        adapter_version=recipe.adapter_version,
        suppression_version=recipe.suppression_version,
        pixels_sha256=None if (pixels := pixels_of(records)) is None else pixels_sha256(pixels),
        interval="student" if options.resamples else None,
    )


def _files(folder: Path, records: list[ShardRecord]) -> dict[str, str]:
    """Hashes of the files beside the result, without records, which hold only times."""
    names = RunFiles(folder, len(records))
    files = {
        PER_CLASS: file_sha256(folder / PER_CLASS),
        f"{PREDICTIONS}/manifest.json": file_sha256(manifest_path(folder)),
    }
    return files | {f"{PREDICTIONS}/{names.arrow(record.shard).name}": record.arrow_sha256 for record in records}


def _about_shards(records: list[ShardRecord]) -> list[str]:
    """Notes on failed images and on shards made in different environments."""
    notes = []
    failed = [image for record in records for image in record.images_failed]
    if failed:
        first = failed[0]
        notes.append(
            f"warning: {len(failed):,} images could not be read and count as images without detections; "
            f"the first is image {first.image_id}: {first.reason}"
        )
    machines = {(record.env.cpu, *record.env.gpus) for record in records}
    if len(machines) > 1:
        notes.append(f"the shards were made on {len(machines)} kinds of machines; env is that of the first shard")
    software = {
        (record.env.git_commit, record.env.git_dirty, *sorted(record.env.packages.items())) for record in records
    }
    if len(software) > 1:
        notes.append(f"warning: the shards were made with {len(software)} states of the software")
    return notes
