"""SA-Co Gold: documents of three annotators in the form of the sample in the authors' README."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from ovd_bench.benchmarks.data.queries.conversion import CONTRADICTED, CROWD
from ovd_bench.benchmarks.data.queries.saco import NOT_EXHAUSTIVE, UNKNOWN, convert_saco
from ovd_bench.metrics.errors import DataError
from ovd_bench.tests.benchmarks.data.queries.lines import lines

FIRST = [0.44333332777023315, 0.0, 0.10833333432674408, 0.05833333358168602]  # of the README
IN_PIXELS = [266, 0, 65, 35]


def _pair(number: int, text: str, file: str = "1/a.jpeg", **fields: Any) -> dict[str, Any]:
    return {
        "id": number, "file_name": file, "text_input": text, "width": 600, "height": 600, "queried_category": "0",
        "is_instance_exhaustive": 1, "is_pixel_exhaustive": 1,
    } | fields  # fmt: skip


def _box(pair: int, bbox: list[float], **fields: Any) -> dict[str, Any]:
    return {
        "id": 1, "image_id": pair, "source": "manual", "area": 0.0025, "bbox": bbox, "category_id": 1, "iscrowd": 0,
        "segmentation": {"counts": "`kk42fb0", "size": [600, 600]},
    } | fields  # fmt: skip


PAIRS = [
    _pair(10, "chili"),
    _pair(11, "the fish ball"),
    _pair(12, "a bowl", "1/b.jpeg", width=300),
    _pair(13, "rice", is_instance_exhaustive=0),
    _pair(14, "a crowd"),
]
BOXES = [
    _box(10, FIRST),
    _box(12, [0.5, 0.25, 0.5, 0.75]),
    _box(13, FIRST),
    _box(14, FIRST, iscrowd=1),
    _box(99, FIRST),
]


def _write(path: Path, pairs: list[dict[str, Any]], boxes: list[dict[str, Any]]) -> Path:
    path.write_text(json.dumps({"info": {}, "images": pairs, "annotations": boxes, "categories": [], "licenses": []}))
    return path


def test_pairs_of_one_annotator(tmp_path: Path) -> None:
    (report,) = convert_saco([_write(tmp_path / "a.json", PAIRS, BOXES)], tmp_path / "s.jsonl")
    found = [
        (row["query_id"], row["image_id"], row["width"], row["text"], row.get("present"), row["boxes"])
        for row in lines(tmp_path / "s.jsonl")
    ]
    assert found == [
        (1, 1, 600, "chili", None, [IN_PIXELS]),
        (2, 1, 600, "the fish ball", False, []),
        (3, 2, 300, "a bowl", None, [[150, 150, 150, 450]]),
        (4, 1, 600, "a crowd", None, []),
    ]
    assert (report.queries, report.images, report.boxes, report.absent, report.unscored) == (4, 2, 2, 1, 1)
    assert report.left_out == {NOT_EXHAUSTIVE: 1, CROWD: 1, UNKNOWN: 1}


def test_a_phrase_that_is_present_and_absent(tmp_path: Path) -> None:
    pairs = [_pair(1, "chili"), _pair(2, "chili"), _pair(3, "chili", "1/b.jpeg")]
    (report,) = convert_saco([_write(tmp_path / "a.json", pairs, [_box(2, FIRST)])], tmp_path / "s.jsonl")
    assert [(row["image_id"], row.get("present")) for row in lines(tmp_path / "s.jsonl")] == [(1, None), (2, False)]
    assert +report.left_out == {CONTRADICTED: 1}


def test_three_annotators_become_three_files_of_the_same_queries(tmp_path: Path) -> None:
    sources = [
        _write(tmp_path / "x.json", PAIRS, BOXES),
        _write(tmp_path / "y.json", [_pair(11, "the fish ball", is_instance_exhaustive=0), *PAIRS[:1], *PAIRS[2:]], []),
        _write(tmp_path / "z.json", PAIRS, [_box(12, [0, 0, 1, 1])]),
    ]
    reports = convert_saco(sources, tmp_path / "s.jsonl")
    assert [report.path.name for report in reports] == ["s-a.jsonl", "s-b.jsonl", "s-c.jsonl"]
    files = [lines(report.path) for report in reports]
    queries = [[(row["query_id"], row["image_id"], row["text"]) for row in file] for file in files]
    assert queries[0] == queries[1] == queries[2] == [(1, 1, "chili"), (2, 2, "a bowl"), (3, 1, "a crowd")]
    assert [[row["boxes"] for row in file] for file in files] == [
        [[IN_PIXELS], [[150, 150, 150, 450]], []],
        [[], [], []],
        [[], [[0, 0, 300, 600]], []],
    ]
    assert [report.absent for report in reports] == [0, 3, 2]


@pytest.mark.parametrize(
    ("pairs", "boxes", "words"),
    [
        (PAIRS, [_box(10, [266, 0, 65, 35])], r"annotations\[0\]: bbox\[0\]: Input should be less than"),
        ([*PAIRS, PAIRS[0]], [], "images: id 10 appears twice"),
        ([_pair(1, "a", width="x")], [], r"images\[0\]: width"),
        ([_pair(1, "a", is_instance_exhaustive=3)], [], r"images\[0\]: is_instance_exhaustive"),
        ([{"id": 1, "file_name": "a", "width": 5, "height": 5}], [], "text_input: Field required"),
        ([_pair(1, "a"), _pair(2, "b", width=599)], [], "image 1 is .*600.* and .*599"),
        ([], [], "has no queries"),
    ],
)
def test_other_documents_are_one_line(
    tmp_path: Path, pairs: list[dict[str, Any]], boxes: list[dict[str, Any]], words: str
) -> None:
    with pytest.raises(DataError, match=rf"a\.json: .*{words}") as error:
        convert_saco([_write(tmp_path / "a.json", pairs, boxes)], tmp_path / "s.jsonl")
    assert "\n" not in str(error.value)
    assert not (tmp_path / "s.jsonl").exists()


def test_files_of_other_subsets(tmp_path: Path) -> None:
    sources = [_write(tmp_path / "a.json", PAIRS, []), _write(tmp_path / "b.json", [_pair(10, "chilli")], [])]
    with pytest.raises(DataError, match=r"b\.json: pair 10 is not that of .*a\.json"):
        convert_saco(sources, tmp_path / "s.jsonl")
    with pytest.raises(DataError, match="annotator number 4, there are 3"):
        convert_saco(sources[:1] * 4, tmp_path / "s.jsonl")
