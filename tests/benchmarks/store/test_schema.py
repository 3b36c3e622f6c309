"""Result files: old ones stay readable, changed ones are refused."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ovd_bench.benchmarks.machine.environment import describe_environment, threads_allowed
from ovd_bench.benchmarks.store.schema import content_id, new_result, read_result, write_result
from ovd_bench.metrics.errors import DataError

#: Written by earlier states of the suite and never changed again: whatever becomes of the schema, these must load.
OLD = sorted(Path(__file__).with_name("results_v1").glob("*.json"))


@pytest.mark.parametrize("path", OLD, ids=lambda path: path.stem)
def test_old_results_load(path: Path, tmp_path: Path) -> None:
    result = read_result(path)
    assert result.schema_version == 1
    assert result.id == json.loads(path.read_text())["id"]
    write_result(tmp_path / "again.json", result)
    assert (tmp_path / "again.json").read_bytes() == path.read_bytes()


def test_there_are_old_results() -> None:
    assert {path.stem for path in OLD} >= {"whole", "partial", "bare"}


def change(document: dict[str, Any], where: str, value: object) -> None:
    *path, last = where.split(".")
    for key in path:
        document = document[key]
    document[last] = value


@pytest.mark.parametrize(
    ("where", "value", "message"),
    [
        ("metrics.AP.value", 0.999, "id does not fit the content"),
        ("schema", 2, "schema: Input should be 1"),
        ("surprise", 1, "surprise: Extra inputs are not permitted"),
        ("run.batch", -1, "run.batch: Input should be greater than or equal to 0"),
        ("run.batch", "4", "run.batch: Input should be a valid integer"),
        ("detector.name", "../up", "detector.name: String should match pattern"),
        ("detector.weights_sha256", "12", "detector.weights_sha256: String should match pattern"),
        ("speed", None, "speed: Input should be an object"),
    ],
)
def test_changed_results_are_refused(tmp_path: Path, where: str, value: object, message: str) -> None:
    document = json.loads(next(path for path in OLD if path.stem == "whole").read_text())
    change(document, where, value)
    path = tmp_path / "result.json"
    path.write_text(json.dumps(document))
    with pytest.raises(DataError, match=message) as caught:
        read_result(path)
    assert str(caught.value).startswith(f"{path}: ")
    assert "\n" not in str(caught.value)


def test_nan_is_refused() -> None:
    document = json.loads(OLD[0].read_text())
    parts = {key: value for key, value in document.items() if key not in ("schema", "id")}
    parts["metrics"]["AP"] = {"value": float("nan"), "ci95": None}
    with pytest.raises(ValueError, match="finite number"):
        new_result(**parts)


def test_id_is_of_the_content() -> None:
    document = json.loads(OLD[0].read_text())
    assert content_id(document) == document["id"]
    assert content_id(dict(reversed(document.items()))) == document["id"]
    change(document, "notes", ["another"])
    assert content_id(document) != document["id"]


def test_the_rule_of_intervals_is_recorded_from_now_on(tmp_path: Path) -> None:
    document = json.loads(OLD[0].read_text())
    assert "interval" not in document["run"]
    parts = {key: value for key, value in document.items() if key not in ("schema", "id")}
    parts["run"]["interval"] = "student"
    write_result(tmp_path / "result.json", new_result(**parts))
    assert read_result(tmp_path / "result.json").run.interval == "student"
    assert json.loads((tmp_path / "result.json").read_text())["run"]["interval"] == "student"


def test_times_of_calls_are_recorded_from_now_on(tmp_path: Path) -> None:
    document = json.loads(OLD[0].read_text())
    assert "warm" not in document["speed"]
    parts = {key: value for key, value in document.items() if key not in ("schema", "id")}
    warm = {"image_seconds": 0.5, "images": 7, "first_call_seconds": 9.0, "threads": 2, "alone": None, "reasons": ["?"]}
    parts["speed"]["warm"] = warm
    write_result(tmp_path / "result.json", new_result(**parts))
    read = read_result(tmp_path / "result.json").speed.warm
    assert read is not None
    assert read.model_dump() == json.loads((tmp_path / "result.json").read_text())["speed"]["warm"] == warm


def test_threads_follow_the_user(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    assert threads_allowed() == len(os.sched_getaffinity(0))
    for limit, threads in (("3", 3), ("5,2", 5), ("many", len(os.sched_getaffinity(0))), ("0", None)):
        monkeypatch.setenv("OMP_NUM_THREADS", limit)
        assert threads_allowed() == (threads or len(os.sched_getaffinity(0)))


def test_environment() -> None:
    env = describe_environment()
    assert env.git_commit is None or len(env.git_commit) == 40
    assert env.cores >= 1
    assert env.ram_bytes > 2**28
    assert env.packages["numpy"] == np.__version__
    assert env.cpu
