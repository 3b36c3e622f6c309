"""Running a study: resuming, failing arms, and cells that no longer fit."""

from __future__ import annotations

import io
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import typer
import yaml
from rich.console import Console
from typer.testing import CliRunner

from ovd_bench.benchmarks.cli.study import register
from ovd_bench.benchmarks.studies.cells import Cell, cells_of, training_facts
from ovd_bench.benchmarks.studies.definition import read_study
from ovd_bench.benchmarks.studies.process import Commands
from ovd_bench.benchmarks.studies.resolve import resolve
from ovd_bench.benchmarks.studies.run import CellReport, StudyRun
from ovd_bench.metrics.errors import DataError
from ovd_bench.tests.benchmarks.studies.conftest import STUDY
from ovd_bench.tests.benchmarks.studies.fake_steps import FakeSteps, Quality, train

ROOT = Path(__file__).resolve().parents[3]


def _cells(study_file: Path, out: Path, *arms: str) -> list[Cell]:
    return cells_of(resolve(read_study(study_file), study_file), out, arms)


def _run(
    study_file: Path, out: Path, cells: list[Cell], *, parallel: int = 1, **quality: Quality
) -> tuple[list[CellReport], str]:
    screen = io.StringIO()
    steps = FakeSteps(study_file.parent / "bench" / "gt.json", {k.replace("_", "-"): v for k, v in quality.items()})
    run = StudyRun(out, study_file.read_bytes(), steps, Console(file=screen, width=200), parallel)
    return run.run(cells), screen.getvalue()


def test_a_study_is_finished_once_and_then_left_alone(study_file: Path, tmp_path: Path) -> None:
    cells = _cells(study_file, tmp_path, "full", "static")
    assert [cell.label for cell in cells] == ["full, seed 0", "static, seed 0", "full, seed 1", "static, seed 1"]
    cells = cells[:2]
    reports, said = _run(study_file, tmp_path, cells, parallel=2)
    assert [report.problem for report in reports] == [""] * 2
    assert all(cell.finished() for cell in cells)
    assert "2 cells, 0 finished already" in said
    assert "1 of 2, about 0:" in said
    assert (tmp_path / "study.yaml").read_bytes() == study_file.read_bytes()
    assert training_facts(cells[1].weights)["recipe"]["model"]["options"]["query_selection"] == "static"
    assert "training" in cells[0].log.read_text()
    written = cells[0].weights.stat().st_mtime_ns
    again, said = _run(study_file, tmp_path, cells)
    assert again == []
    assert "2 cells, 2 finished already" in said
    assert cells[0].weights.stat().st_mtime_ns == written


def test_an_arm_that_fails_hurts_no_other_and_is_tried_again(study_file: Path, tmp_path: Path) -> None:
    cells = _cells(study_file, tmp_path)[:3]
    reports, said = _run(study_file, tmp_path, cells, no_fusion="crash")
    failed = [report for report in reports if report.problem]
    assert [report.cell.label for report in failed] == ["no-fusion, seed 0"]
    assert failed[0].problem == "train: the loss is not a finite number"
    assert "no-fusion, seed 0: FAILED: train: the loss" in said
    assert [cell.finished() for cell in cells] == [True, False, True]
    reports, _ = _run(study_file, tmp_path, cells)
    assert [(report.cell.arm, report.problem) for report in reports] == [("no-fusion", "")]


def test_weights_that_are_there_are_only_scored(study_file: Path, tmp_path: Path) -> None:
    cells = _cells(study_file, tmp_path, "full")[:1]
    _run(study_file, tmp_path, cells)
    found = cells[0].result()
    assert found is not None
    shutil.rmtree(found[0])
    reports, _ = _run(study_file, tmp_path, cells)
    assert reports[0].train_seconds == 0
    assert reports[0].score_seconds > 0
    # other weights than those that were scored: the result is not theirs
    cells[0].weights.write_bytes(cells[0].weights.read_bytes() + b" ")
    assert not cells[0].finished()


def test_a_changed_configuration_is_refused_with_what_to_do(study_file: Path, tmp_path: Path) -> None:
    _cells(study_file, tmp_path)[0].begin()
    study_file.write_text(yaml.safe_dump(STUDY | {"shared": {"steps": 13}}))
    cells = _cells(study_file, tmp_path)
    with pytest.raises(DataError, match=r"seed-0: was trained with steps 12, the study has 13: remove the folder"):
        _run(study_file, tmp_path, cells)
    assert not (tmp_path / "static").exists()


