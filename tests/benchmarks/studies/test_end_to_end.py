"""A study of two real trainings on a toy: the commands of the suite, in processes of their own."""

from __future__ import annotations

from pathlib import Path

import pytest
import typer
import yaml
from typer.testing import CliRunner

from ovd_bench.benchmarks.cli.study import register
from ovd_bench.benchmarks.studies.cells import cells_of, training_facts
from ovd_bench.benchmarks.studies.definition import read_study
from ovd_bench.benchmarks.studies.report import build_report
from ovd_bench.benchmarks.studies.resolve import resolve
from ovd_bench.grounding_dino_jt.weights import read_weights
from ovd_bench.tests.benchmarks.training.toy_grounding import NAMES, toy_document, write_bert, write_config, write_toy


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
        "judge": "minilm",
        "speed": True,
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
    app = typer.Typer()
    register(app)
    ran = CliRunner().invoke(
        app, ["study", "run", str(path), "--out", str(tmp_path / "out"), "--data-root", str(tmp_path)]
    )
    assert ran.exit_code == 0, ran.output
    assert all(cell.finished() for cell in cells)
    assert training_facts(cells[0].weights)["recipe"]["seed"] == 3
    # "green" has no box: its name is not among the classes that the control knows
    assert read_weights(cells[1].weights)[1].text.classes == tuple(sorted(NAMES[:2]))
    report = build_report(resolved, cells, resamples=100)
    assert report.facts["finished"] == 2
    assert all(0 <= arm.beyond["srp/SRP_loc"].mean <= 1 for arm in report.arms)
    assert all(arm.speed and arm.speed.flops and arm.speed.flops.value > 10**6 for arm in report.arms)
    assert report.arms[1].effects["AP"].verdict == "not resolved"  # one seed
    assert report.arms[1].arm.differences == {
        "model.text_encoder": ("classes", str(toy / "bert")),
        "optimizer.rates.bert.": (1.0, 0.0),
    }
