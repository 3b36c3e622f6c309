"""Shards of a run: what is made, what is resumed, what is refused. No process is started."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ovd_bench.benchmarks.data.files.annotations import read_ground_truth
from ovd_bench.benchmarks.data.images import image_paths
from ovd_bench.benchmarks.runner.events import Fault, Halved, Images, Loaded, ShardFailed
from ovd_bench.benchmarks.runner.image_subset import RunImages
from ovd_bench.benchmarks.runner.locks import LOCKS, held
from ovd_bench.benchmarks.store.folders import PREDICTIONS
from ovd_bench.benchmarks.store.manifest import read_manifest, read_records
from ovd_bench.benchmarks.store.predictions import read_run_predictions
from ovd_bench.tests.benchmarks.runner.toy import artefacts, failures, folder_of, make, make_data, request

IMAGES = 30


@pytest.fixture(scope="module")
def gt(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_data(tmp_path_factory.mktemp("data"), IMAGES)


def test_the_number_of_shards_changes_nothing_but_the_cut(gt: Path, tmp_path: Path) -> None:
    runs = []
    for shards in (1, 4, IMAGES):
        events = make(request(gt, tmp_path / str(shards), shards=shards, batch=2))
        assert failures(events) == []
        assert sum(event.count for event in events if isinstance(event, Images)) == IMAGES
        folder = folder_of(events)
        manifest = read_manifest(folder)
        assert sum(shard.images for shard in manifest.shards) == IMAGES
        runs.append(read_run_predictions(folder))
    ids = read_ground_truth(gt).image_ids
    assert list(dict.fromkeys(runs[0].image_id.tolist())) == ids.tolist()
    for run in runs[1:]:
        for name in ("image_id", "category_id", "score", "x", "y", "w", "h"):
            np.testing.assert_array_equal(getattr(run, name), getattr(runs[0], name))


def test_shards_one_by_one_are_the_run(gt: Path, tmp_path: Path) -> None:
    whole = folder_of(make(request(gt, tmp_path / "a", shards=5)))
    for shard in (3, 0, 4, 2, 1, 3):
        single = make(request(gt, tmp_path / "b", shards=5), [shard])
        assert failures(single) == []
    assert artefacts(folder_of(single)) == artefacts(whole)


def test_what_is_there_stays_and_what_is_damaged_is_made_again(gt: Path, tmp_path: Path) -> None:
    asked = request(gt, tmp_path, shards=5)
    folder = folder_of(make(asked))
    before, records = artefacts(folder), read_records(folder, read_manifest(folder))
    predictions = folder / PREDICTIONS
    (predictions / "shard-00001-of-00005.arrow").write_bytes(b"cut off")
    (predictions / "shard-00002-of-00005.json").unlink()
    (predictions / "shard-00003-of-00005.json").write_text("{")
    (predictions / ".shard-00003-of-00005.arrow.77-abcd.tmp").write_bytes(b"left behind")
    events = make(asked)
    loaded = next(event for event in events if isinstance(event, Loaded))
    assert loaded.missing == [1, 2, 3]
    assert loaded.images_done == 12
    assert artefacts(folder) == before
    again = read_records(folder, read_manifest(folder))
    assert [a == b for a, b in zip(records, again, strict=True)] == [True, False, False, False, True]
    assert not list(predictions.glob("*.tmp")) + list(predictions.glob(".*.tmp"))


@pytest.mark.parametrize(("mode", "notes"), [("full", ["plain", "4 classes"]), ("present", ["plain"])])
def test_what_a_detector_notes_on_the_vocabulary_is_in_the_manifest(
    mode: Any, notes: list[str], gt: Path, tmp_path: Path
) -> None:
    """Where images are asked for classes of their own, there is no one vocabulary to speak of."""
    folder = folder_of(make(request(gt, tmp_path, "Noting", vocabulary=mode)))
    assert read_manifest(folder).detector.notes == notes


def test_names_that_are_alike_to_the_model_are_told(gt: Path, tmp_path: Path) -> None:
    folder = folder_of(make(request(gt, tmp_path, "Blurred")))
    (note,) = read_manifest(folder).detector.notes
    assert note.startswith(
        "warning: 6 pairs of class names are nearly the same to the text encoder (cosine above 0.99)"
    )


OTHERWISE: dict[str, tuple[dict[str, Any], str]] = {
    "batch": ({"batch": 3}, "batch 2, not 3"),
    "seed": ({"seed": 1}, "seed 0, not 1"),
    "chunk_batch": ({"chunk_batch": 4}, "chunk_batch None, not 4"),
    "dtype": ({"dtype": "float16"}, "dtype float32, not float16"),
    "shards": ({"shards": 4}, "shards 3, not 4"),
    "device": ({"device": "cuda"}, "device cpu, not cuda"),
}


@pytest.mark.parametrize("name", OTHERWISE)
def test_shards_made_otherwise_are_not_mixed(gt: Path, tmp_path: Path, name: str) -> None:
    parts, message = OTHERWISE[name]
    asked: dict[str, Any] = {"shards": 3, "batch": 2}
    folder = folder_of(make(request(gt, tmp_path, **asked)))
    before = artefacts(folder)
    for shards in (None, [1]):
        (reason,) = failures(make(request(gt, tmp_path, **asked | parts), shards))
        assert message in reason
        assert "--overwrite always" in reason
    assert artefacts(folder) == before
    (reason,) = failures(make(request(gt, tmp_path, **asked | parts, overwrite="always"), [1]))
    assert message in reason  # one shard cannot be made with other settings than the others
    assert failures(make(request(gt, tmp_path, **asked | parts, overwrite="always"))) == []
    assert read_manifest(folder).recipe != json.loads(before["manifest.json"])["recipe"]


def test_number_of_shards_is_taken_from_the_run_that_is_there(gt: Path, tmp_path: Path) -> None:
    make(request(gt, tmp_path, shards=3), [0])
    events = make(request(gt, tmp_path))
    assert failures(events) == []
    assert len(read_manifest(folder_of(events)).shards) == 3


def test_another_source_file_is_another_run(gt: Path, tmp_path: Path) -> None:
    """A detector without weights is what its file says."""
    mine = tmp_path / "mine.py"
    mine.write_text("from ovd_bench.tests.benchmarks.runner.toy_detectors import Plain\n")
    asked = request(gt, tmp_path / "out").model_copy(update={"detector": f"{mine}:Plain"})
    first = folder_of(make(asked))
    mine.write_text("from ovd_bench.tests.benchmarks.runner.toy_detectors import Plain  # changed\n")
    assert folder_of(make(asked)) != first


def test_overwrite_never_leaves_a_scored_run(gt: Path, tmp_path: Path) -> None:
    folder = folder_of(make(request(gt, tmp_path, shards=2)))
    (folder / "result.json").write_text("scored")
    (folder / PREDICTIONS / "shard-00000-of-00002.arrow").unlink()
    loaded, _ = make(request(gt, tmp_path, shards=2, overwrite="never"))
    assert isinstance(loaded, Loaded)
    assert loaded.kept
    make(request(gt, tmp_path, shards=2, overwrite="always"))
    assert not (folder / "result.json").exists()


def test_a_part_of_the_images_lies_elsewhere(gt: Path, tmp_path: Path) -> None:
    ids = read_ground_truth(gt).image_ids.tolist()
    whole = folder_of(make(request(gt, tmp_path)))
    for parts, part, suffix in (
        ({"limit": 4}, ids[:4], "-partial-4"),
        ({"image_ids": (ids[9], ids[2])}, [ids[2], ids[9]], "-partial-ids-"),
    ):
        folder = folder_of(make(request(gt, tmp_path, **parts)))
        assert folder.name.startswith(whole.name + suffix)
        assert read_manifest(folder).image_ids == part
        assert list(dict.fromkeys(read_run_predictions(folder).image_id.tolist())) == part


@pytest.mark.parametrize("mode", ["present", "verified"])
def test_vocabulary_of_an_image(gt: Path, tmp_path: Path, mode: str) -> None:
    events = make(request(gt, tmp_path, vocabulary=mode, shards=4, batch=3))
    assert failures(events) == []
    predictions = read_run_predictions(folder_of(events))
    document = json.loads(gt.read_text())
    asked: dict[int, set[int]] = {image["id"]: set() for image in document["images"]}
    for box in document["annotations"]:
        asked[box["image_id"]].add(box["category_id"])
    if mode == "verified":
        for image in document["images"]:
            asked[image["id"]] |= set(image["neg_category_ids"])
    for image_id, category in zip(predictions.image_id.tolist(), predictions.category_id.tolist(), strict=True):
        assert category in asked[image_id]
    # the toy detector gives its noise the first class it is asked for: so the whole list was asked for
    first = {image: min(classes) for image, classes in asked.items()}
    assert all(first[i] in predictions.category_id[predictions.image_id == i] for i in first)
    assert list(dict.fromkeys(predictions.image_id.tolist())) == sorted(asked)


def test_coco_annotations_verify_every_class(gt: Path, tmp_path: Path) -> None:
    document = json.loads(gt.read_text())
    for image in document["images"]:
        del image["neg_category_ids"], image["not_exhaustive_category_ids"]
    path = tmp_path / "coco.json"
    path.write_text(json.dumps(document))
    truth = read_ground_truth(path)
    ids, names = truth.image_ids.tolist(), image_paths(truth)
    assert RunImages.of(truth, "verified", ids, names).subsets is None
    assert RunImages.of(truth, "present", ids, names).subsets is not None


FAULTS = {
    "error": "this image is not liked",
    "bug": "IndexError: list index out of range (toy_detectors.py:",
    "few": "detect() returned 1 for 2 images",
    "swapped": "for image",
    "unasked": "category_ids[0] is 99, which is not in the vocabulary",
    "many": "301 boxes, more than top_k = 300",
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_shard_that_fails_leaves_the_others(
    gt: Path, tmp_path: Path, fault: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    asked = request(gt, tmp_path, "Broken", shards=5, batch=2)
    ids = read_ground_truth(gt).image_ids.tolist()
    monkeypatch.setenv("TOY_FAULT", fault)
    monkeypatch.setenv("TOY_IMAGES", f"{ids[8]} {ids[19]}")
    events = make(asked)
    assert [event.shard for event in events if isinstance(event, ShardFailed)] == [1, 3]
    assert FAULTS[fault] in failures(events)[0]
    assert "Traceback" in capsys.readouterr().err
    folder = folder_of(events)
    names = sorted(path.name for path in (folder / PREDICTIONS).glob("shard-*"))
    assert names == [f"shard-0000{k}-of-00005.{suffix}" for k in (0, 2, 4) for suffix in ("arrow", "json")]
    monkeypatch.setenv("TOY_FAULT", "")
    assert failures(make(asked)) == []
    assert artefacts(folder) == artefacts(folder_of(make(request(gt, tmp_path / "whole", "Broken", shards=5, batch=2))))


def test_lack_of_memory_is_recorded(gt: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    plain = folder_of(make(request(gt, tmp_path / "a", "Broken", batch=8, shards=3)))
    monkeypatch.setenv("TOY_FAULT", "memory")
    monkeypatch.setenv("TOY_FITS", "3")
    events = make(request(gt, tmp_path / "b", "Broken", batch=8, shards=3))
    assert [event.batch for event in events if isinstance(event, Halved)] == [4, 2]
    folder = folder_of(events)
    assert {record.smallest_batch for record in read_records(folder, read_manifest(folder))} == {2}
    assert artefacts(folder) == artefacts(plain)  # the toy does not care how images are grouped
    monkeypatch.setenv("TOY_FITS", "0")
    events = make(request(gt, tmp_path / "c", "Broken", batch=8, shards=3))
    assert [event.shard for event in events if isinstance(event, ShardFailed)] == [0, 1, 2]
    assert all("memory ran out at a batch of 1" in reason for reason in failures(events))


def test_images_that_cannot_be_read_are_told_by_id(tmp_path: Path) -> None:
    gt = make_data(tmp_path / "data", 12)
    ids = read_ground_truth(gt).image_ids.tolist()
    (tmp_path / "data" / "images" / f"{ids[3]}.png").write_bytes(b"\x89PNG damaged")
    (tmp_path / "data" / "images" / f"{ids[7]}.png").unlink()
    folder = folder_of(make(request(gt, tmp_path / "out", shards=2)))
    failed = [image for record in read_records(folder, read_manifest(folder)) for image in record.images_failed]
    assert [image.image_id for image in failed] == [ids[3], ids[7]]
    assert failed[1].reason == "no such file"
    predictions = read_run_predictions(folder)
    assert set(ids) - set(predictions.image_id.tolist()) == {ids[3], ids[7]}


def test_no_images_at_all(gt: Path, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    (event,) = make(request(gt, tmp_path / "out", images=tmp_path / "empty"))
    assert isinstance(event, Fault)
    assert "contains none of the 30 images: name their folder with --images" in event.reason
    assert "--match basename" in event.reason
    assert not (tmp_path / "out").exists()


def test_images_by_base_name_give_the_same_predictions(gt: Path, tmp_path: Path) -> None:
    plain = folder_of(make(request(gt, tmp_path / "a")))
    document = json.loads(gt.read_text())
    for image in document["images"]:
        image["file_name"] = "..\\store\\" + image["file_name"]
    moved = tmp_path / "moved.json"
    moved.write_text(json.dumps(document))
    images = gt.parent / "images"
    folder = folder_of(make(request(moved, tmp_path / "b", images=images, match="basename")))
    assert [file.read_bytes() for file in sorted(folder.rglob("*.arrow"))] == [
        file.read_bytes() for file in sorted(plain.rglob("*.arrow"))
    ]
    place = read_manifest(folder).benchmark
    assert place.benchmark().match == "basename"
    assert "match" not in read_manifest(plain).benchmark.model_dump()
    (event,) = make(request(moved, tmp_path / "c", images=images))
    assert isinstance(event, Fault)


def test_names_in_the_results_are_given(gt: Path, tmp_path: Path) -> None:
    asked = request(gt, tmp_path, name="mine", detector_name="toy-epoch-3")
    folder = folder_of(make(asked))
    assert folder.relative_to(tmp_path).parts[0] == "mine"
    assert folder.name.startswith("toy-epoch-3@")
    manifest = read_manifest(folder)
    assert (manifest.detector.name, manifest.recipe.detector) == ("toy-epoch-3", "toy-epoch-3")
    assert manifest.benchmark.name == "mine"
    assert folder_of(make(asked)) == folder


REFUSED: dict[str, tuple[dict[str, Any], str]] = {
    "unknown detector": ({"detector": "nothing"}, "no detector 'nothing'"),
    "no such file": ({"detector": "nowhere.py:Mine"}, "nowhere.py: no such Python file"),
    "no such class": ({"detector": __file__ + ":Mine"}, "there is no 'Mine' in "),
    "unknown benchmark": ({"benchmark": "nothing"}, "no benchmark 'nothing'"),
    "too many shards": ({"shards": 31}, "31 shards of 30 images"),
    "unknown protocol": ({"ap": "voc"}, "unknown protocol 'voc'"),
    "unknown image": ({"image_ids": (5,)}, "image 5 is not in benchmark"),
    "image twice": ({"image_ids": (3, 3)}, "image 3 occurs twice"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_refused_in_one_line(gt: Path, tmp_path: Path, name: str) -> None:
    parts, message = REFUSED[name]
    (reason,) = failures(make(request(gt, tmp_path / "out").model_copy(update=parts)))
    assert message in reason
    assert "\n" not in reason


def test_a_detector_that_cannot_be_loaded(gt: Path, tmp_path: Path) -> None:
    assert failures(make(request(gt, tmp_path, "Unloadable"))) == ["the weights are not where they should be"]


def test_shard_number_beyond_the_last(gt: Path, tmp_path: Path) -> None:
    make(request(gt, tmp_path, shards=3), [0])
    (reason,) = failures(make(request(gt, tmp_path), [3]))
    assert "--shard 3/3: shards are counted from 0" in reason


def test_two_at_once(gt: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ovd_bench.benchmarks.runner.locks._RUN_PATIENCE", 0.1)
    monkeypatch.setattr("ovd_bench.benchmarks.runner.shards._PATIENCE", 0.1)
    asked = request(gt, tmp_path, shards=3)
    folder = folder_of(make(asked, []))
    locks = folder / PREDICTIONS / LOCKS
    with held(locks / "run", "the run", patience=0):
        (reason,) = failures(make(asked))
        assert f"{folder}: the run is in use by process" in reason
        assert failures(make(asked, [0])) == []  # single shards are made beside each other
    with held(locks / "shard-00001", "the shard", patience=0):
        events = make(asked)
        assert [event.shard for event in events if isinstance(event, ShardFailed)] == [1]
        assert f"{folder}: shard 1 of 3 is in use by process" in failures(events)[0]
    assert failures(make(asked)) == []


def test_a_folder_that_cannot_be_written(gt: Path, tmp_path: Path) -> None:
    (tmp_path / "out").write_text("a file where the folder should be")
    (reason,) = failures(make(request(gt, tmp_path / "out")))
    assert "out" in reason
    assert "\n" not in reason
