"""What a study measures beside AP: names judged by meaning, and speed."""

from __future__ import annotations

import copy
import io
import shutil
import sys
from pathlib import Path

import numpy as np
import pytest
import yaml
from PIL import Image
from rich.console import Console

from ovd_bench.benchmarks.runner.locks import held
from ovd_bench.benchmarks.scoring.text_judge import save_similarity
from ovd_bench.benchmarks.studies.cells import JUDGE, Cell, cells_of, stored_numbers
from ovd_bench.benchmarks.studies.definition import read_study
from ovd_bench.benchmarks.studies.figure import write_further_figure
from ovd_bench.benchmarks.studies.process import Commands
from ovd_bench.benchmarks.studies.report import SEMANTIC, build_report
from ovd_bench.benchmarks.studies.resolve import ResolvedStudy, resolve
from ovd_bench.benchmarks.studies.run import CellReport, StudyRun
from ovd_bench.benchmarks.studies.tables import markdown
from ovd_bench.metrics.errors import DataError
from ovd_bench.metrics.semantic import SimilarityMatrix
from ovd_bench.tests.benchmarks.board.made_runs import NAMES
from ovd_bench.tests.benchmarks.studies.conftest import STUDY
from ovd_bench.tests.benchmarks.studies.fake_steps import FakeSteps

PROBE = {"name": "present", "about": "Only what is there.", "vocabulary": "present"}


def _resolved(study_file: Path, **changes: object) -> ResolvedStudy:
    document = copy.deepcopy(STUDY) | {"arms": STUDY["arms"][:2]} | changes
    path = study_file.with_name("further.yaml")
    path.write_text(yaml.safe_dump(document))
    return resolve(read_study(path), path)


def _run(study_file: Path, out: Path, cells: list[Cell], **quality: float | str) -> tuple[list[CellReport], str]:
    screen = io.StringIO()
    steps = FakeSteps(study_file.parent / "bench" / "gt.json", {k.replace("_", "-"): v for k, v in quality.items()})
    return StudyRun(out, b"", steps, Console(file=screen, width=200), 2).run(cells), screen.getvalue()


def _write_judge(out: Path) -> None:
    out.mkdir(exist_ok=True)
    matrix = np.full((len(NAMES), len(NAMES)), 0.25, np.float32)
    np.fill_diagonal(matrix, 1.0)
    save_similarity(out / JUDGE, SimilarityMatrix(NAMES, matrix, "toy", "0" * 64, "{}"))


def test_results_without_judgement_are_scored_again(study_file: Path, tmp_path: Path) -> None:
    """A study that gets a judge later does not train again."""
    before = cells_of(_resolved(study_file, seeds=[0]), tmp_path)
    _run(study_file, tmp_path, before)
    assert all(cell.finished() for cell in before)
    written = before[0].weights.stat().st_mtime_ns
    resolved = _resolved(study_file, seeds=[0], judge="minilm")
    cells = cells_of(resolved, tmp_path)
    assert not any(cell.finished() for cell in cells)
    _write_judge(tmp_path)
    _run(study_file, tmp_path, cells)
    assert all(cell.finished() for cell in cells)
    assert cells[0].weights.stat().st_mtime_ns == written

    report = build_report(resolved, cells, resamples=20)
    there = cells[1].result()
    assert there is not None
    for name in SEMANTIC:
        assert report.arms[1].beyond[name].mean == there[1].metrics[name].value
    text = markdown(report)
    assert "## Names of what was found" in text
    row = f"| no-fusion | {100 * report.arms[1].beyond['srp/SRP'].mean:.1f} |"
    assert row in text[text.index("## Names of what was found") :]


def test_speed_is_measured_once_per_arm_and_last(study_file: Path, tmp_path: Path) -> None:
    resolved = _resolved(study_file, speed=True)
    cells = cells_of(resolved, tmp_path)
    assert [cell.timed for cell in cells] == [True, True, False, False]
    reports, said = _run(study_file, tmp_path, cells)
    assert [report.problem for report in reports] == [""] * 4
    assert said.splitlines()[-2:] == ["full, seed 0: speed measured", "no-fusion, seed 0: speed measured"]
    assert [cell.speed() is not None for cell in cells] == [True, True, False, False]
    assert "speed measured" not in _run(study_file, tmp_path, cells)[1]

    report = build_report(resolved, cells, resamples=20)
    text = markdown(report)
    speed = report.arms[1].speed
    assert speed is not None
    assert speed.batches[0].timing is not None
    row = next(line for line in text[text.index("## Cost") :].splitlines() if line.startswith("| no-fusion |"))
    assert row.startswith(f"| no-fusion | 0 | 2.50 | {speed.batches[0].timing.p50_ms:.1f} |")
    assert "no-fusion: all of it" in text
    document = report.as_json()["arms"][1]["speed"]
    assert document["flops"]["value"] == 2_500_000_000
    assert document["detector"]["weights"] == "no-fusion/seed-0/weights.safetensors"

    cells[0].weights.write_bytes(cells[1].weights.read_bytes() + b" ")  # another training
    assert cells[0].speed() is None


