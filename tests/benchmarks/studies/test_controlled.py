"""Controlled studies: what must be equal is checked twice, and an altered arm is named."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from ovd_bench.benchmarks.data.catalog.benchmark import Benchmark
from ovd_bench.benchmarks.studies.cells import Cell, cells_of
from ovd_bench.benchmarks.studies.controlled import PROOF, seed_manifests
from ovd_bench.benchmarks.studies.definition import find_study, read_study
from ovd_bench.benchmarks.studies.report import StudyReport, build_report
from ovd_bench.benchmarks.studies.resolve import ResolvedStudy, resolve
from ovd_bench.benchmarks.studies.tables import markdown
from ovd_bench.benchmarks.training.registry import find_trainer
from ovd_bench.metrics.errors import DataError
from ovd_bench.tests.benchmarks.studies.conftest import BASE, STUDY
from ovd_bench.tests.benchmarks.studies.fake_steps import score, train

SAME = {
    **{"backbone_sha256": "b" * 64, "text_sha256": "c" * 64, "data_sha256": "d" * 64, "steps": 12, "samples": 24},
    **{"phrase_frame": "framed", "text_mean_of_sha256": "e" * 64},
}


def _written(study_file: Path, **changes: Any) -> Path:
    document = copy.deepcopy(STUDY) | {"controlled": True, "seeds": [0]} | changes
    path = study_file.with_name("controlled.yaml")
    path.write_text(yaml.safe_dump(document))
    return path


def _finish(cell: Cell, benchmark: Benchmark, facts: dict[str, Any]) -> None:
    """A made training that wrote ``facts`` down."""
    cell.begin()
    train(cell.folder, "")
    content = cell.weights.read_bytes()
    header = json.loads(content[8:])
    header["__metadata__"]["training"] = json.dumps(json.loads(header["__metadata__"]["training"]) | facts)
    text = json.dumps(header).encode()
    cell.weights.write_bytes(len(text).to_bytes(8, "little") + text)
    score(cell.folder, 0.1, cell.seed, benchmark.annotations)


def _report(
    study_file: Path, benchmark: Benchmark, out: Path, altered: dict[str, dict[str, Any]] | None = None
) -> tuple[ResolvedStudy, StudyReport]:
    path = _written(study_file)
    resolved = resolve(read_study(path), path)
    cells = cells_of(resolved, out)
    for cell in cells:
        _finish(cell, benchmark, SAME | (altered or {}).get(cell.arm, {}))
    return resolved, build_report(resolved, cells, resamples=20)


def test_arms_that_share_everything_are_controlled(study_file: Path, benchmark_: Benchmark, tmp_path: Path) -> None:
    _, report = _report(study_file, benchmark_, tmp_path)
    assert report.controlled
    assert report.as_json()["controlled"] is True
    text = markdown(report)
    assert "· controlled" in text
    assert "NOT CONTROLLED" not in text
    assert text.count("| yes |") == len(PROOF)
    assert "bbbbbbbb" in text


@pytest.mark.parametrize("key", PROOF)
def test_an_altered_arm_is_named_with_what_differs(
    key: str, study_file: Path, benchmark_: Benchmark, tmp_path: Path
) -> None:
    value: Any = "0" * 64 if isinstance(SAME[key], str) else 11
    _, report = _report(study_file, benchmark_, tmp_path, {"static": {key: value}})
    assert not report.controlled
    text = markdown(report)
    assert f"NOT CONTROLLED: static, seed 0: {key} ({PROOF[key]})" in text
    assert "no-fusion, seed 0" not in text
    assert "· controlled" not in text
    assert text.count("| yes |") == len(PROOF) - 1


def test_a_training_that_does_not_say_proves_nothing() -> None:
    facts = {("a", 0): SAME, ("b", 0): {**SAME, "data_sha256": None}, ("a", 1): SAME, ("b", 1): SAME}
    first, second = seed_manifests(facts, "a")
    assert first.lines == [f"b, seed 0: its weights do not say data_sha256 ({PROOF['data_sha256']})"]
    assert second.lines == []
    nobody = seed_manifests({("a", 0): {}, ("b", 0): {}}, "a")  # equal, and empty
    assert len(nobody[0].lines) == 2 * len(PROOF)


def test_a_study_that_does_not_ask_is_not_called_controlled(
    study_file: Path, benchmark_: Benchmark, tmp_path: Path
) -> None:
    path = _written(study_file, controlled=False)
    resolved = resolve(read_study(path), path)
    cells = cells_of(resolved, tmp_path)
    for cell in cells:
        _finish(cell, benchmark_, SAME)
    report = build_report(resolved, cells, resamples=20)
    assert (report.controlled, report.manifests) == (False, None)
    assert "Manifest" not in markdown(report)


@pytest.mark.parametrize(
    ("changes", "key"),
    [
        ({"batch": 4}, "batch"),
        ({"steps": 13}, "steps"),
        ({"data.num_negatives": 3}, "data.num_negatives"),
        ({"model.options.backbone.embed_dim": 64}, "model.options.backbone.embed_dim"),
        ({"model.text_encoder": "classes", "optimizer.rates.bert.": 1.0}, "model.text_encoder"),
    ],
)
def test_unequal_configurations_are_refused_before_anything_is_trained(
    changes: dict[str, Any], key: str, study_file: Path
) -> None:
    document = copy.deepcopy(STUDY)
    document["arms"][2]["changes"] = changes
    path = _written(study_file, arms=document["arms"])
    with pytest.raises(DataError, match=rf"is not controlled: {key} is .* in arm 'static' and .* in 'full'"):
        resolve(read_study(path), path)


def test_arms_may_have_bases_of_their_own(study_file: Path) -> None:
    other = copy.deepcopy(BASE)
    other["optimizer"] = {"lr": 0.5}
    (study_file.parent / "other.yaml").write_text(yaml.safe_dump(other))
    arms = copy.deepcopy(STUDY["arms"])
    arms[1] = {"name": "no-fusion", "about": "Another trainer's.", "base": "other.yaml"}
    path = _written(study_file, arms=arms)
    resolved = resolve(read_study(path), path)
    assert resolved.arms[1].differences == {"optimizer.lr": (0.5, 1e-4)}
    assert {one.config.resolved()["steps"] for one in resolved.arms} == {12}
    document = yaml.safe_load(path.read_text())
    del document["base"]
    path.write_text(yaml.safe_dump(document))
    with pytest.raises(DataError, match="arm 'full' has no base, and the study has none: give one"):
        read_study(path)


def test_of_another_trainer_only_what_both_have_is_told(study_file: Path) -> None:
    arms = copy.deepcopy(STUDY["arms"][:2])
    arms[1] = {"name": "other", "about": "Another design.", "base": "contestant-owl", "changes": {"steps": 9}}
    path = _written(study_file, arms=arms, controlled=False, shared={})
    resolved = resolve(read_study(path), path)
    told = resolved.arms[1].differences
    assert told["trainer"] == ("contestant", "grounding-dino")
    assert told["steps"] == (9, 8)
    assert "model.kind" not in told
    assert resolved.bases == "base.yaml, contestant-owl"


def test_the_shipped_controlled_study_is_one() -> None:
    """Its arms agree in all that they have to share; else this raises."""
    path = find_study("controlled")
    resolved = resolve(read_study(path), path)
    assert resolved.study.controlled
    assert {one.arm.name for one in resolved.arms} == {"grounding-dino", "glip", "owl", "clip-region"}
    assert len(resolved.study.seeds) >= 3
    detectors = {one.arm.name: find_trainer(one.config.trainer).detector for one in resolved.arms}
    assert detectors == {
        "grounding-dino": "grounding-dino-nano",
        **dict.fromkeys(("glip", "owl", "clip-region"), "contestant"),
    }
