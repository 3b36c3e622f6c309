"""Several detectors on several benchmarks, one run after the other."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field
from pathlib import Path

from rich.console import Console

from ovd_bench.benchmarks.data.errors import one_line
from ovd_bench.benchmarks.runner.plan import RunPlan
from ovd_bench.benchmarks.runner.predict import Engine, predict
from ovd_bench.benchmarks.runner.progress import RunProgress
from ovd_bench.benchmarks.runner.request import RunRequest
from ovd_bench.benchmarks.runner.score_run import ScoreOptions, score_run
from ovd_bench.benchmarks.scoring.score import Score
from ovd_bench.benchmarks.store.folders import RESULT, manifest_path
from ovd_bench.benchmarks.store.manifest import missing_shards, read_manifest
from ovd_bench.benchmarks.store.schema import Result, read_result
from ovd_bench.detectors.registry import check_detector, find_card
from ovd_bench.detectors.types import DetectorError
from ovd_bench.metrics.errors import DataError


@dataclass(frozen=True)
class RunReport:
    """Report of one run.

    Attributes:
        label: detector and benchmark, for people.
        folder: of the run; None if it failed before the folder was known.
        result: None if the run failed or only some shards were requested.
        score: the score behind the result; None also if an old result was kept.
        problem: what went wrong, one line; empty if nothing did.
    """

    label: str
    folder: Path | None
    result: Result | None = None
    score: Score | None = None
    problem: str = ""


@dataclass(frozen=True)
class Sweep:
    """Executes runs.

    Attributes:
        console: for progress and notes.
        command: command line, for the result.
        options: how to score; None = predict only.
        shards: numbers of the only shards to make; None = all.
        engine: None = a worker process on this machine.
        quiet: no progress.
        verbose: show the output of workers.
    """

    console: Console
    command: str
    options: ScoreOptions | None = field(default_factory=ScoreOptions)
    shards: Sequence[int] | None = None
    engine: Engine | None = None
    quiet: bool = False
    verbose: bool = False

    def run(self, requests: Sequence[RunRequest]) -> Iterator[RunReport]:
        """Execute requests one after the other; after a failed run the next one starts."""
        for request in requests:
            try:
                yield self.one(request)
            except (DataError, DetectorError, OSError, MemoryError) as error:
                if self.verbose:
                    self.console.print_exception()
                yield RunReport(_label(request), None, problem=one_line(error))

    def one(self, request: RunRequest) -> RunReport:
        """Execute one request. Errors after the start of the run are reported as ``problem``.

        Raises:
            DataError: the benchmark cannot be opened.
            DetectorError: no detector of that name, or it cannot be loaded here.
        """
        label = _label(request)
        with nullcontext() if self.quiet else self.console.status(f"{label}: opening", spinner="line"):
            if self.engine is None:
                check_detector(request.detector, request.weights, request.nms_iou)  # before data are rendered
            elif ".py:" not in request.detector:
                find_card(request.detector)  # packages and weights are on the machines of the engine
            plan = RunPlan.of(request)
            folder = complete_run(plan) if self.shards is None else None
        if folder is None:
            progress = RunProgress(label, self.console, quiet=self.quiet)
            outcome = predict(request, self.shards, progress, engine=self.engine, verbose=self.verbose)
            folder = outcome.folder
            if outcome.problem or folder is None:
                return RunReport(label, folder, problem=outcome.problem)
        if self.options is None:
            return RunReport(label, folder)
        if request.overwrite == "never" and (folder / RESULT).exists():
            return RunReport(label, folder, read_result(folder / RESULT))
        engine = "ray" if self.engine else "local"
        try:
            score, result = score_run(folder, plan.benchmark, self.options, command=self.command, engine=engine)
        except (DataError, OSError, MemoryError) as error:
            return RunReport(label, folder, problem=one_line(error))
        return RunReport(label, folder, result, score)


def _label(request: RunRequest) -> str:
    detector = request.detector_name or Path(request.detector).name
    return f"{detector} on {request.name or Path(request.benchmark).name}"


def complete_run(plan: RunPlan) -> Path | None:
    """The folder of a run with all shards, if this is known without loading the detector, otherwise None.

    It is known if the card of the detector has the hash of the weights. Otherwise the worker finds out.

    Raises:
        DetectorError: no detector of that name.
    """
    request = plan.request
    if ".py:" in request.detector:
        return None
    card = find_card(request.detector)
    if request.overwrite == "always" or request.weights is not None or not card.weights_sha256:
        return None
    name = request.detector_name or card.name
    folder = plan.folder(name, card.weights_sha256)
    if not manifest_path(folder).exists():
        return None
    manifest = read_manifest(folder)
    there = manifest.recipe
    device = there.device if request.device == "auto" else request.device
    if there.differences(plan.recipe(name, card.weights_sha256, device, there.shards)):
        return None
    return None if missing_shards(folder, manifest, list(range(there.shards))) else folder