def test_a_cell_that_failed_is_not_timed_and_a_failure_to_time_is_told(study_file: Path, tmp_path: Path) -> None:
    cells = cells_of(_resolved(study_file, seeds=[0], speed=True), tmp_path)
    reports, said = _run(study_file, tmp_path, cells, full="crash")
    assert sorted(report.problem for report in reports) == ["", "train: the loss is not a finite number"]
    assert "full, seed 0: speed measured" not in said

    class Broken(FakeSteps):
        def speed(self, cell: Cell) -> list[str]:
            return [sys.executable, "-c", "print('error: no such detector'); raise SystemExit(1)"]

    (tmp_path / "no-fusion" / "seed-0" / "speed.json").unlink()
    screen = io.StringIO()
    steps = Broken(study_file.parent / "bench" / "gt.json")
    reports = StudyRun(tmp_path, b"", steps, Console(file=screen, width=200)).run(cells[1:])
    assert [report.problem for report in reports] == ["speed: no such detector"]
    assert "no-fusion, seed 0: FAILED: speed: no such detector" in screen.getvalue()

    with held(cells[1].folder / ".lock", "the cell", patience=1.0):  # another command
        reports, _ = _run(study_file, tmp_path, cells[1:])
    assert len(reports) == 1
    assert "the cell is in use by" in reports[0].problem
    cells[1].speed_file.write_text("[]")
    reports, _ = _run(study_file, tmp_path, cells[1:])
    assert len(reports) == 1
    assert reports[0].problem.startswith(f"speed: {cells[1].speed_file}: ")


def test_commands_have_the_judge_where_it_judges(study_file: Path, tmp_path: Path) -> None:
    resolved = _resolved(study_file, judge="minilm", speed=True, probes=[PROBE])
    cell = cells_of(resolved, tmp_path)[0]
    usual = Commands(tmp_path).score(cell)
    assert usual[usual.index("--judge") + 1] == str(tmp_path / JUDGE)
    assert "--judge" not in Commands(tmp_path).score(cell, cell.probes[0])
    speed = Commands(tmp_path).speed(cell)
    assert speed[speed.index("--weights") + 1] == str(cell.weights)
    assert speed[speed.index("--out") + 1] == str(cell.speed_file)


def test_a_folder_beside_the_study_is_found_as_judge(study_file: Path) -> None:
    folder = study_file.with_name("encoder")
    folder.mkdir(exist_ok=True)
    assert _resolved(study_file, judge="encoder").study.judge == str(folder)
    shutil.rmtree(folder)


def test_the_second_picture_has_what_is_there(study_file: Path, tmp_path: Path) -> None:
    resolved = _resolved(study_file, seeds=[0], speed=True, probes=[PROBE])
    cells = cells_of(resolved, tmp_path)
    _run(study_file, tmp_path, cells)
    sizes = []
    for name, one in (("three", resolved), ("two", _resolved(study_file, seeds=[0], probes=[PROBE]))):
        report = build_report(one, cells_of(one, tmp_path), resamples=20)
        path = tmp_path / f"{name}.png"
        assert write_further_figure(path, report)
        with Image.open(path) as image:
            sizes.append(image.width)
    assert sizes[0] * 2 == sizes[1] * 3


def test_numbers_of_a_weights_file(tmp_path: Path) -> None:
    path = tmp_path / "weights.safetensors"
    for header, numbers in ((b'{"a": {"shape": [2, 3]}, "b": {"shape": []}, "__metadata__": {}}', 7), (b"{}", 0)):
        path.write_bytes(len(header).to_bytes(8, "little") + header)
        assert stored_numbers(path) == numbers
    for header in (b'{"a": {}}', b"[]", b'{"a": 3}', b"no JSON", b'{"__metadata__": []}', b"[" * 10**6):
        path.write_bytes(len(header).to_bytes(8, "little") + header)
        with pytest.raises(DataError, match="is not a weights file"):
            stored_numbers(path)