def test_weights_of_another_configuration_are_refused(study_file: Path, tmp_path: Path) -> None:
    cells = _cells(study_file, tmp_path, "full", "static")[:2]
    for cell in cells:
        cell.begin()
        train(cell.folder, "")
    cells[0].weights.write_bytes(cells[1].weights.read_bytes())
    with pytest.raises(DataError, match="made with another configuration"):
        cells[0].finished()
    cells[0].weights.write_bytes(b"no weights at all")
    with pytest.raises(DataError, match="is not a weights file"):
        cells[0].finished()


def test_unknown_arms_and_seeds_are_named(study_file: Path, tmp_path: Path) -> None:
    resolved = resolve(read_study(study_file), study_file)
    with pytest.raises(DataError, match="has no arm 'none': choose from full, no-fusion, static"):
        cells_of(resolved, tmp_path, ["none"])
    with pytest.raises(DataError, match="has no seed 5: its seeds are 0, 1"):
        cells_of(resolved, tmp_path, [], [0, 5])


_STUDY_IN_A_PROCESS = """
import sys
from pathlib import Path
from rich.console import Console
from ovd_bench.benchmarks.studies.cells import cells_of
from ovd_bench.benchmarks.studies.definition import read_study
from ovd_bench.benchmarks.studies.resolve import resolve
from ovd_bench.benchmarks.studies.run import StudyRun
from ovd_bench.tests.benchmarks.studies.fake_steps import FakeSteps

study, out = Path(sys.argv[1]), Path(sys.argv[2])
steps = FakeSteps(study.parent / "bench" / "gt.json", {"no-fusion": "hang"})
cells = cells_of(resolve(read_study(study), study), out)[:3]
StudyRun(out, study.read_bytes(), steps, Console(stderr=True)).run(cells)
"""


def test_a_killed_study_takes_its_training_along_and_resumes(study_file: Path, tmp_path: Path) -> None:
    process = subprocess.Popen([sys.executable, "-c", _STUDY_IN_A_PROCESS, study_file, tmp_path], cwd=ROOT)
    cells = _cells(study_file, tmp_path)[:3]
    hanging = cells[1]
    deadline = time.monotonic() + 60
    while not (hanging.log.exists() and "training" in hanging.log.read_text()):
        assert time.monotonic() < deadline
        time.sleep(0.05)
    assert _processes_of(hanging.folder)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    while _processes_of(hanging.folder):
        assert time.monotonic() < deadline
        time.sleep(0.05)
    assert cells[0].finished()
    assert not hanging.finished()
    reports, said = _run(study_file, tmp_path, cells)
    assert "3 cells, 1 finished already" in said
    assert [report.problem for report in reports] == [""] * 2


def _processes_of(folder: Path) -> list[int]:
    """Processes with the folder in their command line."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                command = (entry / "cmdline").read_bytes()
            except OSError:
                continue
            if str(folder).encode() in command.split(b"\0"):
                found.append(int(entry.name))
    return found


def test_the_command_lists_what_failed(study_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    steps = FakeSteps(study_file.parent / "bench" / "gt.json", {"full": "crash"})
    monkeypatch.setattr("ovd_bench.benchmarks.studies.process.Commands", lambda *_: steps)
    app = typer.Typer()
    register(app)
    arguments = ["study", "run", str(study_file), "--out", str(tmp_path), "--arms", "full", "--seeds", "1"]
    outcome = CliRunner().invoke(app, [*arguments, "--data-root", str(tmp_path)])
    assert outcome.exit_code == 3
    assert "1 of 1 cells failed; the same command tries them again:" in outcome.stderr
    assert "full, seed 1: train: the loss is not a finite number (see " in outcome.stderr
    assert not (tmp_path / "full" / "seed-0").exists()


def test_command_lines_are_the_suites_own(study_file: Path, tmp_path: Path) -> None:
    cell = _cells(study_file, tmp_path)[1]
    commands = Commands(tmp_path, threads=2)
    train_command, score_command = (" ".join(command) for command in (commands.train(cell), commands.score(cell)))
    folder = tmp_path / "no-fusion" / "seed-0"
    assert f"bench train {folder}/config.yaml --out {folder} --resume --threads 2" in train_command
    assert f"bench run -d grounding-dino-nano -b {study_file.parent}/bench/gt.json" in score_command
    assert f"--weights {folder}/weights.safetensors --out {folder}/results" in score_command
