"""OmniLabel: a document written by hand in the form of the toolkit's README and its test file."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from ovd_bench.benchmarks.data.queries.conversion import CONTRADICTED, CROWD, NOT_ASKED
from ovd_bench.benchmarks.data.queries.omnilabel import convert_omnilabel
from ovd_bench.metrics.errors import DataError
from ovd_bench.tests.benchmarks.data.queries.lines import lines


def _described(number: int, text: str, images: list[int], kind: str = "object_description") -> dict[str, Any]:
    return {"id": number, "text": text, "image_ids": images, "anno_info": {"orig_id": 1, "type": kind}}


def _box(bbox: list[float], descriptions: list[int], image: int = 8357, **fields: Any) -> dict[str, Any]:
    return {"id": 1, "image_id": image, "bbox": bbox, "description_ids": descriptions, "area": 1.0} | fields


def _document(**parts: Any) -> dict[str, Any]:
    return {
        "images": [{"id": 8357, "file_name": "object365/patch1/a.jpg"}, {"id": 7, "file_name": "coco/b.jpg"}],
        "descriptions": [
            _described(9, "The trumpets not in the middle", [8357, 7, 8357]),
            _described(4, "Person", [7, 8357], "object_category"),
            _described(5, "red hat", [8357]),
            _described(6, "each of these trumpets is attached to a man", [8357]),
            _described(3, "not asked", []),
        ],
        "annotations": [
            _box([1, 2, 30, 40], [4, 9, 9], iscrowd=0, isfake=0),
            _box([5, 6, 7, 8], [9]),
            _box([1, 1, 9, 9], [4], image=7, iscrowd=1),
            _box([1, 1, 9, 9], [3]),
        ],
    } | parts


def _write(path: Path, document: dict[str, Any]) -> Path:
    path.write_text(json.dumps(document))
    return path


def test_descriptions_of_images(tmp_path: Path) -> None:
    report = convert_omnilabel(_write(tmp_path / "o.json", _document()), tmp_path / "o.jsonl")
    found = [
        (row["image_id"], row["text"][:7], row.get("present"), row["kinds"], row["boxes"])
        for row in lines(tmp_path / "o.jsonl")
    ]
    one, two = [1, 2, 30, 40], [5, 6, 7, 8]
    assert found == [
        (8357, "The tru", None, ["descr", "descr-pos", "descr-m"], [one, two]),
        (7, "The tru", False, ["descr", "descr-m"], []),
        (7, "Person", None, ["categ"], []),
        (8357, "Person", None, ["categ"], [one]),
        (8357, "red hat", False, ["descr", "descr-s"], []),
        (8357, "each of", False, ["descr", "descr-l"], []),
    ]
    assert lines(tmp_path / "o.jsonl")[1]["file_name"] == "coco/b.jpg"
    assert (report.queries, report.images, report.boxes, report.absent, report.unscored) == (6, 2, 3, 3, 1)
    assert report.left_out == {CROWD: 1, NOT_ASKED: 1}


def test_texts_that_are_present_and_absent(tmp_path: Path) -> None:
    descriptions = [_described(9, "a man", [7, 8357]), _described(4, "a man", [7, 8357])]
    boxes = [_box([1, 2, 3, 4], [4]), _box([1, 2, 3, 4], [4], image=7, iscrowd=1)]
    source = _write(tmp_path / "o.json", _document(descriptions=descriptions, annotations=boxes))
    report = convert_omnilabel(source, tmp_path / "o.jsonl")
    found = [(row["image_id"], row.get("present"), len(row["boxes"])) for row in lines(tmp_path / "o.jsonl")]
    assert found == [(7, False, 0), (7, None, 0), (8357, None, 1)]
    assert report.left_out == {CONTRADICTED: 1, CROWD: 1}


@pytest.mark.parametrize(
    ("parts", "words"),
    [
        ({"annotations": None}, "annotations: a list is required"),
        ({"descriptions": [_described(9, "a", [1])]}, "descriptions: 9: image 1 is not among images"),
        ({"descriptions": [_described(9, "a", [7])] * 2}, "descriptions: id 9 appears twice"),
        ({"images": [{"id": 7, "file_name": "a"}] * 2}, "images: id 7 appears twice"),
        ({"images": [{"id": 7}]}, r"images\[0\]: file_name: Field required"),
        (
            {"images": [{"id": 7, "file_name": ""}], "descriptions": [_described(9, "a", [7])]},
            "file_name: String should",
        ),
        ({"descriptions": [_described(9, "a", [2**63] * 99)]}, r"descriptions\[0\]: image_ids\[0\]: "),
        ({"annotations": [_box([1, 2, -3, 4], [9])]}, r"annotations\[0\]: bbox\[2\]: "),
        ({"descriptions": []}, "has no queries"),
    ],
)
def test_other_documents_are_one_line(tmp_path: Path, parts: dict[str, Any], words: str) -> None:
    source = _write(tmp_path / "o.json", _document(**parts))
    with pytest.raises(DataError, match=rf"o\.json: .*{words}") as error:
        convert_omnilabel(source, tmp_path / "o.jsonl")
    assert "\n" not in str(error.value)
    assert not (tmp_path / "o.jsonl").exists()


def test_devices_are_not_read(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="/dev/zero: is not a regular file"):
        convert_omnilabel(Path("/dev/zero"), tmp_path / "o.jsonl")
