"""A manifest that was changed by hand is refused: what a row shows is bound to what the predictions were made with."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from ovd_bench.benchmarks.scoring.score import ScoreRequest, score
from ovd_bench.benchmarks.store.folders import manifest_path
from ovd_bench.benchmarks.store.manifest import read_manifest
from ovd_bench.metrics.errors import DataError
from ovd_bench.tests.benchmarks.runner.toy import failures, folder_of, make, make_data, request

Json = dict[str, Any]


@pytest.fixture(scope="module")
def gt(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_data(tmp_path_factory.mktemp("data"), 6)


def _made(gt: Path, out: Path, **parts: Any) -> Path:
    events = make(request(gt, out, **parts))
    assert failures(events) == []
    return folder_of(events)


def _change(folder: Path, change: Callable[[Json], Any], *, keep_hash: bool) -> None:
    """Change the manifest; without the hash of its content it is one of before that was kept."""
    path = manifest_path(folder)
    content = json.loads(path.read_text())
    if not keep_hash:
        del content["content_sha256"]
    change(content)
    path.write_text(json.dumps(content))


BOUND: dict[str, tuple[Callable[[Json], Any], str]] = {
    "kind of AP": (lambda m: m["protocol"].update(name="coco"), "protocol"),
    "hash of the protocol": (lambda m: m["protocol"].update(sha256="0" * 64), "protocol"),
    "template": (lambda m: m["protocol"]["plan"].update(templates=["a {}"]), "protocol"),
    "cleaning": (lambda m: m["protocol"]["plan"].update(cleaning="none"), "protocol"),
    "top k": (lambda m: m["protocol"].update(top_k=10_000), "protocol"),
    "vocabulary": (lambda m: m["protocol"].update(vocabulary="present"), "protocol"),
    "detector": (lambda m: m["detector"].update(name="another"), "detector"),
    "weights": (lambda m: m["detector"].update(weights_sha256="0" * 64), "detector"),
    "annotations": (lambda m: m["benchmark"].update(annotations_sha256="0" * 64), "benchmark"),
    "images": (lambda m: m.update(image_ids=[3]), "image_ids"),
    "seed": (lambda m: m["recipe"].update(seed=7), "recipe"),
}
SHOWN: dict[str, Callable[[Json], Any]] = {
    "licence": lambda m: m["detector"].update(licence="MIT"),
    "parameters": lambda m: m["detector"].update(parameters=1),
    "training data": lambda m: m["detector"].update(training_data=[]),
    "name of the benchmark": lambda m: m["benchmark"].update(name="other"),
}


@pytest.mark.parametrize("name", BOUND)
def test_what_predictions_depend_on(gt: Path, tmp_path: Path, name: str) -> None:
    change, what = BOUND[name]
    folder = _made(gt, tmp_path)
    _change(folder, change, keep_hash=False)
    with pytest.raises(DataError, match=rf"manifest\.json: {what} was changed by hand"):
        read_manifest(folder)


@pytest.mark.parametrize("name", SHOWN)
def test_what_a_row_shows_besides(gt: Path, tmp_path: Path, name: str) -> None:
    folder = _made(gt, tmp_path)
    _change(folder, SHOWN[name], keep_hash=True)
    with pytest.raises(DataError, match=r"manifest\.json: the content was changed by hand"):
        read_manifest(folder)


def test_a_part_that_is_called_the_whole(gt: Path, tmp_path: Path) -> None:
    folder = _made(gt, tmp_path, limit=3)
    score(ScoreRequest(folder, gt, "lvis"))
    _change(folder, lambda m: m.update(image_ids=None), keep_hash=False)
    with pytest.raises(DataError, match="made on other images"):
        score(ScoreRequest(folder, gt, "lvis"))


def test_manifests_of_before_the_hash_was_kept_are_read(gt: Path, tmp_path: Path) -> None:
    folder = _made(gt, tmp_path)
    before = read_manifest(folder)
    _change(folder, lambda m: None, keep_hash=False)
    assert read_manifest(folder).recipe == before.recipe
