"""The report on fake cells: its numbers against the result files and the suite's own comparison."""

from __future__ import annotations

import io
import json
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
import typer
from rich.console import Console
from typer.testing import CliRunner

from ovd_bench.benchmarks.cli.study import register
from ovd_bench.benchmarks.data.catalog.benchmark import Benchmark
from ovd_bench.benchmarks.data.files.annotations import read_ground_truth
from ovd_bench.benchmarks.store.predictions import read_run_predictions
from ovd_bench.benchmarks.studies.cells import Cell, cells_of
from ovd_bench.benchmarks.studies.definition import read_study
from ovd_bench.benchmarks.studies.report import StudyReport, build_report
from ovd_bench.benchmarks.studies.resolve import ResolvedStudy, resolve
from ovd_bench.benchmarks.studies.tables import markdown, terminal
from ovd_bench.metrics.comparison import compare
from ovd_bench.metrics.errors import DataError
from ovd_bench.metrics.evaluate import evaluate
from ovd_bench.metrics.protocol import PROTOCOLS
from ovd_bench.tests.benchmarks.studies.fake_steps import score, train

WRONG = {"full": 0.05, "no-fusion": 0.75, "static": 0.08}


def _finish(cells: list[Cell], annotations: Path) -> None:
    """What the steps do, in this process."""
    for cell in cells:
        cell.begin()
        train(cell.folder, "")
        score(cell.folder, WRONG[cell.arm], cell.seed, annotations)


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the module's study lies; filled by the first test."""
    return tmp_path_factory.mktemp("study")


def _study(study_file: Path, out: Path, benchmark: Benchmark) -> tuple[ResolvedStudy, list[Cell]]:
    resolved = resolve(read_study(study_file), study_file)
    cells = cells_of(resolved, out)
    _finish([cell for cell in cells if not cell.finished()], benchmark.annotations)
    return resolved, cells


@pytest.fixture
def report(study_file: Path, finished: Path, benchmark_: Benchmark) -> StudyReport:
    resolved, cells = _study(study_file, finished, benchmark_)
    return build_report(resolved, cells, resamples=200)


def test_means_are_those_of_the_result_files(report: StudyReport, study_file: Path, finished: Path) -> None:
    cells = cells_of(resolve(read_study(study_file), study_file), finished)
    for arm in report.arms:
        results = [found[1] for cell in cells if cell.arm == arm.name and (found := cell.result()) is not None]
        assert arm.seeds == (0, 1)
        assert arm.core_minutes == pytest.approx(1.5)
        for metric in report.metrics:
            values = [result.metrics[metric].value for result in results]
            assert arm.spreads[metric].values == pytest.approx(values, abs=1e-12), metric
            assert arm.spreads[metric].mean == pytest.approx(np.mean([value or 0 for value in values]))
    assert set(report.metrics) >= {"AP", "APr", "APc", "APf", "unseen/APu", "ladder/AP_super", "ladder/AP_loc"}


def test_pairings_are_the_suites_paired_comparison(
    report: StudyReport, study_file: Path, finished: Path, benchmark_: Benchmark
) -> None:
    cells = cells_of(resolve(read_study(study_file), study_file), finished)
    gt = read_ground_truth(benchmark_.annotations)
    runs = {}
    for cell in cells:
        found = cell.result()
        assert found is not None
        predictions = read_run_predictions(found[0])
        runs[cell.arm, cell.seed] = evaluate(gt, predictions, PROTOCOLS["lvis"], keep_records=True)
    effect = report.arms[1].effects["AP"]
    pairs = [(a, b) for a in (0, 1) for b in (0, 1)]
    for (a, b), interval in zip(pairs, effect.pairings, strict=True):
        wanted = compare(gt, runs["full", b], runs["no-fusion", a], resamples=200).differences["AP"]
        assert interval is not None
        assert wanted.ci95 == pytest.approx(interval, abs=1e-12)
    means = {arm: np.mean([runs[arm, seed].metrics["AP"] or 0 for seed in (0, 1)]) for arm in WRONG}
    assert effect.delta == pytest.approx(means["no-fusion"] - means["full"])


