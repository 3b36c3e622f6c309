"""Files of the kinds that exporters write: those with a number under pycocotools get that number here, and a note."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from ovd_bench.benchmarks.data.files import annotation_cache, read_ground_truth
from ovd_bench.benchmarks.data.files.annotations import parse_ground_truth
from ovd_bench.benchmarks.data.subset import restrict
from ovd_bench.benchmarks.scoring.score import Score, ScoreRequest, score
from ovd_bench.metrics.errors import DataError
from ovd_bench.tests.metrics.small_sets import random_set
from ovd_bench.tests.oracles import run_coco

Json = dict[str, Any]
ANNOTATIONS, RESULTS = random_set(11, 12, 5, 20)
for _number, _image in enumerate(ANNOTATIONS["images"]):
    _image["file_name"] = f"val/frame_{_number:03}.png"


def _official(annotations: Json, results: list[Json]) -> float:
    return float(run_coco(copy.deepcopy(annotations), copy.deepcopy(results)).stats[0])


def _scored(folder: Path, annotations: Json, results: list[Json] | str, **options: Any) -> Score:
    truth, found = folder / "gt.json", folder / "found.json"
    truth.write_text(json.dumps(annotations))
    found.write_text(results if isinstance(results, str) else json.dumps(results))
    return score(ScoreRequest(found, truth, "coco", **options))


def _each(section: str, **values: Any) -> Callable[[Json], None]:
    def change(document: Json) -> None:
        for record in document[section]:
            record |= values

    return change


def _ids_as_texts(document: Json) -> None:
    for image in document["images"]:
        image["id"] = f"img{image['id']}"
    for annotation in document["annotations"]:
        annotation["image_id"] = f"img{annotation['image_id']}"


def _annotation_ids_as_texts(document: Json) -> None:
    for annotation in document["annotations"]:
        annotation["id"] = str(annotation["id"])


@pytest.mark.parametrize(
    ("change", "note"),
    [
        (_each("annotations", score=float("nan")), "numbers are NaN, in fields that are not read"),
        (_each("annotations", attributes={"a": float("-inf")}), "-Infinity"),
        (_each("images", width=None, height=-1), "have no size"),
        (_each("categories", name=7), "a number as their name"),
        (_each("categories", supercategory=7.5), "a number as their supercategory"),
        (_annotation_ids_as_texts, "annotations are texts"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_annotations_get_the_number_of_pycocotools(change: Callable[[Json], None], note: str, tmp_path: Path) -> None:
    odd = copy.deepcopy(ANNOTATIONS)
    change(odd)
    made = _scored(tmp_path, odd, RESULTS)
    assert made.metrics["AP"] == _official(ANNOTATIONS, RESULTS)
    assert [line for line in made.notes if note in line]


def test_image_ids_that_are_texts(tmp_path: Path) -> None:
    odd, results = copy.deepcopy(ANNOTATIONS), copy.deepcopy(RESULTS)
    _ids_as_texts(odd)
    for result in results:
        result["image_id"] = f"img{result['image_id']}"
    assert _scored(tmp_path, odd, results).metrics["AP"] == _official(odd, results)
    results[3]["image_id"] = "img-unknown"
    with pytest.raises(DataError, match=r"found\.json: record 3: image_id 'img-unknown': no image"):
        _scored(tmp_path, odd, results)


def test_texts_survive_the_cache_and_a_subset(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(annotation_cache, "user_cache_path", lambda name: tmp_path)
    monkeypatch.setattr("ovd_bench.benchmarks.data.files.annotations.CACHE_MIN_BYTES", 0)
    odd = copy.deepcopy(ANNOTATIONS)
    _ids_as_texts(odd)
    path = tmp_path / "gt.json"
    path.write_text(json.dumps(odd))
    for truth in (read_ground_truth(path), read_ground_truth(path)):  # written, then read
        names = truth.image_names
        assert names is not None
        assert [names[row] for row in range(len(names))] == sorted(image["id"] for image in odd["images"])
        part = restrict(truth, truth.image_ids[1:3].tolist()).image_names
        assert part is not None
        assert [part[0], part[1]] == [names[1], names[2]]


@pytest.mark.parametrize("form", ["frame_{:03}", "frame_{:03}.png", "val/frame_{:03}.png"])
def test_detections_that_name_files(form: str, tmp_path: Path) -> None:
    rows = {image["id"]: number for number, image in enumerate(ANNOTATIONS["images"])}
    named = [{**result, "image_id": form.format(rows[result["image_id"]])} for result in RESULTS]
    made = _scored(tmp_path, ANNOTATIONS, named, match="stem")
    assert made.metrics["AP"] == _official(ANNOTATIONS, RESULTS)
    assert [line for line in made.notes if "name their image by a text" in line]
    with pytest.raises(DataError, match="--match stem"):
        _scored(tmp_path, ANNOTATIONS, named)


def test_a_name_that_two_images_share_names_neither(tmp_path: Path) -> None:
    twice = copy.deepcopy(ANNOTATIONS)
    twice["images"][1]["file_name"] = "test/frame_000.png"
    one = [{**RESULTS[0], "image_id": "frame_000"}]
    with pytest.raises(DataError, match="'frame_000': no image"):
        _scored(tmp_path, twice, one, match="stem")


def test_an_object_in_each_line(tmp_path: Path) -> None:
    lines = "\n".join(json.dumps(result) for result in RESULTS) + "\n"
    made = _scored(tmp_path, ANNOTATIONS, lines)
    assert made.metrics["AP"] == _official(ANNOTATIONS, RESULTS)
    assert [line for line in made.notes if "JSON Lines" in line]


@pytest.mark.parametrize(
    ("section", "field", "value", "message"),
    [
        ("annotations", "bbox", None, "annotations record 0: field 'bbox' is null"),
        (
            "annotations",
            "bbox",
            [1, 2, float("nan"), 4],
            "annotations record 0: field 'bbox': expected a value, found NaN",
        ),
        ("annotations", "bbox", {"x": 1}, "annotations record 0: field 'bbox' is"),
        ("annotations", "iscrowd", None, "annotations record 0: field 'iscrowd' is null"),
        ("images", "width", -2, "images record 0: field 'width' is -2"),
        ("categories", "name", True, "categories record 0: field 'name' is True"),
        ("images", "id", "a", "images record 0: field 'id' is \"a\""),
    ],
)
def test_what_may_mean_something_else_stays_an_error(
    section: str, field: str, value: Any, message: str, tmp_path: Path
) -> None:
    odd = copy.deepcopy(ANNOTATIONS)
    odd["annotations"][1]["note"] = None  # nothing that is mended hides it
    odd[section][0][field] = value
    path = tmp_path / "gt.json"
    path.write_text(json.dumps(odd))
    with pytest.raises(DataError) as caught:
        parse_ground_truth(path)
    assert str(caught.value).startswith(f"{path}: {message}")


def test_a_fault_behind_a_mended_one_is_named_with_the_file(tmp_path: Path) -> None:
    odd = copy.deepcopy(ANNOTATIONS)
    odd["images"][0]["width"] = None
    del odd["annotations"][2]["bbox"]
    path = tmp_path / "gt.json"
    path.write_text(json.dumps(odd))
    with pytest.raises(DataError, match=r"gt\.json: annotations record 2: field 'bbox' is missing"):
        parse_ground_truth(path)
