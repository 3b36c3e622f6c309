"""``study``: train, score and compare models that differ in one thing."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ovd_bench.benchmarks.cli.common import DataRoot, Json, Verbose, console, print_json
from ovd_bench.benchmarks.cli.printing import counter, say
from ovd_bench.benchmarks.cli.run_options import Device
from ovd_bench.benchmarks.data.output_paths import check_folder
from ovd_bench.metrics.errors import DataError

if TYPE_CHECKING:
    from ovd_bench.benchmarks.data.catalog.benchmark import Benchmark
    from ovd_bench.benchmarks.studies.resolve import ResolvedStudy

StudyName = Annotated[str, typer.Argument(help="Name of a shipped study, or its YAML file.", show_default=False)]
StudyOut = Annotated[Path | None, typer.Option("--out", help="Folder of the study.", show_default="runs/studies/NAME")]

study = typer.Typer(no_args_is_help=True, help="Controlled studies: arms that differ in one thing, over seeds.")


@study.command("list")
def list_studies(as_json: Json = False) -> None:
    """List the studies that ship with the suite."""
    from ovd_bench.benchmarks.studies.definition import read_study, shipped_studies

    found = [read_study(path) for path in shipped_studies()]
    if as_json:
        print_json({"studies": [one.model_dump(mode="json") for one in found]})
        return
    out = console(as_json)
    for one in found:
        say(out, f"{one.name}: {one.question}")
        say(out, f"{len(one.arms)} arms, {len(one.seeds)} seeds, on {one.benchmark}", style="dim", indent=2)


@study.command("show")
def show(name: StudyName, out: StudyOut = None, as_json: Json = False) -> None:
    """Show the arms of a study, how they differ, and which trainings are finished."""
    from ovd_bench.benchmarks.studies.cells import cells_of, study_folder
    from ovd_bench.benchmarks.studies.tables import difference_text

    resolved = _resolved(name)
    cells = cells_of(resolved, study_folder(resolved.study, out))
    states = {cell.label: _state(cell) for cell in cells}
    if as_json:
        arms = [
            {
                "name": one.arm.name,
                "differs": {key: list(values) for key, values in one.differences.items()},
                "config": one.config.resolved(),
            }
            for one in resolved.arms
        ]
        print_json({"study": resolved.study.model_dump(mode="json"), "arms": arms, "cells": states})
        return
    terminal = console(as_json)
    say(terminal, f"{resolved.study.name}: {resolved.study.question}", style="bold")
    say(terminal, f"base {resolved.bases}, benchmark {resolved.study.benchmark}", style="dim")
    for key, value in resolved.study.shared.items():
        say(terminal, f"all arms: {key} {value}", style="dim")
    for one in resolved.arms:
        say(terminal, f"{one.arm.name}: {one.arm.about}")
        say(terminal, difference_text(one.differences) or "the reference", style="dim", indent=2)
    for label, state in states.items():
        say(terminal, f"{label}: {state}")


@study.command(
    epilog="Examples:\n\n"
    "  bench study run controlled\n\n"
    "  bench study run ablation-gdino --seeds 0,1 && bench study report ablation-gdino\n\n"
    "Exit codes: 0 all cells finished, 1 error, 2 usage, 3 some cells failed (the same command resumes), "
    "130 interrupted (likewise)."
)
def run(
    name: StudyName,
    out: StudyOut = None,
    arms: Annotated[str | None, typer.Option(help="Only these arms, comma-separated.", show_default="all")] = None,
    seeds: Annotated[str | None, typer.Option(help="Only these seeds, comma-separated.", show_default="all")] = None,
    threads: Annotated[int, typer.Option(min=1, max=256, help="Threads of the network in each cell.")] = 1,
    parallel: Annotated[int, typer.Option(min=1, max=64, help="Number of cells at once.")] = 1,
    device: Device = "auto",
    *,
    data_root: DataRoot,
    verbose: Verbose = False,
) -> None:
    """Train and score every arm with every seed, each in its own process; finished cells are skipped."""
    from rich.console import Console

    from ovd_bench.benchmarks.data.catalog.registry import open_benchmark
    from ovd_bench.benchmarks.studies.cells import JUDGE, cells_of, study_folder
    from ovd_bench.benchmarks.studies.definition import find_study, read_study
    from ovd_bench.benchmarks.studies.process import Commands
    from ovd_bench.benchmarks.studies.run import StudyRun

    folder = study_folder(read_study(find_study(name)), out)
    check_folder(folder)
    resolved = _resolved(name)
    cells = cells_of(resolved, folder, _names(arms), [_seed(seed) for seed in _names(seeds)])
    for cell in cells:
        cell.finished()  # refuses what is there of another study
    with counter("rendering images") as advance:  # once instead of in every cell
        benchmark = open_benchmark(resolved.study.benchmark, data_root, progress=advance)
    if resolved.study.judge and any(cell.result() is None for cell in cells):
        _write_judge(resolved.study.judge, benchmark, folder / JUDGE)
    commands = Commands(data_root, threads, device)
    screen = Console(stderr=True)
    definition = find_study(name).read_bytes()
    try:
        reports = StudyRun(folder, definition, commands, screen, parallel, threads).run(cells)
    except KeyboardInterrupt:
        screen.print("interrupted: the same command resumes", markup=False)
        raise typer.Exit(130) from None
    if failed := [report for report in reports if report.problem]:
        say(screen, f"{len(failed)} of {len(cells)} cells failed; the same command tries them again:")
        for report in failed:
            say(screen, f"{report.cell.label}: {report.problem} (see {report.cell.log})", indent=2)
        raise typer.Exit(3)
    say(screen, f"all {len(cells)} cells are finished: bench study report {name}")


@study.command()
def report(
    name: StudyName,
    out: StudyOut = None,
    resamples: Annotated[int, typer.Option(min=100, max=100_000, help="Bootstrap resamples of the images.")] = 1000,
    as_json: Json = False,
    verbose: Verbose = False,
) -> None:
    """Report means, spreads over seeds, and differences to the reference arm with their significance.

    Writes report.md, report.json and pictures into the study's folder.
    """
    import json

    from ovd_bench.benchmarks.data.files.atomic import atomic_write
    from ovd_bench.benchmarks.studies.cells import cells_of, study_folder
    from ovd_bench.benchmarks.studies.definition import find_study, read_study
    from ovd_bench.benchmarks.studies.figure import write_figure, write_further_figure
    from ovd_bench.benchmarks.studies.report import build_report
    from ovd_bench.benchmarks.studies.tables import markdown, terminal

    folder = study_folder(read_study(find_study(name)), out)
    if not folder.is_dir():
        raise DataError(f"{folder}: no such folder: 'bench study run {name}' makes it")
    check_folder(folder)
    resolved = _resolved(name)
    with counter("cells measured") as advance:
        made = build_report(resolved, cells_of(resolved, folder), resamples=resamples, advance=advance)
    document = made.as_json()
    text = json.dumps(document, indent=1, ensure_ascii=False, allow_nan=False) + "\n"
    pictures = {"report.png": f"differences to {made.resolved.study.reference}"}
    write_figure(folder / "report.png", made)
    if write_further_figure(folder / "further.png", made):
        pictures["further.png"] = "other questions, errors, costs"
    for file_name, content in (("report.json", text), ("report.md", markdown(made, pictures))):
        with atomic_write(folder / file_name) as file:
            file.write(content.encode())
    if as_json:
        print_json(document)
        return
    out_console = console(as_json)
    out_console.print(terminal(made, out_console.width))
    say(out_console, f"{folder}: {', '.join(('report.md', 'report.json', *pictures))}", style="dim")


def _write_judge(model: str, benchmark: Benchmark, path: Path) -> None:
    from ovd_bench.benchmarks.data.files.annotations import read_ground_truth
    from ovd_bench.benchmarks.scoring.text_judge import build_similarity, save_similarity

    similarity = build_similarity(read_ground_truth(benchmark.annotations).categories.names, model)
    path.parent.mkdir(parents=True, exist_ok=True)
    save_similarity(path, similarity)


def _resolved(name: str) -> ResolvedStudy:
    from ovd_bench.benchmarks.studies.definition import find_study, read_study
    from ovd_bench.benchmarks.studies.resolve import resolve

    path = find_study(name)
    return resolve(read_study(path), path)


def _state(cell: object) -> str:
    from ovd_bench.benchmarks.studies.cells import Cell

    assert isinstance(cell, Cell)
    try:
        if cell.finished():
            return "finished"
        return "trained" if cell.trained() else "begun" if cell.folder.exists() else "not begun"
    except DataError as error:
        return f"stale: {error}"


def _names(text: str | None) -> list[str]:
    return [part.strip() for part in (text or "").split(",") if part.strip()]


def _seed(text: str) -> int:
    if not text.isdigit():
        raise DataError(f"--seeds {text}: expected whole numbers, comma-separated")
    return int(text)


def register(app: typer.Typer) -> None:
    """Add the verb to the command line."""
    app.add_typer(study, name="study")