def test_only_what_is_clear_is_called_resolved(report: StudyReport) -> None:
    verdicts = {arm.name: arm.effects["AP"].verdict for arm in report.arms if arm.effects}
    assert verdicts == {"no-fusion": "resolved", "static": "not resolved"}
    loc = report.arms[1].effects["ladder/AP_loc"]  # wrong names alone hardly move what is found
    assert loc.verdict == "not resolved"
    judged = [one for arm in report.arms for one in arm.effects.values()]
    assert all(one.p is not None and one.p_holm is not None and one.p <= one.p_holm <= 1 for one in judged)
    assert all(one.verdict == "resolved" for one in judged if one.verdict_holm == "resolved")
    assert all(one.ci95 is not None and one.ci95[0] <= one.delta <= one.ci95[1] for one in judged)


def test_markdown_says_what_is_measured_and_what_is_not(report: StudyReport) -> None:
    text = markdown(report, {"report.png": "differences to full"})
    full, no_fusion, static = (arm.spreads["AP"].values for arm in report.arms)
    mean = 100 * np.mean(no_fusion) - 100 * np.mean(full)
    row = next(line for line in text.splitlines() if line.startswith("| no-fusion |") and "resolved" in line)
    assert row.startswith(f"| no-fusion | {mean:+.1f} | ")
    assert f"| static | {100 * np.mean(static):.1f} ± {50 * abs(static[0] - static[1]):.1f} |" in text
    assert "| no-fusion | 45.8 (-0.9) |" in text
    assert "measured elsewhere, on other data: Somebody 2020, table 1" in text
    assert "model.options.use_fusion false instead of true" in text
    assert "resolved: the 95 % interval" in text
    assert "warning" not in text


def test_a_narrow_terminal_leaves_out_columns_and_says_so(report: StudyReport) -> None:
    shown = {}
    for width in (60, 200):
        screen = io.StringIO()
        Console(file=screen, width=width).print(terminal(report, width))
        shown[width] = screen.getvalue()
    assert "hidden, terminal too narrow" not in shown[200]
    text = " ".join(shown[60].split())
    assert re.search(r"hidden, terminal too narrow: (AP., )*AP super, AP loc", text)
    assert f"{_mean(report, 'AP')} ± " in text
    assert f"{_mean(report, 'ladder/AP_loc')} ± " in shown[200]


def _mean(report: StudyReport, metric: str) -> str:
    return f"{100 * report.arms[0].spreads[metric].mean:.1f}"


def test_unfinished_and_foreign_cells_are_told(
    report: StudyReport, study_file: Path, finished: Path, benchmark_: Benchmark, tmp_path: Path
) -> None:
    out = tmp_path / "copy"
    shutil.copytree(finished, out)
    resolved = resolve(read_study(study_file), study_file)
    shutil.rmtree(out / "static" / "seed-1")
    other = (out / "static" / "seed-0" / "config.yaml").read_text().replace("steps: 12", "steps: 11")
    (out / "static" / "seed-0" / "config.yaml").write_text(other)
    partly = build_report(resolved, cells_of(resolved, out), resamples=100)
    assert partly.remarks[0] == "not finished: static, seed 1"
    assert "left out: " in partly.remarks[1]
    assert "steps 11, the study has 12" in partly.remarks[1]
    assert partly.arms[2].seeds == ()
    assert markdown(partly)
    for arm in ("full", "no-fusion"):
        shutil.rmtree(out / arm)
    with pytest.raises(DataError, match="no cell is finished"):
        build_report(resolved, cells_of(resolved, out))


def test_the_command_writes_the_same_files_twice(
    report: StudyReport, study_file: Path, finished: Path, tmp_path: Path
) -> None:
    app = typer.Typer()
    register(app)
    out = tmp_path / "copy"
    shutil.copytree(finished, out)
    contents = []
    for _ in range(2):
        arguments = ["study", "report", str(study_file), "--out", str(out), "--resamples", "200", "--json"]
        outcome = CliRunner().invoke(app, arguments)
        assert outcome.exit_code == 0, outcome.output
        contents.append([(out / f"report.{kind}").read_bytes() for kind in ("json", "md", "png")])
    assert contents[0] == contents[1]
    document = json.loads(contents[0][0])
    assert document["arms"][1]["differences"]["AP"]["verdict"] == "resolved"
    assert document["arms"][1]["differs"] == {"model.options.use_fusion": [False, True]}
    assert json.loads(outcome.stdout) == document
    shown = CliRunner().invoke(app, ["study", "show", str(study_file), "--out", str(out), "--json"])
    assert json.loads(shown.stdout)["cells"] == dict.fromkeys(json.loads(shown.stdout)["cells"], "finished")
    listed = CliRunner().invoke(app, ["study", "list"])
    assert "ablation-gdino" in listed.stdout
