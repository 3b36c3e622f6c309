"""``run`` and ``predict``: detectors on benchmarks."""

from __future__ import annotations

import dataclasses
import re
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.text import Text

from ovd_bench.benchmarks.cli.common import Threads, Threshold, console, print_json
from ovd_bench.benchmarks.cli.run_options import RunOptions, with_run_options
from ovd_bench.benchmarks.data.text import printable
from ovd_bench.metrics.errors import DataError

if TYPE_CHECKING:
    from ovd_bench.benchmarks.data.catalog.suites import Suite
    from ovd_bench.benchmarks.runner.request import RunRequest
    from ovd_bench.benchmarks.runner.score_run import ScoreOptions
    from ovd_bench.benchmarks.runner.sweep import RunReport
    from ovd_bench.benchmarks.scoring.suite_mean import SuiteMean
    from ovd_bench.benchmarks.store.schema import Result

_EXIT = (
    "Exit codes: 0 done, 1 error, 2 usage, 3 some shards or runs failed (the same command resumes), "
    "130 interrupted (likewise)."
)


def run(
    options: RunOptions,
    *,
    metric: Annotated[
        list[str] | None,
        typer.Option(
            "--metric",
            "-m",
            help="Further statistics, comma-separated or repeated.",
            show_default="pool, ladder, presence, errors, calibration, unseen",
        ),
    ] = None,
    bootstrap: Annotated[int, typer.Option(min=0, max=100_000, help="Bootstrap resamples of the images.")] = 1000,
    judge: Annotated[Path | None, typer.Option(help="Similarity matrix for srp, made by 'bench judge'.")] = None,
    tables: Annotated[
        Path | None, typer.Option(help="JSON tables of class names.", show_default="the benchmark's")
    ] = None,
    threshold: Threshold = 0.5,
    threads: Threads = 0,
) -> None:
    """Run detectors on benchmarks: predict and score, one run after the other. An interrupted run is resumed.

    A suite (odinw13, odinw35, rf100-vl, rf20-vl, coco-o, or a folder with a suite.yaml) is run set by set; the mean of
    AP is given if all of its sets are there.

    All statistics are in the run's result.json; 'bench report RUN' shows them, 'bench board' ranks the runs.
    """
    from ovd_bench.benchmarks.runner.score_run import ScoreOptions

    scoring = ScoreOptions(metric or [], bootstrap, judge=judge, tables=tables, threshold=threshold, threads=threads)
    scoring.check()
    _carry_out(options, scoring, None)


def predict(
    options: RunOptions,
    *,
    shard: Annotated[
        str | None, typer.Option(metavar="K/N", help="Only shard K of N, counted from 0.", show_default="all")
    ] = None,
) -> None:
    """Predict only, all shards or one. Finished shards are kept; 'bench score RUN --save' merges and scores."""
    only, count = _shard(shard, options.shards)
    if only is not None and options.engine == "ray":
        raise DataError(
            "--shard makes one shard on this machine, --engine ray all shards on the cluster: give one of them"
        )
    _carry_out(dataclasses.replace(options, shards=count), None, only)


def _carry_out(options: RunOptions, scoring: ScoreOptions | None, shards: list[int] | None) -> None:
    """Run, print, and exit with the exit code of the outcome.

    Args:
        options: what to run.
        scoring: how to score; None = predict only.
        shards: to make; None = all.
    """
    from ovd_bench.benchmarks.runner.sweep import Sweep
    from ovd_bench.benchmarks.store.suite_lists import check_suite, remember_suite

    suites, as_json = options.suites(), options.as_json
    requests = options.requests(suites)
    for suite in suites.values():
        check_suite(options.out, suite)
    sweep = Sweep(
        Console(stderr=True),
        shlex.join(["bench", *sys.argv[1:]]),
        scoring,
        shards,
        engine=options.chosen_engine(),
        quiet=options.quiet,
        verbose=options.verbose,
    )
    out = console(as_json)
    reports: list[RunReport] = []
    try:
        for report in sweep.run(requests):
            reports.append(report)
            if report.folder is not None:
                for suite in suites.values():
                    remember_suite(options.out, suite)
            if not as_json or report.problem:
                _show(report, out, alone=len(requests) == 1)
    except KeyboardInterrupt:
        sweep.console.print("interrupted: the same command resumes", markup=False)
        raise typer.Exit(130) from None
    means = _suite_means(list(suites.values()), requests, reports) if scoring is not None else {}
    if as_json:
        extra = {"suites": [_suite_document(label, mean) for label, mean in means.items()]} if suites else {}
        print_json({"runs": [_document(report) for report in reports], **extra})
    else:
        for label, mean in means.items():
            from ovd_bench.benchmarks.scoring.tables import suite_table

            out.print(suite_table(label[1], mean))
    problems = [report for report in reports if report.problem]
    if problems:
        begun = len(problems) < len(reports) or any(report.folder for report in problems)
        raise typer.Exit(3 if begun else 1)


