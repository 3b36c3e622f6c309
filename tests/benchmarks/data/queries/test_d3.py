"""D³: a COCO document of descriptions and the toolkit's tables, made as the toolkit makes them."""

from __future__ import annotations

import contextlib
import json
import os
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ovd_bench.benchmarks.data.queries.conversion import CROWD, NOT_ASKED
from ovd_bench.benchmarks.data.queries.d3 import Scenario, convert_d3
from ovd_bench.benchmarks.data.queries.plain_pickle import read_plain_pickle
from ovd_bench.metrics.errors import DataError
from ovd_bench.tests.benchmarks.data.queries.lines import lines

TEXTS = {
    1: "a dog on a leash",
    2: "a dog not being held by a leash",
    3: "hat",
    4: "a person who wears a red hat and holds no bag",
}
TABLES: dict[str, dict[int, dict[str, Any]]] = {
    "sentences": {
        number: {"id": number, "anno_id": [], "group_id": [0], "is_negative": number in (2, 4), "raw_sent": text}
        for number, text in TEXTS.items()
    },
    "images": {
        0: {"id": 0, "file_name": "dog/a.jpg", "height": 90, "width": 120, "anno_id": [0, 1], "group_id": 0},
        5: {"id": 5, "file_name": "hat/b.jpg", "height": 60, "width": 80, "anno_id": [2], "group_id": 1},
    },
    "groups": {
        0: {"id": 0, "pos_sent_id": [1], "inner_sent_id": [2, 1], "outer_sent_id": [3], "img_id": [0], "scene": ["d"]},
        1: {"id": 1, "pos_sent_id": [4], "inner_sent_id": [3, 4], "outer_sent_id": [], "img_id": [5], "scene": ["hat"]},
    },
}  # fmt: skip


def _box(number: int, image: int, description: int, bbox: list[int], **fields: Any) -> dict[str, Any]:
    return {
        "id": number, "image_id": image, "category_id": description, "bbox": bbox, "area": bbox[2] * bbox[3],
        "segmentation": {"size": [90, 120], "counts": "abc"}, "iscrowd": 0,
    } | fields  # fmt: skip


DOCUMENT = {
    "images": [{key: row[key] for key in ("id", "file_name", "height", "width")} for row in TABLES["images"].values()],
    "categories": [{"id": number, "name": text} for number, text in TEXTS.items()],
    "annotations": [
        _box(0, 0, 1, [1, 2, 30, 40]),
        _box(1, 0, 1, [50, 2, 30, 40]),
        _box(2, 0, 3, [5, 5, 6, 7]),
        _box(3, 5, 4, [9, 8, 7, 6]),
    ],
}


@pytest.fixture
def source(tmp_path: Path) -> Path:
    path = tmp_path / "d3_full_annotations.json"
    path.write_text(json.dumps(DOCUMENT, indent=4))
    return path


@pytest.fixture
def tables(tmp_path: Path) -> Path:
    folder = tmp_path / "d3_pkl"
    folder.mkdir()
    for name, table in TABLES.items():
        (folder / f"{name}.pkl").write_bytes(pickle.dumps(table))
    return folder


def _asked(path: Path) -> list[tuple[int, str, bool | None, list[list[float]]]]:
    return [(row["image_id"], row["text"], row.get("present"), row["boxes"]) for row in lines(path)]


def test_an_image_is_asked_the_descriptions_of_its_group(source: Path, tables: Path, tmp_path: Path) -> None:
    seen: list[int] = []
    report = convert_d3(source, tables, tmp_path / "d.jsonl", progress=seen.append)
    found = lines(tmp_path / "d.jsonl")
    assert _asked(tmp_path / "d.jsonl") == [
        (0, TEXTS[1], None, [[1, 2, 30, 40], [50, 2, 30, 40]]),
        (0, TEXTS[2], False, []),
        (5, TEXTS[3], False, []),
        (5, TEXTS[4], None, [[9, 8, 7, 6]]),
    ]
    assert [row["kinds"] for row in found] == [
        ["pres", "mid"], ["abs", "long"], ["pres", "short"], ["abs", "very-long"],
    ]  # fmt: skip
    assert found[0] | {"text": "", "kinds": [], "boxes": []} == {
        "query_id": 1, "image_id": 0, "file_name": "dog/a.jpg", "width": 120, "height": 90, "text": "", "kinds": [],
        "boxes": [],
    }  # fmt: skip
    assert (report.queries, report.images, report.boxes, report.absent, report.unscored) == (4, 2, 3, 2, 0)
    assert report.left_out == {NOT_ASKED: 1}
    assert seen == [1, 1]


def test_all_descriptions_are_asked_of_all_images(source: Path, tables: Path, tmp_path: Path) -> None:
    report = convert_d3(source, tables, tmp_path / "d.jsonl", scenario="inter")
    present = {(image, text) for image, text, known, _ in _asked(tmp_path / "d.jsonl") if known is None}
    assert present == {(0, TEXTS[1]), (0, TEXTS[3]), (5, TEXTS[4])}
    assert (report.queries, report.absent, report.left_out) == (8, 5, {})


