"""The suite's file of queries: what it means, and one line for whatever is wrong with it."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest

from ovd_bench.benchmarks.data.files.annotations import read_ground_truth
from ovd_bench.benchmarks.data.files.queries import QueryLine, holds_queries, read_queries, write_queries
from ovd_bench.detectors.types import Question
from ovd_bench.metrics.errors import DataError

CAPTION = "A man in a red hat rides a horse."
LINE: dict[str, Any] = {
    "query_id": 1, "image_id": 5, "file_name": "a.jpg", "width": 60, "height": 40, "text": CAPTION,
    "spans": [[0, 5]], "kinds": ["people"], "boxes": [[1, 2, 3, 4], [10, 2, 3, 4]],
}  # fmt: skip


def written(folder: Path, *changes: dict[str, Any]) -> Path:
    path = folder / "queries.jsonl"
    path.write_text("".join(json.dumps(LINE | change) + "\n" for change in changes))
    return path


def test_questions_are_phrases_of_captions_or_whole_texts(tmp_path: Path) -> None:
    elsewhere = {"image_id": 2, "file_name": "b.jpg", "spans": [], "boxes": []}
    path = written(
        tmp_path,
        {},
        {"query_id": 2, "spans": [[9, 18], [0, 5]]},
        {"query_id": 3, "spans": [], "text": "the horse", "exhaustive": False},
        elsewhere | {"query_id": 4, "text": "the horse", "present": False},
        elsewhere | {"query_id": 5},
    )
    read = read_queries(path)
    assert read.questions == (
        Question(CAPTION, ((0, 5),)),
        Question(CAPTION, ((0, 5), (9, 18))),
        Question("the horse"),
        Question(CAPTION),
    )
    truth = read.queries.truth
    assert truth.categories.names == ("A man", "A man a red hat", "the horse", CAPTION)
    assert truth.image_ids.tolist() == [2, 5]
    assert [truth.neg[image].tolist() for image in range(2)] == [[2], []]
    assert [truth.not_exhaustive[image].tolist() for image in range(2)] == [[], [2]]
    assert truth.boxes_xywh[truth.class_index == 1].tolist() == LINE["boxes"]
    assert read.queries.present.tolist() == [True, True, True, False, False]
    assert read.queries.absent.tolist() == [False, False, False, True, False]
    assert read_ground_truth(path).class_index.tolist() == truth.class_index.tolist()


def test_what_is_written_is_read_again(tmp_path: Path) -> None:
    lines = [
        QueryLine(query_id=1, image_id=5, file_name="ä.jpg", text="日本の猫", spans=[(3, 4)], boxes=[(1, 2, 3.5, 4)]),
        QueryLine(query_id=2, image_id=5, file_name="ä.jpg", text="x", present=False, exhaustive=False, kinds=["k"]),
        QueryLine(query_id=3, image_id=6, file_name="b.jpg", width=3, height=4, text="x", boxes=[]),
    ]
    path = tmp_path / "q.jsonl"
    assert write_queries(path, lines) == 3
    read = read_queries(path)
    assert read.questions == (Question("日本の猫", ((3, 4),)), Question("x"))
    assert read.queries.truth.image_sizes.tolist() == [[0, 0], [3, 4]]
    assert read.queries.kind_names == ("k",)
    assert [sorted(json.loads(line)) for line in path.read_text().splitlines()] == [
        ["boxes", "file_name", "image_id", "query_id", "spans", "text"],
        ["boxes", "exhaustive", "file_name", "image_id", "kinds", "present", "query_id", "text"],
        ["boxes", "file_name", "height", "image_id", "query_id", "text", "width"],
    ]


@pytest.mark.parametrize(
    ("change", "place"),
    [
        ({"query_id": "1"}, "query_id"),
        ({"text": " \t"}, "text"),
        ({"text": ""}, "text"),
        ({"spans": [[3, 99]]}, "spans"),
        ({"spans": [[5, 6]]}, "spans"),
        ({"spans": [[0, 5], [3, 8]]}, "spans"),
        ({"boxes": [[1, 2, -3, 4]]}, "boxes"),
        ({"boxes": [[1, 2, 3, float("nan")]]}, ""),
        ({"boxes": [[1, 2, 3]]}, "boxes"),
        ({"present": False}, "present"),
        ({"present": True, "boxes": []}, "present"),
        ({"file_name": ""}, "file_name"),
        ({"colour": "red"}, "colour"),
        ({"query_id": 1}, "query_id"),
        ({"query_id": 3, "file_name": "c.jpg"}, "image 5"),
        ({"query_id": 3, "width": 61}, "image 5"),
    ],
)
def test_an_error_names_its_line_and_field(tmp_path: Path, change: dict[str, Any], place: str) -> None:
    path = written(tmp_path, {}, {"query_id": 2} | change)
    with pytest.raises(DataError, match=f"line 2.*{place}") as caught:
        read_queries(path)
    assert "\n" not in str(caught.value)


def test_a_text_cannot_be_there_and_not_there(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="both present and absent"):
        read_queries(written(tmp_path, {}, {"query_id": 2, "present": False, "boxes": []}))


def test_a_pipe_is_refused_and_not_waited_for(tmp_path: Path) -> None:
    path = tmp_path / "pipe.jsonl"
    os.mkfifo(path)
    assert not holds_queries(path)
    with pytest.raises(DataError, match="is not a regular file"):
        read_queries(path)


@pytest.mark.parametrize("content", [b"", b"\n", b"[]\n", b"{\n", b"\xff\xfe\n", b'{"query_id": ' + b"1" * 5000 + b"}"])
def test_other_files_are_one_line(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "q.jsonl"
    path.write_bytes(content)
    with pytest.raises(DataError) as caught:
        read_queries(path)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)