def _suite_means(
    suites: Sequence[Suite], requests: Sequence[RunRequest], reports: Sequence[RunReport]
) -> dict[tuple[str, str], SuiteMean]:
    """The mean of every detector over every suite, by their names."""
    from ovd_bench.benchmarks.scoring.suite_mean import SuiteMean

    means: dict[tuple[str, str], SuiteMean] = {}
    for suite in suites:
        found: dict[str, dict[str, Result]] = {}
        for request, report in zip(requests, reports, strict=True):
            detector = request.detector_name or Path(request.detector).name
            results = found.setdefault(detector, {})
            if report.result is not None and report.result.benchmark.name in suite.names:
                results[report.result.benchmark.name] = report.result
        means |= {(suite.name, detector): SuiteMean(suite, results) for detector, results in found.items()}
    return means


def _suite_document(label: tuple[str, str], mean: SuiteMean) -> dict[str, Any]:
    suite, detector = label
    return {
        "suite": suite,
        "detector": detector,
        "complete": mean.complete,
        "partial": mean.partial,
        "sets": {name: mean.metric(name).model_dump(mode="json") for name in mean.suite.names},
        "mean": mean.mean.model_dump(mode="json"),
    }


def _show(report: RunReport, out: Console, *, alone: bool) -> None:
    """A table for a single run, one line per run of a sweep."""
    if report.problem:
        print("error:", printable(f"{report.label}: {report.problem}"), file=sys.stderr)
        return
    out.print(Text(printable(report.label), style="bold"), end=" " if report.score and not alone else "\n")
    if report.score is not None:
        from ovd_bench.benchmarks.scoring.tables import run_line, run_table

        out.print(run_table(report.score) if alone else run_line(report.score))
    out.print(printable(str(report.folder)), style="dim", markup=False, highlight=False, soft_wrap=True)


def _document(report: RunReport) -> dict[str, Any]:
    return {
        "run": report.label,
        "folder": None if report.folder is None else str(report.folder),
        "problem": report.problem or None,
        "result": None if report.result is None else report.result.model_dump(mode="json", by_alias=True),
    }


def _shard(shard: str | None, shards: int | None) -> tuple[list[int] | None, int | None]:
    """The shards to make (None = all) and their number."""
    if shard is None:
        return None, shards
    match = re.fullmatch(r"(\d{1,6})/(\d{1,6})", shard)
    if match is None or not int(match[1]) < int(match[2]) or shards not in (None, int(match[2])):
        raise DataError(f"--shard {shard}: expected K/N with K from 0 to N - 1 and N as in --shards")
    return [int(match[1])], int(match[2])


def register(app: typer.Typer) -> None:
    """Add the verbs."""
    app.command(
        epilog="Examples:\n\n"
        "  bench run -d owl-nano -b shapes\n\n"
        "  bench run -d owlv2-base-patch16,grounding-dino-tiny-hf -b lvis-minival -p lvis-fixed --batch 8\n\n"
        "  bench run -d my_detector.py:Mine -b instances_val.json --limit 100\n\n"
        "  bench run -d owlv2-base-patch16 -b odinw13\n\n" + _EXIT
    )(with_run_options(run))
    app.command(
        epilog="Examples:\n\n"
        "  bench predict -d owl-nano -b shapes --shards 16\n\n"
        "  bench predict -d owlv2-base-patch16 -b lvis-minival --shard $SLURM_ARRAY_TASK_ID/16\n\n" + _EXIT
    )(with_run_options(predict))
