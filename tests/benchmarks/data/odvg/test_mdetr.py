"""GoldG: documents of MDETR, written by hand with the fields of the published files."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ovd_bench.benchmarks.data.odvg.conversion import CROWD, DUPLICATE, NO_AREA, OUTSIDE
from ovd_bench.benchmarks.data.odvg.mdetr import EMPTY, NO_CAPTION, NO_SPAN, SPAN_OUTSIDE, convert_goldg
from ovd_bench.benchmarks.data.odvg.records import Region
from ovd_bench.metrics.errors import DataError
from ovd_bench.tests.benchmarks.data.catalog.made import write_json
from ovd_bench.tests.benchmarks.data.odvg.read_odvg import read_odvg

CAPTION = "The old man greets a man. A dog, and a cat"


def _image(number: int, caption: str, **fields: Any) -> dict[str, Any]:
    """As in ``final_mixed_train.json``; Flickr30k's sizes are texts."""
    return {
        "file_name": f"{number}.jpg",
        "height": 375,
        "width": 500,
        "id": number,
        "original_id": 2350687,
        "caption": caption,
        "tokens_negative": [[0, len(caption)]],
        "data_source": "gqa",
        "dataset_name": "mixed",
    } | fields


def _box(image: int, bbox: list[float], spans: list[list[int]], **fields: Any) -> dict[str, Any]:
    area = bbox[2] * bbox[3]
    return {
        "area": area,
        "iscrowd": 0,
        "image_id": image,
        "category_id": 1,
        "id": int(area),
        "bbox": bbox,
        "tokens_positive": spans,
    } | fields


DOCUMENT = {
    "info": [],
    "licenses": [],
    "images": [
        _image(20, CAPTION, height="375", width="500"),
        _image(5, "nothing here"),
        _image(7, "two größere dogs"),
    ],
    "annotations": [
        _box(7, [10, 10, 20, 20], [[0, 16]]),
        _box(20, [1, 2, 30, 40], [[0, 3], [4, 7], [8, 11]]),
        _box(20, [100, 2, 30, 40], [[19, 24]]),
        _box(20, [100, 2, 30, 40], [[19, 24]]),
        _box(20, [490, -5, 30, 40], [[0, 11]]),
        _box(20, [5, 5, 50, 50], [[37, 42], [26, 31]]),
        _box(20, [5, 5, 50, 50], []),
        _box(20, [5, 5, 50, 50], [[40, 43]]),
        _box(20, [5, 5, 50, 50], [[4, 4]]),
        _box(20, [5, 5, 50, 50], [[0, 3]], iscrowd=1),
        _box(20, [5, 5, 0, 50], [[0, 3]]),
        _box(5, [600, 5, 9, 9], [[0, 7]]),
        _box(99, [5, 5, 9, 9], [[0, 7]]),
    ],
    "categories": [{"supercategory": "object", "id": 1, "name": "object"}],
}


def _convert(tmp_path: Path, document: dict[str, Any]) -> Any:
    return convert_goldg(write_json(tmp_path / "goldg.json", document), tmp_path / "goldg.jsonl")


def test_spans_boxes_and_counts(tmp_path: Path) -> None:
    report = _convert(tmp_path, DOCUMENT)
    first, second = read_odvg(tmp_path / "goldg.jsonl")
    assert (first.filename, first.width, first.height) == ("20.jpg", 500, 375)
    assert first.grounding is not None
    assert second.grounding is not None
    assert first.grounding.caption == CAPTION
    other = (100.0, 2.0, 130.0, 42.0)
    assert first.grounding.regions == (
        Region(
            bbox=((1.0, 2.0, 31.0, 42.0), (490.0, 0.0, 500.0, 35.0)),
            phrase=("The old man",),
            tokens_positive=((0, 11),),
        ),
        Region(bbox=(other,), phrase=("a man",), tokens_positive=((19, 24),)),
        Region(bbox=((5.0, 5.0, 55.0, 55.0),), phrase=("A dog", "a cat"), tokens_positive=((26, 31), (37, 42))),
    )
    assert [region.phrase for region in second.grounding.regions] == [("two größere dogs",)]
    assert +report.dropped == {
        DUPLICATE: 1,
        NO_SPAN: 1,
        SPAN_OUTSIDE: 2,
        CROWD: 1,
        NO_AREA: 1,
        OUTSIDE: 1,
        NO_CAPTION: 1,
    }
    assert report.left_out == {EMPTY: 1}
    assert (report.records, report.phrases, report.boxes, report.clipped) == (2, 4, 5, 1)
    assert report.boxes + sum(report.dropped.values()) == len(DOCUMENT["annotations"])


@pytest.mark.parametrize("order", [("annotations", "images"), ("images", "annotations")])
def test_order_of_the_sections_does_not_matter(tmp_path: Path, order: tuple[str, str]) -> None:
    report = _convert(tmp_path, {key: DOCUMENT[key] for key in order})
    assert report.sha256 == _convert(tmp_path, DOCUMENT).sha256


@pytest.mark.parametrize(
    ("section", "field", "value", "words"),
    [
        ("images", "height", "tall", r"images\[1\]: height"),
        ("images", "width", 0, r"images\[1\]: width"),
        ("images", "id", 20, r"images\[1\]: id: 20 appears twice"),
        ("images", "caption", None, r"images\[1\]: caption"),
        ("images", "file_name", "", r"images\[1\]: file_name"),
        ("annotations", "image_id", "x", r"annotations\[1\]: image_id"),
        ("annotations", "bbox", [1, 2, 3], r"annotations\[1\]: bbox"),
        ("annotations", "bbox", [1, 2, 3, float("inf")], r"annotations\[1\]: .*bbox|annotations\[1\]: .*JSON"),
        ("annotations", "tokens_positive", [[1]], r"annotations\[1\]: tokens_positive"),
    ],
)
def test_bad_records_are_named(tmp_path: Path, section: str, field: str, value: Any, words: str) -> None:
    document = json.loads(json.dumps(DOCUMENT))
    document[section][1][field] = value
    with pytest.raises(DataError, match=rf"goldg\.json: {words}"):
        _convert(tmp_path, document)
    assert not (tmp_path / "goldg.jsonl").exists()


def test_what_is_no_document(tmp_path: Path) -> None:
    source, target = tmp_path / "goldg.json", tmp_path / "goldg.jsonl"
    for content, words in (("[]", "expected one JSON object"), ("{}", "images: a list"), ("", "is empty")):
        source.write_text(content)
        with pytest.raises(DataError, match=words):
            convert_goldg(source, target)
    with pytest.raises(DataError, match="no such file"):
        convert_goldg(tmp_path / "none.json", target)


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_changed_files_are_converted_or_reported_in_one_line(tmp_path: Path, data: st.DataObject) -> None:
    content = bytearray(json.dumps(DOCUMENT).encode())
    place = data.draw(st.integers(0, len(content) - 1))
    content[place : place + data.draw(st.integers(0, 20))] = data.draw(st.binary(max_size=12))
    (tmp_path / "f.json").write_bytes(content)
    try:
        report = convert_goldg(tmp_path / "f.json", tmp_path / "f.jsonl")
    except DataError as error:
        problem = str(error)
        assert problem.isprintable(), problem
    else:
        assert len(list(read_odvg(tmp_path / "f.jsonl"))) == report.records
