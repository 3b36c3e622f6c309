"""Manifest, records and predictions of a run on disk."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ovd_bench.benchmarks.data.files.atomic import file_sha256
from ovd_bench.benchmarks.data.files.predictions import write_predictions
from ovd_bench.benchmarks.store.folders import manifest_path
from ovd_bench.benchmarks.store.manifest import (
    RunFiles,
    RunManifest,
    cut,
    missing_shards,
    read_manifest,
    read_record,
    run_of,
    shard_bounds,
    write_document,
)
from ovd_bench.benchmarks.store.predictions import concatenate, no_predictions, read_run_predictions, run_sha256
from ovd_bench.metrics.errors import DataError
from ovd_bench.metrics.types import Predictions
from ovd_bench.tests.benchmarks.runner.toy import folder_of, make, make_data, request


@pytest.fixture
def run(tmp_path: Path) -> Path:
    return folder_of(make(request(make_data(tmp_path / "data", 12), tmp_path / "out", shards=3)))


def rewrite(folder: Path, shard: int, predictions: Predictions, **record: object) -> None:
    """Replace a shard by other predictions, with a record that fits them."""
    manifest = read_manifest(folder)
    files = RunFiles(folder, 3)
    old = read_record(folder, manifest, shard)
    assert old is not None
    write_predictions(files.arrow(shard), predictions)
    parts = {"arrow_sha256": file_sha256(files.arrow(shard)), "detections": len(predictions)} | record
    write_document(files.record(shard), old.model_copy(update=parts))


def test_shards_in_order(run: Path) -> None:
    whole = read_run_predictions(run)
    assert (np.diff(whole.image_id) >= 0).all()
    files = RunFiles(run, 3)
    assert run_sha256(run) == run_sha256(run)
    before = run_sha256(run)
    rewrite(run, 1, whole.take(np.arange(5)))
    assert read_run_predictions(run).image_id[16:21].tolist() == whole.image_id[:5].tolist()
    assert run_sha256(run) != before
    assert files.arrow(1).name == "shard-00001-of-00003.arrow"


def test_shards_without_rows(run: Path) -> None:
    whole = read_run_predictions(run)
    rewrite(run, 1, no_predictions())
    assert len(read_run_predictions(run)) < len(whole)
    for shard in (0, 2):
        rewrite(run, shard, no_predictions())
    nothing = read_run_predictions(run)
    assert len(nothing) == 0
    assert nothing.score.dtype == np.float32


def test_missing_and_changed_shards(run: Path) -> None:
    files, manifest = RunFiles(run, 3), read_manifest(run)
    arrow = files.arrow(2).read_bytes()
    files.arrow(2).write_bytes(arrow[:-1] + b"x")
    assert missing_shards(run, manifest, [0, 1, 2]) == [2]
    files.record(0).unlink()
    with pytest.raises(DataError, match=r"2 of 3 shards are missing or changed, shard-00000-of-00003\.arrow is"):
        read_run_predictions(run)


def test_a_record_that_lies(run: Path) -> None:
    rewrite(run, 0, read_run_predictions(run), detections=1)
    with pytest.raises(DataError, match="does not match its record"):
        read_run_predictions(run)


def test_a_record_of_another_recipe_does_not_count(run: Path) -> None:
    rewrite(run, 0, read_run_predictions(run), recipe_sha256="0" * 64)
    assert missing_shards(run, read_manifest(run), [0, 1, 2]) == [0]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "Invalid JSON"),
        ("{}", "schema: Field required"),
        ("[1]", "the document: Input should be an object"),
        (None, "cannot be read: No such file"),
    ],
)
def test_damaged_manifest(run: Path, text: str | None, message: str) -> None:
    manifest_path(run).unlink()
    if text is not None:
        manifest_path(run).write_text(text)
    with pytest.raises(DataError, match=message) as caught:
        read_manifest(run)
    assert "\n" not in str(caught.value)


def test_manifest_changed_by_hand(run: Path) -> None:
    manifest = read_manifest(run)
    for changed in (
        manifest.model_copy(update={"recipe": manifest.recipe.model_copy(update={"seed": 9})}),
        manifest.model_copy(update={"shards": manifest.shards[:2]}),
    ):
        write_document(manifest_path(run), changed)
        with pytest.raises(DataError, match="was changed by hand"):
            read_manifest(run)


def test_same_manifest_same_bytes(run: Path) -> None:
    before = manifest_path(run).read_bytes()
    write_document(manifest_path(run), read_manifest(run))
    assert manifest_path(run).read_bytes() == before
    assert isinstance(read_manifest(run), RunManifest)


def test_what_means_a_run(run: Path, tmp_path: Path) -> None:
    assert run_of(run) == run
    assert run_of(run / "result.json") == run
    assert run_of(tmp_path / "dets.json") is None
    with pytest.raises(DataError, match=r"the predictions of the run are not here \(predictions/manifest.json"):
        run_of(tmp_path)
    (tmp_path / "result.json").write_text("{}")
    with pytest.raises(DataError, match="the predictions of the run are not here"):
        run_of(tmp_path / "result.json")


@given(ids=st.sets(st.integers(-(2**62), 2**62), min_size=1, max_size=60), data=st.data())
def test_cut(ids: set[int], data: st.DataObject) -> None:
    """Every image is in one shard; shards follow each other and differ by one image at most."""
    image_ids = sorted(ids)
    shards = data.draw(st.integers(1, len(image_ids)))
    bounds, ranges = shard_bounds(len(image_ids), shards), cut(image_ids, shards)
    assert [position for begin, end in bounds for position in range(begin, end)] == list(range(len(image_ids)))
    sizes = {shard.images for shard in ranges}
    assert max(sizes) - min(sizes) <= 1
    assert min(sizes) >= 1
    assert [(image_ids[begin], image_ids[end - 1]) for begin, end in bounds] == [
        (shard.first_id, shard.last_id) for shard in ranges
    ]


def test_concatenate_keeps_types() -> None:
    one = Predictions.from_boxes([1, 2], [3, 4], np.array([0.5, 0.25], np.float32), [[0, 1, 2, 3]] * 2)
    both = concatenate([no_predictions(), one, one])
    assert both.image_id.tolist() == [1, 2, 1, 2]
    assert both.score.dtype == both.x.dtype == np.float32
