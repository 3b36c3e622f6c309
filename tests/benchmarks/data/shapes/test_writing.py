"""Splits on disk."""

from __future__ import annotations

import json
import multiprocessing
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from ovd_bench.benchmarks.data.files.annotations import read_ground_truth
from ovd_bench.benchmarks.data.images import image_paths
from ovd_bench.benchmarks.data.odvg.records import read_label_map
from ovd_bench.benchmarks.data.shapes import render, scene_plan, write_split
from ovd_bench.benchmarks.scoring.vocabulary_tables import VocabularyTables
from ovd_bench.metrics.errors import DataError
from ovd_bench.tests.benchmarks.data.odvg.read_odvg import read_odvg
from ovd_bench.tests.benchmarks.data.shapes.worlds import SMALL


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The small world on disk: training and test split."""
    root = tmp_path_factory.mktemp("small")
    for split in ("train", "test"):
        write_split(SMALL, split, root, workers=1)
    return root


def _files(root: Path) -> dict[str, bytes]:
    return {str(path.relative_to(root)): path.read_bytes() for path in sorted(root.rglob("*")) if path.is_file()}


def test_files_do_not_depend_on_the_number_of_processes(folder: Path, tmp_path: Path) -> None:
    done: list[int] = []
    path = write_split(SMALL, "test", tmp_path, workers=2, progress=done.append)
    assert path == tmp_path / "test.json"
    assert sum(done) == SMALL.splits["test"]
    written = _files(tmp_path)
    assert len(written) == SMALL.splits["test"] + 3
    assert written == {name: data for name, data in _files(folder).items() if name in written}


def test_images_are_the_rendered_ones_in_any_order(folder: Path) -> None:
    for index in (59, 0, 31):
        pixels = np.asarray(Image.open(folder / f"test/{index:06d}.png"))
        assert np.array_equal(pixels, render(SMALL, "test", index).pixels)


def test_annotations_are_read_as_federated_lvis(folder: Path) -> None:
    gt = read_ground_truth(folder / "test.json", cache=False)
    assert gt.federated
    assert gt.notes == ()
    assert gt.num_images == 60
    assert gt.categories.frequency == tuple(c.frequency for c in SMALL.categories)
    assert gt.categories.image_count.tolist() == [c.image_count for c in SMALL.categories]
    assert gt.categories.synonyms == tuple(c.synonyms for c in SMALL.categories)
    assert image_paths(gt)[5] == "test/000005.png"
    left_out = 0
    for image in range(gt.num_images):
        plan = scene_plan(SMALL, "test", image)
        shown = Counter(placed.index for placed in plan.objects)
        rows = np.flatnonzero(gt.image_index == image)
        annotated = Counter(gt.class_index[rows].tolist())
        incomplete = set(gt.not_exhaustive[image].tolist())
        assert {k for k in shown if annotated[k] < shown[k]} == incomplete
        assert set(annotated) == set(shown)
        assert not set(gt.neg[image].tolist()) & set(shown)
        left_out += sum(shown.values()) - len(rows)
        true_boxes = {tuple(box) for box in plan.boxes_xywh.tolist()}
        assert all(tuple(box) in true_boxes for box in gt.boxes_xywh[rows].tolist())
        assert set(gt.area[rows].tolist()) <= {float(area) for area in plan.areas}
    assert left_out > 0


def test_image_ids_differ_between_splits(folder: Path) -> None:
    train, test = (read_ground_truth(folder / f"{split}.json", cache=False) for split in ("train", "test"))
    assert not set(train.image_ids.tolist()) & set(test.image_ids.tolist())


def test_counts_of_the_categories_are_those_of_the_training_file(folder: Path) -> None:
    gt = read_ground_truth(folder / "train.json", cache=False)
    instances = np.bincount(gt.class_index, minlength=gt.num_classes)
    pairs = {(int(i), int(k)) for i, k in zip(gt.image_index, gt.class_index, strict=True)}
    images = np.bincount([k for _, k in pairs], minlength=gt.num_classes)
    assert gt.categories.image_count.tolist() == images.tolist()
    rows = json.loads((folder / "test.json").read_bytes())["categories"]
    assert [row["instance_count"] for row in rows] == instances.tolist()


def test_tables_make_a_nested_hierarchy(folder: Path) -> None:
    categories = read_ground_truth(folder / "test.json", cache=False).categories
    tables = VocabularyTables.read(folder / "tables.json")
    hierarchy = tables.hierarchy(categories)
    assert hierarchy.syn is not None
    assert hierarchy.basic is not None
    assert hierarchy.super is not None
    assert len(hierarchy.syn) == len(SMALL.categories)
    assert set(hierarchy.basic.names) == {shape.word for shape in SMALL.shapes}
    assert set(hierarchy.super.names) == {shape.family for shape in SMALL.shapes}
    assert tables.hypernyms is not None
    assert all(tables.hypernyms[c.name][1:] == [c.shape, c.family, "figure"] for c in SMALL.categories)


def test_detection_records_are_the_annotations(folder: Path) -> None:
    gt = read_ground_truth(folder / "train.json", cache=False)
    names = read_label_map(folder / "label_map.json")
    assert names == gt.categories.names
    boxes = gt.boxes_xywh.copy()
    boxes[:, 2:] += boxes[:, :2]
    records = list(read_odvg(folder / "train_od.jsonl"))
    assert [record.filename for record in records] == image_paths(gt)
    for image, record in enumerate(records):
        assert record.detection is not None
        rows = np.flatnonzero(gt.image_index == image)
        assert [list(i.bbox) for i in record.detection.instances] == boxes[rows].tolist()
        assert [i.label for i in record.detection.instances] == gt.class_index[rows].tolist()
        assert all(i.category == names[i.label] for i in record.detection.instances)


def test_grounding_records_hold_boxes_of_all_objects_that_a_phrase_means(folder: Path) -> None:
    for index, record in enumerate(read_odvg(folder / "train_vg.jsonl")):
        assert record.grounding is not None
        plan = scene_plan(SMALL, "train", index)
        corners = np.concatenate([plan.boxes_xywh[:, :2], plan.boxes_xywh[:, :2] + plan.boxes_xywh[:, 2:]], axis=1)
        names = [SMALL.categories[placed.index].name.split() for placed in plan.objects]
        plurals = {shape.plural: shape.word for shape in SMALL.shapes}
        for region in record.grounding.regions:
            assert region.tokens_positive is not None
            ((begin, end),) = region.tokens_positive
            assert (record.grounding.caption[begin:end],) == region.phrase
            words = {plurals.get(word, word) for word in region.phrase[0].split()[1:]} - {"figure", "figures"}
            meant = [corners[i].tolist() for i, name in enumerate(names) if words <= set(name)]
            assert [list(box) for box in region.bbox] == meant


def test_finished_split_is_left_alone(folder: Path) -> None:
    before = {path: path.stat().st_mtime_ns for path in folder.rglob("*")}
    done: list[int] = []
    write_split(SMALL, "test", folder, progress=done.append)
    assert done == []
    assert {path: path.stat().st_mtime_ns for path in folder.rglob("*")} == before


@pytest.mark.parametrize("damage", ["image lost", "image cut", "annotations changed", "tables lost", "other world"])
def test_damaged_split_is_written_again(tmp_path: Path, damage: str) -> None:
    write_split(SMALL, "minival", tmp_path, workers=1)
    whole = _files(tmp_path)
    if damage == "image lost":
        (tmp_path / "minival/000003.png").unlink()
    elif damage == "image cut":
        (tmp_path / "minival/000003.png").write_bytes(b"\x89PNG")
    elif damage == "annotations changed":
        (tmp_path / "minival.json").write_bytes(whole["minival.json"].replace(b'"bbox":[1', b'"bbox":[2', 1))
    elif damage == "tables lost":
        (tmp_path / "tables.json").unlink()
    else:
        manifest = json.loads(whole["minival.manifest.json"])
        (tmp_path / "minival.manifest.json").write_text(json.dumps(manifest | {"world_hash": "0" * 64}))
    write_split(SMALL, "minival", tmp_path, workers=1)
    assert _files(tmp_path) == whole


def test_interrupted_run_goes_on_where_it_stopped(tmp_path: Path) -> None:
    class Stop(Exception):  # noqa: N818 - stands for whatever ends a run
        pass

    def stop(count: int) -> None:
        raise Stop

    with pytest.raises(Stop):
        write_split(SMALL, "test", tmp_path, workers=1, progress=stop)
    first = {path: path.stat().st_mtime_ns for path in (tmp_path / "test").glob("*.png")}
    assert 0 < len(first) < SMALL.splits["test"]
    assert not (tmp_path / "test.json").exists()
    write_split(SMALL, "test", tmp_path, workers=1)
    assert {path: path.stat().st_mtime_ns for path in first} == first
    assert len(list((tmp_path / "test").glob("*.png"))) == SMALL.splits["test"]


def test_killed_worker_is_an_error(tmp_path: Path) -> None:
    def kill(count: int) -> None:
        for worker in multiprocessing.active_children():
            worker.kill()

    with pytest.raises(DataError, match="a rendering process was killed: run again"):
        write_split(SMALL, "train", tmp_path, workers=2, progress=kill)
    first = list((tmp_path / "train").glob("*.png"))
    assert 0 < len(first) < SMALL.splits["train"]
    assert not (tmp_path / "train.json").exists()


def test_images_of_another_world_are_not_kept(tmp_path: Path) -> None:
    (tmp_path / "minival").mkdir()
    (tmp_path / "minival/.world").write_text("0" * 64)
    (tmp_path / "minival/000003.png").write_bytes(b"other")
    (tmp_path / "minival/999999.png").write_bytes(b"other")
    write_split(SMALL, "minival", tmp_path, workers=1)
    assert len(list((tmp_path / "minival").iterdir())) == SMALL.splits["minival"]
    assert Image.open(tmp_path / "minival/000003.png").size == (192, 192)


def test_errors_are_one_line(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="small has no split 'val': choose from train, minival, test"):
        write_split(SMALL, "val", tmp_path)
    (tmp_path / "file").write_text("")
    with pytest.raises(DataError, match="cannot be written"):
        write_split(SMALL, "test", tmp_path / "file")