def test_a_partition_and_a_crowd(source: Path, tables: Path, tmp_path: Path) -> None:
    crowd = _box(9, 5, 4, [9, 8, 7, 6], iscrowd=1)
    part = DOCUMENT | {"categories": DOCUMENT["categories"][1::2], "annotations": [crowd]}
    source.write_text(json.dumps(part))
    report = convert_d3(source, tables, tmp_path / "d.jsonl")
    assert _asked(tmp_path / "d.jsonl") == [(0, TEXTS[2], False, []), (5, TEXTS[4], None, [])]
    assert (report.left_out, report.unscored) == ({CROWD: 1}, 1)


def test_tables_may_be_json(source: Path, tables: Path, tmp_path: Path) -> None:
    convert_d3(source, tables, tmp_path / "d.jsonl")
    (tmp_path / "json").mkdir()
    (tmp_path / "json" / "sentences.json").write_text(json.dumps(TABLES["sentences"]))
    (tmp_path / "json" / "images.json").write_text(json.dumps(list(TABLES["images"].values())))
    (tmp_path / "json" / "groups.json").write_text(json.dumps(TABLES["groups"]))
    convert_d3(source, tmp_path / "json", tmp_path / "e.jsonl")
    assert (tmp_path / "e.jsonl").read_bytes() == (tmp_path / "d.jsonl").read_bytes()


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_pickles_of_every_protocol(tmp_path: Path, protocol: int) -> None:
    value = {1: {"a": [1, -(2**70), 2.5, None, True, "größe", ["x"]], "b": {}}, 300: [], 70_000: "x" * 300}
    (tmp_path / "t.pkl").write_bytes(pickle.dumps(value, protocol))
    assert read_plain_pickle(tmp_path / "t.pkl") == value


class _Runs:
    def __reduce__(self) -> tuple[Any, tuple[str]]:
        return os.system, ("touch pickled",)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (pickle.dumps(_Runs()), r"more than lists, dictionaries, texts and numbers \(.*t\.json beside it"),
        (pickle.dumps(_Runs(), 0), r"more than lists, .*\(GLOBAL\)"),
        (pickle.dumps({1: np.arange(3)}), "more than lists"),
        (pickle.dumps((1, 2)), r"more than lists, .*\(TUPLE2\)"),
        (b"\x80\x04]r\xff\xff\xff\x7f.", "is no pickle: 'an entry far behind the last one'"),
        (b"\x80\x04\x8a\xff\x7f\xff\xff\x7f", "is no pickle"),
        (b"\x80\x04.", "is no pickle"),
        (b"\x80\x04}]K\x01s.", "is no pickle"),
        (b"\x80\x04}(K\x01e.", "is no pickle"),
        (b"", "is no pickle"),
        (b"\xffhello", "is no pickle"),
        (pickle.dumps([1, 2])[:-1], "is no pickle"),
    ],
    ids=range(12),
)
def test_other_pickles_are_refused_in_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, content: bytes, words: str
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "t.pkl").write_bytes(content)
    with pytest.raises(DataError, match=rf"t\.pkl: .*{words}") as error:
        read_plain_pickle(tmp_path / "t.pkl")
    assert "\n" not in str(error.value)
    assert not (tmp_path / "pickled").exists()


@given(st.integers(0, 200), st.integers(0, 255), st.integers(0, 5), st.binary(max_size=40))
@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_damaged_pickles_are_values_or_refused(
    tmp_path: Path, place: int, byte: int, protocol: int, noise: bytes
) -> None:
    whole = bytearray(pickle.dumps(TABLES["images"], protocol))
    whole[place % len(whole)] = byte
    for content in (bytes(whole), b"\x80\x04" + noise + b"."):
        (tmp_path / "t.pkl").write_bytes(content)
        with contextlib.suppress(DataError):  # and nothing else
            read_plain_pickle(tmp_path / "t.pkl")


@pytest.mark.parametrize(
    ("table", "value", "scenario", "words"),
    [
        ("sentences", {1: TABLES["sentences"][1]}, "inter", "sentences has no description 2"),
        ("sentences", 7, "inter", r"sentences\.pkl: rows: Input should be a valid list"),
        ("sentences", {1: {"id": 1}}, "inter", r"sentences\.pkl: rows\.0\.is_negative: Field required"),
        ("images", {0: TABLES["images"][0]}, "intra", "images has no image 5"),
        ("groups", {0: TABLES["groups"][0]}, "intra", "groups has no group 1"),
        ("groups", [{"id": 0, "inner_sent_id": ["x"] * 9}], "intra", r"groups\.pkl: rows\.0\.inner_sent_id\.0: "),
    ],
)
def test_tables_of_another_form_are_one_line(
    source: Path, tables: Path, tmp_path: Path, table: str, value: object, scenario: Scenario, words: str
) -> None:
    (tables / f"{table}.pkl").write_bytes(pickle.dumps(value))
    with pytest.raises(DataError, match=words) as error:
        convert_d3(source, tables, tmp_path / "d.jsonl", scenario=scenario)
    assert "\n" not in str(error.value)
    assert not (tmp_path / "d.jsonl").exists()


def test_missing_and_broken_tables(source: Path, tables: Path, tmp_path: Path) -> None:
    (tables / "groups.pkl").unlink()
    with pytest.raises(DataError, match=r"groups\.pkl: cannot be read"):
        convert_d3(source, tables, tmp_path / "d.jsonl")
    (tables / "groups.json").write_text("{")
    with pytest.raises(DataError, match=r"groups\.json: is not JSON"):
        convert_d3(source, tables, tmp_path / "d.jsonl")
