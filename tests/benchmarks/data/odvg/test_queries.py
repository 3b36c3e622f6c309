"""Training records of files of queries."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from ovd_bench.benchmarks.data.odvg.conversion import DUPLICATE, OUTSIDE
from ovd_bench.benchmarks.data.odvg.queries import ABSENT, EMPTY, UNSCORED, convert_queries
from ovd_bench.metrics.errors import DataError
from ovd_bench.tests.benchmarks.data.odvg.read_odvg import read_odvg

TEXT = "a man holds a red kite"


def write(path: Path, *lines: dict[str, Any]) -> Path:
    base = {"image_id": 1, "file_name": "1.jpg", "width": 100, "height": 80, "text": TEXT, "boxes": []}
    rows = [base | {"query_id": number} | line for number, line in enumerate(lines, 1)]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def test_one_record_per_image_and_text(tmp_path: Path) -> None:
    other = {"image_id": 2, "file_name": "b/2.jpg", "width": 60, "height": 50}
    source = write(
        tmp_path / "q.jsonl",
        {"spans": [[0, 5]], "boxes": [[10, 20, 30, 40]]},
        {"text": "dog", "boxes": [[0, 0, 5, 5]]},
        {"spans": [[12, 22]], "boxes": [[1, 2, 3, 4], [90, 70, 20, 20], [1, 2, 3, 4]], "exhaustive": False},
        {"spans": [[14, 17]], "present": False},
        {**other, "boxes": [[5, 5, 10, 10]]},
        {**other, "text": "cat", "present": False},
        {**other, "text": "owl"},
        {"text": "dog", "boxes": [[200, 0, 5, 5]], "spans": [[0, 1]]},
    )
    report = convert_queries(source, tmp_path / "o.jsonl")
    first, second, third = read_odvg(tmp_path / "o.jsonl")
    assert first.grounding is not None
    assert (first.filename, first.width, first.height) == ("1.jpg", 100, 80)
    assert first.grounding.caption == TEXT
    man, kite = first.grounding.regions
    assert (man.phrase, man.tokens_positive, man.bbox) == (("a man",), ((0, 5),), ((10, 20, 40, 60),))
    assert (kite.phrase, kite.tokens_positive) == (("a red kite",), ((12, 22),))
    assert list(kite.bbox) == [(1, 2, 4, 6), (90, 70, 100, 80)]
    assert second.grounding is not None
    assert [region.tokens_positive for region in second.grounding.regions] == [((0, 3),)]
    assert third.grounding is not None
    assert (third.filename, third.grounding.regions[0].phrase) == ("b/2.jpg", (TEXT,))
    assert (report.records, report.boxes, report.phrases, report.clipped) == (3, 5, 4, 1)
    assert +report.dropped == {DUPLICATE: 1, OUTSIDE: 1}
    assert +report.left_out == {ABSENT: 2, UNSCORED: 1, EMPTY: 2}
    assert report.notes == ["1 queries may have more boxes than the file gives: a training takes these for background"]


@pytest.mark.parametrize(
    ("lines", "problem"),
    [
        ([{"width": 0}], "line 1: width and height are missing"),
        ([{"spans": [[0, 99]], "boxes": [[0, 0, 1, 1]]}], "line 1: "),
        ([{}, {"query_id": 1}], "line 2: query_id: 1 is on line 1 already"),
        ([{}, {"width": 50}], "line 2: image 1 has another file_name, width or height"),
        ([], "has no queries"),
    ],
)
def test_a_wrong_file_is_one_line(tmp_path: Path, lines: list[dict[str, Any]], problem: str) -> None:
    source = write(tmp_path / "q.jsonl", *lines)
    with pytest.raises(DataError) as caught:
        convert_queries(source, tmp_path / "o.jsonl")
    assert str(caught.value).startswith(f"{source}: ")
    assert problem in str(caught.value)
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "o.jsonl").exists()


def test_the_source_is_not_overwritten(tmp_path: Path) -> None:
    source = write(tmp_path / "q.jsonl", {"boxes": [[0, 0, 5, 5]]})
    with pytest.raises(DataError, match="is the file that is read"):
        convert_queries(source, source)
