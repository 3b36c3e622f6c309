"""The published rows that ship with the suite, and bad files."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from ovd_bench.benchmarks.board.published import PUBLISHED, read_published
from ovd_bench.metrics.errors import DataError

ROWS = read_published().rows


def test_every_row_says_what_it_is_and_where_it_is_from() -> None:
    for row in ROWS:
        said = f"{row.benchmark} {row.detector}"
        assert row.benchmark in {"coco", "lvis-minival", "lvis-val"}, said
        assert all(value is None or 0 < value < 100 for value in row.values.model_dump().values()), said
        assert "README" in row.source or "paper" in row.source, said
        assert row.arxiv or "/" in row.source, said
        assert row.certain or row.note, said
        assert row.checked is None or "README" in row.checked or "abstract" in row.checked, said
        if row.benchmark == "coco":
            assert row.ap_kind == "standard", said
            assert (row.values.APr, row.values.APc, row.values.APf) == (None, None, None), said


def test_one_paper_has_one_kind_of_ap_on_lvis() -> None:
    kinds: dict[str, set[str]] = {}
    for row in ROWS:
        if row.benchmark != "coco":
            kinds.setdefault(row.arxiv or row.source, set()).add(row.ap_kind)
    assert {source: found for source, found in kinds.items() if len(found) > 1} == {}


def test_no_table_mixes_kinds_of_ap() -> None:
    tables = read_published().tables()
    assert sum(len(table.rows) for table in tables) == len(ROWS)
    keys = [(table.benchmark, table.ap_kind) for table in tables]
    assert len(set(keys)) == len(keys)
    assert {table.title for table in tables} >= {"lvis-minival, fixed AP", "lvis-val, AP", "coco, AP"}
    for table in tables:
        assert {(row.benchmark, row.ap_kind) for row in table.rows} == {(table.benchmark, table.ap_kind)}


@pytest.mark.parametrize(
    ("detector", "coco", "minival", "val"),
    [
        ("DINO-X Pro", 56.0, (59.8, 63.3), (52.4, 56.5)),
        ("Grounding DINO 1.6 Pro", 55.4, (57.7, 57.5), (51.1, 51.5)),
        ("Grounding DINO 1.5 Pro", 54.3, (55.7, 56.1), (47.6, 44.6)),
        ("T-Rex2 (text prompts)", 52.2, (54.9, 49.2), (45.8, 42.7)),
        ("DetCLIPv3 Swin-L", None, (48.8, 49.9), (41.4, 41.4)),
        ("LLMDet Swin-B", None, (48.3, 40.8), (38.5, 28.2)),
        ("LLMDet Swin-L", None, (51.1, 45.1), (42.0, 31.6)),
        ("YOLOE-v8-S", None, (27.9, 22.3), None),
        ("YOLOE-v8-M", None, (32.6, 26.9), None),
        ("YOLOE-v8-L", None, (35.9, 33.2), None),
        ("SAM 3", 56.4, None, (53.6, None)),
    ],
)
def test_rows_that_were_compared_with_a_document(
    detector: str,
    coco: float | None,
    minival: tuple[float, float] | None,
    val: tuple[float, float | None] | None,
) -> None:
    rows = {row.benchmark: row for row in ROWS if row.detector == detector and row.setting == "zero-shot"}
    expected = {"coco": coco and (coco, None), "lvis-minival": minival, "lvis-val": val}
    found = {name: (row.values.AP, row.values.APr) for name, row in rows.items()}
    assert found == {name: values for name, values in expected.items() if values is not None}
    assert all(row.checked for row in rows.values())


def test_a_file_from_before_checks_were_kept_loads(tmp_path: Path) -> None:
    document = json.loads(PUBLISHED.read_text())
    for row in document["rows"]:
        del row["checked"]
    (tmp_path / "published.json").write_text(json.dumps(document))
    assert {row.checked for row in read_published(tmp_path / "published.json").rows} == {None}


def test_no_row_is_there_twice() -> None:
    keys = [(row.benchmark, row.detector, row.setting, tuple(row.training_data), row.note) for row in ROWS]
    assert len(set(keys)) == len(keys)


@pytest.mark.parametrize(
    ("setting", "data", "values"),
    [
        ("zero-shot", ["O365", "GoldG"], (25.6, 14.4, 19.6, 32.2)),
        ("fine-tuned", ["O365", "GoldG", "LVIS"], (52.1, 35.4, 51.3, 55.7)),
    ],
)
def test_the_reference_points_of_grounding_dino(setting: str, data: list[str], values: tuple[float, ...]) -> None:
    found = [
        tuple(row.values.model_dump().values())
        for row in ROWS
        if (row.detector, row.benchmark, row.setting, row.training_data)
        == ("Grounding DINO-T", "lvis-minival", setting, data)
    ]
    assert found == [values]


def test_groups_have_zero_shot_first_and_the_best_first() -> None:
    for table in read_published().tables():
        order = [(["zero-shot", "fine-tuned", "supervised"].index(row.setting), -row.values.AP) for row in table.rows]
        assert order == sorted(order)


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        ({"ap_kind": "guessed"}, "rows.0.ap_kind"),
        ({"source": ""}, "rows.0.source"),
        ({"values": {"AP": 101.0, "APr": None, "APc": None, "APf": None}}, "rows.0.values.AP"),
        ({"colour": "red"}, "rows.0.colour"),
    ],
)
def test_bad_rows_are_refused_in_one_line(tmp_path: Path, change: dict[str, Any], complaint: str) -> None:
    document = json.loads(PUBLISHED.read_text())
    document["rows"] = [document["rows"][0] | change]
    path = tmp_path / "published.json"
    path.write_text(json.dumps(document))
    with pytest.raises(DataError, match=complaint) as caught:
        read_published(path)
    assert "\n" not in str(caught.value)
