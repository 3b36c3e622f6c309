"""Files made from files: kept content is unchanged."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ovd_bench.benchmarks.data.catalog.convert import (
    cut_images,
    derive_minival,
    grounding_lines,
    insert_file_names,
    read_ids,
)
from ovd_bench.benchmarks.data.catalog.json_document import JsonDocument
from ovd_bench.benchmarks.data.files.grounding import read_mdetr_expressions, read_mdetr_phrases, read_truth
from ovd_bench.metrics.errors import DataError
from ovd_bench.tests.benchmarks.data.catalog.made import lvis_document, write_json

FOLDERS = ("train2017", "val2017", "val2017", "train2017", "val2017")


def test_minival_is_val_without_coco_train(tmp_path: Path) -> None:
    document = lvis_document(FOLDERS)
    facts = derive_minival(write_json(tmp_path / "val.json", document), tmp_path / "mini.json")
    found = json.loads((tmp_path / "mini.json").read_text())
    kept = [101, 102, 104]
    expected = document | {
        "images": [image for image in document["images"] if image["id"] in kept],
        "annotations": [box for box in document["annotations"] if box["image_id"] in kept],
    }
    assert found == expected
    assert list(found) == list(document)
    assert "119.06250000000001" in (tmp_path / "mini.json").read_text()
    assert (facts.images, facts.boxes, facts.classes) == (3, 3, 3)
    assert (facts.rare, facts.rare_with_boxes, facts.classes_with_boxes) == (2, 2, 2)


def test_minival_is_the_same_file_every_time(tmp_path: Path) -> None:
    source = write_json(tmp_path / "val.json", lvis_document(FOLDERS))
    first = derive_minival(source, tmp_path / "a.json")
    assert derive_minival(source, tmp_path / "b.json").sha256 == first.sha256


def test_minival_of_the_real_file(real_data: Path, tmp_path: Path) -> None:
    """All images of LVIS v0.5 val are of val2017; half of them are moved to train2017."""
    document = json.loads((real_data / "lvis-api/lvis_val_100.json").read_text())
    for image in document["images"][::2]:
        image["coco_url"] = image["coco_url"].replace("val2017", "train2017")
    facts = derive_minival(write_json(tmp_path / "val.json", document), tmp_path / "mini.json")
    kept = {image["id"] for image in document["images"][1::2]}
    boxes = [box for box in document["annotations"] if box["image_id"] in kept]
    rare = {c["id"] for c in document["categories"] if c["frequency"] == "r"}
    assert (facts.images, facts.boxes, facts.classes) == (50, len(boxes), 1230)
    assert (facts.rare, facts.rare_with_boxes) == (454, len(rare & {box["category_id"] for box in boxes}))
    found = json.loads((tmp_path / "mini.json").read_text())
    assert found["images"] == document["images"][1::2]
    assert found["annotations"] == boxes
    assert found["categories"] == document["categories"]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            {"coco_url": "http://images.cocodataset.org/test2017/1.jpg"},
            r"images record 0: coco_url is in folder 'test2017'",
        ),
        ({"coco_url": 5}, r"images record 0: field 'coco_url' is missing"),
        ({"coco_url": "nothing"}, r"images record 0: field 'coco_url' is missing"),
        ({"id": "x"}, r"images record 0: field 'id'"),
    ],
)
def test_minival_refuses(tmp_path: Path, change: dict[str, Any], message: str) -> None:
    document = lvis_document(FOLDERS)
    document["images"][0] |= change
    with pytest.raises(DataError, match=message):
        derive_minival(write_json(tmp_path / "val.json", document), tmp_path / "mini.json")
    assert not (tmp_path / "mini.json").exists()


def test_minival_refuses_coco_files_and_files_without_val2017(tmp_path: Path) -> None:
    document = lvis_document(["train2017"])
    with pytest.raises(DataError, match="it has none of the images to keep"):
        derive_minival(write_json(tmp_path / "val.json", document), tmp_path / "mini.json")
    del document["images"][0]["neg_category_ids"]
    with pytest.raises(DataError, match="this is not an LVIS file"):
        derive_minival(write_json(tmp_path / "val.json", document), tmp_path / "mini.json")


def test_output_is_not_the_input(tmp_path: Path) -> None:
    source = write_json(tmp_path / "val.json", lvis_document(FOLDERS))
    before = source.read_bytes()
    (tmp_path / "link.json").symlink_to(source)
    for target in (source, tmp_path / "link.json"):
        with pytest.raises(DataError, match="is the file that is read"):
            derive_minival(source, target)
    assert source.read_bytes() == before


def test_file_names(tmp_path: Path) -> None:
    document = lvis_document(FOLDERS)
    insert_file_names(write_json(tmp_path / "val.json", document), tmp_path / "named.json")
    found = json.loads((tmp_path / "named.json").read_text())
    assert found["images"][1] == document["images"][1] | {"file_name": "val2017/000000000001.jpg"}
    assert {key: found[key] for key in found if key != "images"} == {k: document[k] for k in document if k != "images"}


def test_subset(tmp_path: Path) -> None:
    source = write_json(tmp_path / "val.json", lvis_document(FOLDERS))
    (tmp_path / "ids.txt").write_text("103\n\n100\n")
    facts = cut_images(source, tmp_path / "two.json", read_ids(tmp_path / "ids.txt"))
    assert (facts.images, facts.boxes) == (2, 2)
    with pytest.raises(DataError, match="has no image 7, and lacks 1 more"):
        cut_images(source, tmp_path / "none.json", [8, 7, 100])
    (tmp_path / "ids.txt").write_text("103\nabc\n")
    with pytest.raises(DataError, match="line 2: 'abc' is not an image id"):
        read_ids(tmp_path / "ids.txt")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[]", "Expecting '{'"),
        ('{"images": [', r"line 1, column \d+"),
        ('{"images": {}}', r"Expecting '\['"),
        ('{"images": [1]}', "images record 0: is not an object"),
        ('{"annotations": []}', "section 'images' is missing"),
        ('{"images": []} x', "Extra data"),
        ('{"images": [] "a": 1}', "Expecting ',' or '}'"),
        ('{"images": [{} {}]}', r"Expecting ',' or '\]'"),
        ("{1: 2}", "Expecting a key"),
        ('{"a": ' + "[" * 100_000, "nested too deeply"),
    ],
)
def test_broken_documents(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "a.json").write_text(text)
    document = JsonDocument(tmp_path / "a.json")
    with pytest.raises(DataError, match=message) as caught:
        document.write(tmp_path / "b.json", {"images": lambda _, text: text})
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "b.json").exists()


_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
    max_leaves=8,
)


@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    document=st.dictionaries(st.text(max_size=5).filter(lambda key: key != "images"), _VALUES, max_size=4),
    images=st.lists(st.dictionaries(st.text(max_size=4), _VALUES, max_size=3), max_size=4),
    indent=st.sampled_from([None, 1]),
)
def test_a_copy_says_the_same(
    tmp_path: Path, document: dict[str, Any], images: list[dict[str, Any]], indent: int | None
) -> None:
    source, target = tmp_path / "a.json", tmp_path / "b.json"
    source.write_text(json.dumps(document | {"images": images}, indent=indent))
    JsonDocument(source).write(target, {"images": lambda _, text: text})
    assert json.loads(target.read_text()) == document | {"images": images}


def test_mdetr_phrases_become_lines(tmp_path: Path) -> None:
    document = {
        "images": [
            {
                "id": 1,
                "caption": "a man and a dog",
                "original_img_id": 77,
                "tokens_positive_eval": [[[0, 5]], [[10, 15]]],
            }
        ],
        "annotations": [
            {"image_id": 1, "bbox": [1, 2, 3.5, 4], "tokens_positive": [[0, 5]]},
            {"image_id": 1, "bbox": [5, 6, 7, 8], "tokens_positive": [[0, 5]]},
        ],
    }
    source = write_json(tmp_path / "m.json", document)
    assert grounding_lines(source, tmp_path / "m.jsonl", "phrases") == 2
    before, after = read_mdetr_phrases(source), read_truth(tmp_path / "m.jsonl")
    assert after.phrase_ids.tolist() == before.phrase_ids.tolist()
    assert after.image_id.tolist() == before.image_id.tolist() == [77, 77]
    assert after.box_offsets.tolist() == before.box_offsets.tolist() == [0, 2, 2]
    assert after.boxes_xywh.tolist() == before.boxes_xywh.tolist()


def test_mdetr_expressions_become_lines(tmp_path: Path) -> None:
    document = {
        "images": [{"id": i, "caption": "left", "original_id": 9, "dataset_name": "refcoco+"} for i in (4, 3)],
        "annotations": [{"image_id": i, "bbox": [i, 2, 3, 4], "tokens_positive": [[0, 4]]} for i in (3, 4)],
    }
    source = write_json(tmp_path / "m.json", document)
    assert grounding_lines(source, tmp_path / "m.jsonl", "expressions") == 2
    before, after = read_mdetr_expressions(source), read_truth(tmp_path / "m.jsonl")
    assert after.type_names == before.type_names == ("refcoco+",)
    assert after.boxes_xywh.tolist() == before.boxes_xywh.tolist() == [[3, 2, 3, 4], [4, 2, 3, 4]]
