"""ODVG records: both dialects, errors, round trip."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ovd_bench.benchmarks.data.odvg.records import OdvgRecord, read_label_map, write_label_map, write_odvg
from ovd_bench.metrics.errors import DataError
from ovd_bench.tests.benchmarks.data.odvg.read_odvg import read_odvg

HEAD: dict[str, Any] = {"filename": "k/7.jpg", "height": 480, "width": 640}
DETECTION = HEAD | {"detection": {"instances": [{"bbox": [1, 2.5, 30, 40], "label": 3, "category": "desk lamp"}]}}
MMDET = HEAD | {
    "grounding": {
        "caption": "a girl holds two kites",
        "regions": [
            {"bbox": [30, 20, 180, 350], "phrase": "a girl", "tokens_positive": [[0, 6]]},
            {"bbox": [[200, 5, 330, 120], [0, 0, 9, 9]], "phrase": ["two kites"], "tokens_positive": [[13, 22]]},
        ],
    }
}
OGD = HEAD | {
    "grounding": {"caption": "a girl", "regions": [{"bbox": [30, 20, 180, 350], "phrase": "a girl"}]},
}


def _read(tmp_path: Path, *rows: Any) -> list[OdvgRecord]:
    path = tmp_path / "x.jsonl"
    path.write_text("".join((row if isinstance(row, str) else json.dumps(row)) + "\n" for row in rows))
    return list(read_odvg(path))


def test_both_dialects_are_read(tmp_path: Path) -> None:
    detection, mmdet, ogd = _read(tmp_path, DETECTION, "", MMDET, OGD)
    assert detection.detection is not None
    assert list(detection.detection.instances[0].bbox) == [1, 2.5, 30, 40]
    assert detection.detection.instances[0].label == 3
    assert mmdet.grounding is not None
    assert [len(region.bbox) for region in mmdet.grounding.regions] == [1, 2]
    assert [region.phrase for region in mmdet.grounding.regions] == [("a girl",), ("two kites",)]
    assert mmdet.grounding.regions[1].tokens_positive == ((13, 22),)
    assert ogd.grounding is not None
    assert ogd.grounding.regions[0].tokens_positive is None


def test_written_records_are_read_back(tmp_path: Path) -> None:
    records = _read(tmp_path, DETECTION, MMDET)
    out = tmp_path / "out.jsonl"
    assert write_odvg(out, records) == 2
    assert list(read_odvg(out)) == records
    row = json.loads(out.read_text().splitlines()[1])["grounding"]["regions"][0]
    assert row == {"bbox": [[30.0, 20.0, 180.0, 350.0]], "phrase": "a girl", "tokens_positive": [[0, 6]]}


def test_failed_write_leaves_no_file(tmp_path: Path) -> None:
    records = _read(tmp_path, MMDET, OGD)
    out = tmp_path / "out.jsonl"
    with pytest.raises(DataError, match="record 2: phrase 'a girl' has no tokens_positive"):
        write_odvg(out, records)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["x.jsonl"]


def _changed(row: dict[str, Any], path: str, value: Any) -> dict[str, Any]:
    copy: dict[str, Any] = json.loads(json.dumps(row))
    *parents, last = path.split("/")
    target: Any = copy
    for key in parents:
        target = target[int(key) if isinstance(target, list) else key]
    target[int(last) if isinstance(target, list) else last] = value
    return copy


@pytest.mark.parametrize(
    ("row", "words"),
    [
        ("{", "Invalid JSON"),
        ("[]", "object"),
        (HEAD, "either 'detection' or 'grounding'"),
        (DETECTION | {"grounding": MMDET["grounding"]}, "either 'detection' or 'grounding'"),
        (_changed(DETECTION, "height", "480"), "height"),
        (_changed(DETECTION, "width", 0), "width"),
        (_changed(DETECTION, "filename", ""), "filename"),
        (_changed(DETECTION, "detection/instances/0/label", -1), r"detection.instances.0.label"),
        (_changed(DETECTION, "detection/instances/0/label", True), r"detection.instances.0.label"),
        (_changed(DETECTION, "detection/instances/0/bbox", [1, 2, 3]), r"detection.instances.0.bbox"),
        (_changed(DETECTION, "detection/instances/0/bbox", [9, 2, 3, 4]), "is not x0, y0, x1, y1"),
        (_changed(DETECTION, "detection/instances/0/bbox/2", float("nan")), r"bbox.2"),
        (_changed(DETECTION, "detection/instances/0/bbox/2", 1e300), r"bbox.2"),
        (_changed(MMDET, "grounding/regions/0/tokens_positive", [[0, 99]]), r"\[0, 99\] is not a span"),
        (_changed(MMDET, "grounding/regions/0/tokens_positive", [[3, 3]]), r"\[3, 3\] is not a span"),
        (_changed(MMDET, "grounding/regions/0/tokens_positive", [[-4, 3]]), "tokens_positive"),
        (_changed(MMDET, "grounding/regions/0/bbox", []), "bbox"),
        (_changed(MMDET, "grounding/regions/0/phrase", []), "phrase"),
        (_changed(MMDET, "grounding/caption", None), "caption"),
    ],
)
def test_bad_line_is_named(tmp_path: Path, row: Any, words: str) -> None:
    with pytest.raises(DataError, match=rf"x\.jsonl: line 2: .*{words}") as caught:
        _read(tmp_path, DETECTION, row)
    assert len(str(caught.value).splitlines()) == 1


_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=8,
)
_PATHS = st.sampled_from(
    [
        (row, path)
        for row, paths in (
            (DETECTION, ("filename", "height", "detection", "detection/instances", "detection/instances/0")),
            (DETECTION, tuple(f"detection/instances/0/{key}" for key in ("bbox", "bbox/1", "label", "category"))),
            (MMDET, ("grounding", "grounding/caption", "grounding/regions", "grounding/regions/1")),
            (MMDET, tuple(f"grounding/regions/1/{key}" for key in ("bbox", "bbox/0", "phrase", "tokens_positive"))),
        )
        for path in paths
    ]
)


def _outcome(folder: Path, content: bytes) -> tuple[list[OdvgRecord], str | None]:
    """Records of a file, or its error, which is one printable line."""
    path = folder / "x.jsonl"
    path.write_bytes(content)
    try:
        return list(read_odvg(path)), None
    except DataError as error:
        text = str(error)
    assert text.isprintable()
    return [], text


@settings(max_examples=150, deadline=None)
@given(place=_PATHS, value=_JSON)
def test_any_value_anywhere_is_read_or_reported_in_one_line(
    tmp_path_factory: pytest.TempPathFactory, place: tuple[dict[str, Any], str], value: Any
) -> None:
    folder = tmp_path_factory.mktemp("fuzz")
    records, error = _outcome(folder, json.dumps(_changed(place[0], place[1], value)).encode())
    assert error is None or "line 1: " in error
    if all(region.tokens_positive for record in records if record.grounding for region in record.grounding.regions):
        write_odvg(folder / "again.jsonl", records)
        assert list(read_odvg(folder / "again.jsonl")) == records


@settings(max_examples=100, deadline=None)
@given(data=st.binary(max_size=200))
def test_any_bytes_are_read_or_reported_in_one_line(tmp_path_factory: pytest.TempPathFactory, data: bytes) -> None:
    records, error = _outcome(tmp_path_factory.mktemp("fuzz"), data)
    assert bool(records or error) == bool(data.strip())


def test_label_map_round_trip(tmp_path: Path) -> None:
    names = ("window", "rug", "sofá")
    write_label_map(tmp_path / "map.json", names)
    assert json.loads((tmp_path / "map.json").read_text()) == {"0": "window", "1": "rug", "2": "sofá"}
    assert read_label_map(tmp_path / "map.json") == names


@pytest.mark.parametrize(
    ("text", "words"), [("{}", "label 0 is missing"), ('{"0":"a","2":"b"}', "label 1"), ("[1]", "object"), ("", "JSON")]
)
def test_bad_label_map_is_named(tmp_path: Path, text: str, words: str) -> None:
    (tmp_path / "map.json").write_text(text)
    with pytest.raises(DataError, match=rf"map\.json: .*{words}"):
        read_label_map(tmp_path / "map.json")
