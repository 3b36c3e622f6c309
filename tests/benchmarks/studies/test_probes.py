"""Probes: the trained models with other prompts."""

from __future__ import annotations

import copy
import io
from pathlib import Path
from typing import Any

import pytest
import yaml
from rich.console import Console

from ovd_bench.benchmarks.studies.cells import Cell, cells_of
from ovd_bench.benchmarks.studies.definition import read_study
from ovd_bench.benchmarks.studies.process import Commands
from ovd_bench.benchmarks.studies.report import StudyReport, build_report
from ovd_bench.benchmarks.studies.resolve import ResolvedStudy, resolve
from ovd_bench.benchmarks.studies.run import StudyRun
from ovd_bench.benchmarks.studies.tables import markdown
from ovd_bench.metrics.errors import DataError
from ovd_bench.tests.benchmarks.studies.conftest import STUDY
from ovd_bench.tests.benchmarks.studies.fake_steps import FakeSteps

PROBES = [
    {"name": "synonyms", "about": "Other words for the same.", "prompts": "synonyms-1"},
    {"name": "present", "about": "Only what is there.", "vocabulary": "present"},
]


def _study(study_file: Path, **changes: Any) -> Path:
    document = copy.deepcopy(STUDY) | {"seeds": [0], "arms": STUDY["arms"][:2], "probes": PROBES} | changes
    path = study_file.with_name("probes.yaml")
    path.write_text(yaml.safe_dump(document))
    return path


def _resolved(path: Path) -> ResolvedStudy:
    return resolve(read_study(path), path)


def _run(path: Path, out: Path, cells: list[Cell]) -> str:
    screen = io.StringIO()
    steps = FakeSteps(path.parent / "bench" / "gt.json")
    StudyRun(out, path.read_bytes(), steps, Console(file=screen, width=200), 2).run(cells)
    return screen.getvalue()


def test_probes_are_run_once_and_reported(study_file: Path, tmp_path: Path) -> None:
    """A study that gets probes later runs these alone."""
    without = _study(study_file, probes=[])
    first = cells_of(_resolved(without), tmp_path)
    _run(without, tmp_path, first)
    written = first[0].weights.stat().st_mtime_ns
    path = _study(study_file)
    resolved = _resolved(path)
    cells = cells_of(resolved, tmp_path)
    assert [cell.finished() for cell in cells] == [False, False]
    _run(path, tmp_path, cells)
    assert all(cell.finished() for cell in cells)
    assert cells[0].weights.stat().st_mtime_ns == written
    assert "2 finished already" in _run(path, tmp_path, cells)

    report = build_report(resolved, cells, resamples=20)
    _check(report, cells)


def _check(report: StudyReport, cells: list[Cell]) -> None:
    usual = report.arms[0].spreads["AP"].mean
    for probe in cells[0].probes:
        there = cells[0].result(probe)
        assert there is not None
        value = there[1].metrics["AP"].value
        assert value is not None
        ap, apart = report.arms[0].probes[probe.name]
        assert ap.mean == value
        assert apart.mean == pytest.approx(value - usual)
        assert apart.mean < 0
    text = markdown(report)
    assert "## Asked otherwise" in text
    row = next(line for line in text.splitlines() if line.startswith("| full |") and "(" in line)
    assert f"{100 * ap.mean:.1f} ({100 * apart.mean:+.1f})" in row
    assert "synonyms: Other words for the same." in text
    assert "## Beyond AP" in text
    assert report.arms[0].beyond["presence/auroc"].mean > 0.5


def test_a_run_that_was_asked_something_else_is_not_the_probes(study_file: Path, tmp_path: Path) -> None:
    path = _study(study_file)
    cells = cells_of(_resolved(path), tmp_path)
    _run(path, tmp_path, cells)
    other = [{**PROBES[0], "prompts": "synonyms-2"}, PROBES[1]]
    cells = cells_of(_resolved(_study(study_file, probes=other)), tmp_path)
    assert [cell.result(probe) is None for cell in cells[:1] for probe in cell.probes] == [True, False]


def test_the_command_says_what_is_asked(study_file: Path, tmp_path: Path) -> None:
    plan = study_file.with_name("mine.yaml")
    plan.write_text("name: mine\ndistractors: [kite]\n")
    path = _study(study_file, probes=[{"name": "more", "about": "More.", "prompts": "mine.yaml"}])
    resolved = _resolved(path)
    assert resolved.written.probes[0].prompts == "mine.yaml"
    cell = cells_of(resolved, tmp_path)[0]
    command = Commands(tmp_path).score(cell, cell.probes[0])
    assert command[command.index("--prompts") + 1] == str(plan.resolve())
    assert command[command.index("--vocabulary") + 1] == "full"
    assert command[command.index("--out") + 1].endswith("full/seed-0/probes/more")
    assert "--prompts" not in Commands(tmp_path).score(cell)


@pytest.mark.parametrize(
    ("probes", "reason"),
    [
        ([{"name": "same", "about": "The same."}], "asks the same as the study: give 'prompts' or 'vocabulary'"),
        ([PROBES[0], copy.deepcopy(PROBES[0])], "probe 'synonyms' occurs twice"),
        ([{**PROBES[0], "prompts": "nothing"}], "probe 'synonyms': no prompt plan 'nothing'"),
        ([{**PROBES[0], "vocabulary": "some"}], "vocabulary"),
        ([{**PROBES[0], "limit": 3}], "the keys are name, about, prompts, vocabulary"),
    ],
)
def test_bad_probes_are_one_line(probes: list[dict[str, Any]], reason: str, study_file: Path) -> None:
    with pytest.raises(DataError) as caught:
        _resolved(_study(study_file, probes=probes))
    assert reason in str(caught.value)
    assert "\n" not in str(caught.value)
