"""A study of two real trainings on a toy: the commands of the suite, in processes of their own."""

from __future__ import annotations

import io
from pathlib import Path

import pytest
import yaml
from rich.console import Console

from benchmarks.studies.cells import cells_of, training_facts
from benchmarks.studies.definition import read_study
from benchmarks.studies.process import Commands
from benchmarks.studies.report import build_report
from benchmarks.studies.resolve import resolve
from benchmarks.studies.run import StudyRun
from grounding_dino_jt.weights import read_weights
from tests.benchmarks.training.toy_grounding import NAMES, toy_document, write_bert, write_config, write_toy


@pytest.mark.full
def test_two_arms_are_trained_scored_and_reported(tmp_path: Path) -> None:
    toy = write_toy(tmp_path / "toy")
    write_bert(toy / "bert")
    write_config(tmp_path / "base.yaml", toy_document(toy))
    document = {
        "name": "toy",
        "question": "Does anything break?",
        "base": "base.yaml",
        "shared": {"steps": 4},
        "benchmark": "toy/lvis.json",
        "reference": "full",
        "seeds": [3],
        "arms": [
            {"name": "full", "about": "All of it."},
            {
                "name": "closed-set",
                "about": "Vectors of classes.",
                "changes": {"model.text_encoder": "classes", "optimizer.rates.bert.": 1.0},
            },
        ],
    }
    path = tmp_path / "study.yaml"
    path.write_text(yaml.safe_dump(document))
    resolved = resolve(read_study(path), path)
    cells = cells_of(resolved, tmp_path / "out")
    screen = io.StringIO()
    commands = Commands(tmp_path)
    reports = StudyRun(tmp_path / "out", path.read_bytes(), commands, Console(file=screen)).run(cells)
    assert [report.problem for report in reports] == ["", ""], screen.getvalue()
    assert all(cell.finished() for cell in cells)
    assert training_facts(cells[0].weights)["recipe"]["seed"] == 3
    # "green" has no box: its name is not among the classes that the control knows
    assert read_weights(cells[1].weights)[1].text.classes == tuple(sorted(NAMES[:2]))
    report = build_report(resolved, cells, resamples=100)
    assert report.facts["finished"] == 2
    assert report.arms[1].effects["AP"].verdict == "not resolved"  # one seed
    assert report.arms[1].arm.differences == {
        "model.text_encoder": ("classes", str(toy / "bert")),
        "optimizer.rates.bert.": (1.0, 0.0),
    }
