"""Referring expressions: documents of MDETR and lines of Qwen-VL and InternVL, written by hand in their form."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from ovd_bench.benchmarks.data.queries.conversion import NO_WORDS
from ovd_bench.benchmarks.data.queries.refcoco import convert_refcoco
from ovd_bench.metrics.errors import DataError
from ovd_bench.tests.benchmarks.data.queries.lines import lines

NAME = "COCO_train2014_000000581857.jpg"


def _image(number: int, caption: str, **fields: Any) -> dict[str, Any]:
    return {
        "file_name": NAME, "height": 640, "width": 427, "id": number, "original_id": 581857, "caption": caption,
        "dataset_name": "refcoco+", "tokens_negative": [],
    } | fields  # fmt: skip


def _box(image: int, bbox: list[float]) -> dict[str, Any]:
    return {
        "area": 1.0, "iscrowd": 0, "image_id": image, "category_id": 1, "id": image, "bbox": bbox,
        "original_id": 1719310, "tokens_positive": [[0, 3]],
    }  # fmt: skip


def _document(path: Path, images: list[dict[str, Any]], boxes: list[dict[str, Any]]) -> Path:
    path.write_text(json.dumps({"info": {}, "images": images, "annotations": boxes, "categories": []}))
    return path


def _line(**fields: Any) -> dict[str, Any]:
    return {
        "image": f"data/coco/train2014/{NAME}", "sent": "the lady with the blue shirt",
        "bbox": [103.93, 299.99, 238, 477], "width": 427, "height": 640,
    } | fields  # fmt: skip


def _lines(path: Path, *rows: dict[str, Any]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def test_documents_of_mdetr_become_one_file(tmp_path: Path) -> None:
    first = _document(
        tmp_path / "finetune_refcoco+_testA.json",
        [_image(7, "left lady"), _image(3, "  ")],
        [_box(3, [1, 2, 3, 4]), _box(7, [103.93, 299.99, 134.22, 177.42])],
    )
    second = _document(
        tmp_path / "finetune_refcocog_val.json",
        [_image(0, "left lady", dataset_name="refcocog")],
        [_box(0, [1, 2, 3, 4])],
    )
    report = convert_refcoco([first, second], tmp_path / "r.jsonl")
    image = {"image_id": 581857, "file_name": NAME, "width": 427, "height": 640}
    assert lines(tmp_path / "r.jsonl") == [
        {"query_id": 1} | image
        | {"text": "left lady", "kinds": ["refcoco+/testA"], "boxes": [[103.93, 299.99, 134.22, 177.42]]},
        {"query_id": 2} | image | {"text": "left lady", "kinds": ["refcocog/val"], "boxes": [[1, 2, 3, 4]]},
    ]  # fmt: skip
    assert (report.queries, report.images, report.boxes, report.absent, report.unscored) == (2, 1, 2, 0, 0)
    assert report.kinds == {"refcoco+/testA": 1, "refcocog/val": 1}
    assert report.left_out == {NO_WORDS: 1}


def test_lines_have_corners(tmp_path: Path) -> None:
    other = _line(image="b.jpg", sent="a cat", bbox=[0, 0, 428, 640.5])
    source = _lines(tmp_path / "refcoco_testB.jsonl", _line(), other, _line(sent="a bag"))
    convert_refcoco([source], tmp_path / "r.jsonl")
    found = lines(tmp_path / "r.jsonl")
    assert [(row["image_id"], row["text"]) for row in found] == [
        (1, "the lady with the blue shirt"), (2, "a cat"), (1, "a bag"),
    ]  # fmt: skip
    assert found[0]["boxes"] == [pytest.approx([103.93, 299.99, 134.07, 177.01])]
    assert found[1]["boxes"] == [[0, 0, 428, 640.5]]
    assert {kind for row in found for kind in row["kinds"]} == {"refcoco/testB"}


@pytest.mark.parametrize(
    ("name", "kinds"), [("mine", []), ("refcocog_umd_val", []), ("x_refcocog_test", ["refcocog/test"])]
)
def test_kinds_come_from_the_name_or_the_user(tmp_path: Path, name: str, kinds: list[str]) -> None:
    source = _lines(tmp_path / f"{name}.jsonl", _line())
    convert_refcoco([source], tmp_path / "r.jsonl")
    assert lines(tmp_path / "r.jsonl")[0].get("kinds", []) == kinds
    convert_refcoco([source], tmp_path / "r.jsonl", kind="own/test")
    assert lines(tmp_path / "r.jsonl")[0]["kinds"] == ["own/test"]


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"bbox": [103.93, 299.99, 134.22, 177.42]}, "x1, y1, x2, y2 in pixels"),  # width and height
        ({"bbox": [243, 468, 557, 745]}, "no box in 427 x 640"),  # thousandths
        ({"bbox": [0.2, 0.4, 0.5, 0.7]}, "in pixels of the image"),  # shares
        ({"bbox": [5, 5, 5, 9]}, "no box in"),
        ({"bbox": [-9, 5, 5, 9]}, "no box in"),
        ({"bbox": [1, 2, 3]}, "bbox.3.: Field required|bbox"),
        ({"sent": 5}, "sent: Input should be a valid string"),
        ({"width": 0}, "width: Input should be greater than 0"),
        ({"sent": "x" * 10_001}, "text: String should have at most"),
    ],
)
def test_other_frames_and_fields_are_one_line(tmp_path: Path, fields: dict[str, Any], words: str) -> None:
    source = _lines(tmp_path / "refcoco_val.jsonl", _line(), _line(**fields))
    with pytest.raises(DataError, match=rf"refcoco_val\.jsonl: line 2: .*(?:{words})") as error:
        convert_refcoco([source], tmp_path / "r.jsonl")
    assert "\n" not in str(error.value)
    assert not (tmp_path / "r.jsonl").exists()


def test_files_that_do_not_go_together(tmp_path: Path) -> None:
    document = _document(tmp_path / "a.json", [_image(7, "left")], [_box(7, [1, 2, 3, 4])])
    other = _document(tmp_path / "b.json", [_image(7, "left", width=428)], [_box(7, [1, 2, 3, 4])])
    row = _lines(tmp_path / "a.jsonl", _line())
    with pytest.raises(DataError, match="files of one form"):
        convert_refcoco([document, row], tmp_path / "r.jsonl")
    with pytest.raises(DataError, match=r"image 581857 is .*427.* and .*428"):
        convert_refcoco([document, other], tmp_path / "r.jsonl")
    with pytest.raises(DataError, match="is the file that is read"):
        convert_refcoco([row], row)
    with pytest.raises(DataError, match=r"is called \.jsonl"):
        convert_refcoco([row], tmp_path / "r.json")
    with pytest.raises(DataError, match="has no queries"):
        convert_refcoco([_lines(tmp_path / "none.jsonl", _line(sent=" "))], tmp_path / "r.jsonl")
    boxless = _document(tmp_path / "c.json", [_image(7, "left")], [])
    with pytest.raises(DataError, match="needs exactly one"):
        convert_refcoco([boxless], tmp_path / "r.jsonl")
