"""Readers of phrase-grounding files: round trips, and one-line errors for files that are not what they should be."""

from __future__ import annotations

import json
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ovd_bench.benchmarks.data.files import grounding as files
from ovd_bench.benchmarks.data.files.grounding import (
    read_mdetr_expressions,
    read_mdetr_phrases,
    read_predictions,
    read_truth,
)
from ovd_bench.metrics.errors import DataError
from ovd_bench.metrics.grounding import evaluate_grounding

TRUTH = [
    {
        "phrase_id": 9,
        "image_id": 5,
        "entity_types": ["people", "other", "people"],
        "boxes": [[1, 2.5, 3, 4], [0, 0, 9, 9]],
    },
    {"phrase_id": -2, "image_id": 5, "boxes": []},
    {"phrase_id": 4, "image_id": 6, "entity_types": ["clothing"], "boxes": [[10, 10, 0, 4]]},
]
PREDICTIONS = [
    {"phrase_id": 9, "boxes": [[1, 2, 3, 4], [0, 0, 9, 8]], "scores": [0.25, 1]},
    {"phrase_id": 4, "boxes": [], "scores": []},
    {"phrase_id": -2, "boxes": [[5, 5, -1, 1e3]], "scores": [-3.5]},
]
EXPRESSIONS = {
    "info": {},
    "images": [
        {
            "id": 30,
            "original_id": 7,
            "caption": "left man",
            "dataset_name": "refcoco",
            "file_name": "a.jpg",
            "height": 4,
        },
        {"id": 20, "original_id": 7, "caption": "cat", "dataset_name": "refcocog", "tokens_negative": [[0, 3]]},
        {"id": 10, "caption": "dog"},
    ],
    "annotations": [
        {"id": 1, "image_id": 10, "bbox": [1, 1, 5, 5], "tokens_positive": [[0, 3]], "category_id": 1, "area": 25},
        {"id": 2, "image_id": 30, "bbox": [3, 3, 5, 5], "tokens_positive": [[0, 8]], "iscrowd": 0},
        {"id": 3, "image_id": 20, "bbox": [2, 2, 5.5, 5], "tokens_positive": []},
    ],
    "categories": [],
}
CAPTION = "A man in a hat and a dog"
PHRASES = {
    "images": [
        {
            "id": 1,
            "original_img_id": 77,
            "sentence_id": 0,
            "height": "375",
            "caption": CAPTION,
            "tokens_positive_eval": [[[0, 5]], [[9, 14]], [[0, 5], [19, 24]]],
        },
        {"id": 0, "original_img_id": 77, "caption": "x y", "tokens_positive_eval": [[[2, 3]]]},
        {"id": 2, "original_img_id": 78, "caption": "nothing", "tokens_positive_eval": []},
    ],
    "annotations": [
        {"image_id": 1, "bbox": [0, 0, 1, 1], "tokens_positive": [[0, 5]]},
        {"image_id": 1, "bbox": [0, 0, 2, 2], "tokens_positive": [[9, 14], [0, 5]]},
        {"image_id": 1, "bbox": [0, 0, 3, 3], "tokens_positive": [[0, 5], [19, 24]]},
        {"image_id": 0, "bbox": [0, 0, 4, 4], "tokens_positive": [[0, 1]]},
    ],
}


@pytest.fixture
def lines(tmp_path: Path) -> Callable[[list[Any]], Path]:
    def write(records: list[Any]) -> Path:
        path = tmp_path / "file.jsonl"
        path.write_text("".join(json.dumps(record) + "\n" for record in records))
        return path

    return write


@pytest.fixture
def document(tmp_path: Path) -> Callable[[Any], Path]:
    def write(value: Any) -> Path:
        path = tmp_path / "mdetr.json"
        path.write_text(json.dumps(value))
        return path

    return write


def changed(records: Any, *edits: tuple[tuple[int | str, ...], Any]) -> Any:
    """A deep copy with values replaced (or, for the value ``...``, removed) at the given places."""
    copy = json.loads(json.dumps(records))
    for place, value in edits:
        target = copy
        for step in place[:-1]:
            target = target[step]
        if value is ...:
            del target[place[-1]]
        else:
            target[place[-1]] = value
    return copy


def test_truth(lines: Callable[[list[Any]], Path]) -> None:
    truth = read_truth(lines(TRUTH))
    assert truth.phrase_ids.tolist() == [-2, 4, 9]
    assert truth.image_id.tolist() == [5, 6, 5]
    assert truth.box_offsets.tolist() == [0, 0, 1, 3]
    assert truth.boxes_xywh.tolist() == [[10, 10, 0, 4], [1, 2.5, 3, 4], [0, 0, 9, 9]]
    assert truth.type_names == ("clothing", "other", "people")
    assert [truth.types[i].tolist() for i in range(3)] == [[], [0], [2, 1]]


def test_predictions(lines: Callable[[list[Any]], Path]) -> None:
    predictions = read_predictions(lines(PREDICTIONS))
    assert predictions.phrase_id.tolist() == [9, 9, -2]
    assert predictions.score.tolist() == [0.25, 1.0, -3.5]
    assert predictions.boxes_xywh.tolist() == [[1, 2, 3, 4], [0, 0, 9, 8], [5, 5, -1, 1000]]
    assert predictions.phrase_id.dtype == np.int64
    assert predictions.score.dtype == predictions.boxes_xywh.dtype == np.float64


def test_files_can_be_scored(lines: Callable[[list[Any]], Path]) -> None:
    truth = read_truth(lines(TRUTH))
    metrics = evaluate_grounding(truth, read_predictions(lines(PREDICTIONS))).metrics
    assert metrics["grounding/R@1_any"] == 0.5
    assert metrics["grounding/R@1_any/people"] == 1.0
    assert metrics["grounding/R@1_any/clothing"] == 0.0


def test_last_line_needs_no_line_end_and_a_file_without_boxes_is_fine(tmp_path: Path) -> None:
    path = tmp_path / "file.jsonl"
    path.write_text('{"phrase_id": 1, "boxes": [], "scores": []}')
    assert len(read_predictions(path)) == 0
    path.write_text('{"phrase_id": 1, "image_id": 1, "boxes": []}\r\n')
    assert len(read_truth(path)) == 1


@pytest.mark.parametrize(
    ("edits", "message"),
    [
        ([((1, "image_id"), "5")], "line 2: image_id: Input should be a valid integer"),
        ([((1, "image_id"), True)], "line 2: image_id: Input should be a valid integer"),
        ([((0, "phrase_id"), 2.5)], "line 1: phrase_id: Input should be a valid integer"),
        ([((0, "phrase_id"), 2**63)], "line 1: phrase_id: Input should be less than"),
        ([((0, "phrase_id"), ...)], "line 1: phrase_id: Field required"),
        ([((0, "boxes", 1), [1, 2, 3])], "line 1: boxes[1][3]: Field required"),
        ([((0, "boxes", 1), [1, 2, 3, 4, 5])], "line 1: boxes[1]: Tuple should have at most 4 items"),
        ([((0, "boxes", 1, 2), "3")], "line 1: boxes[1][2]: Input should be a valid number"),
        ([((0, "boxes", 1, 2), -1)], "line 1: boxes[1][2]: Input should be greater than or equal to 0"),
        ([((0, "boxes", 1, 0), float("nan"))], "line 1: boxes[1][0]: Input should be a finite number"),
        ([((0, "boxes", 1, 0), float("-inf"))], "line 1: boxes[1][0]: Input should be a finite number"),
        ([((0, "boxes", 1, 0), 1e101)], "line 1: boxes[1][0]: Input should be less than"),
        ([((0, "boxes"), None)], "line 1: boxes: Input should be a valid array"),
        ([((2, "entity_types"), ["a", ""])], "line 3: entity_types[1]: String should have at least 1 character"),
        ([((2, "entity_types"), "people")], "line 3: entity_types: Input should be a valid array"),
        ([((2, "bbox"), [])], "line 3: bbox: unknown key"),
        ([((2, "a\nb" + "c" * 99), 1)], "line 3: a\\nbccccccccccccc"),
        ([((2, "phrase_id"), 9)], "line 3: phrase_id: 9 is on line 1 already"),
        ([((1,), 7)], "line 2: Input should be an object"),
    ],
)
def test_bad_truth(
    lines: Callable[[list[Any]], Path], edits: list[tuple[tuple[int | str, ...], Any]], message: str
) -> None:
    path = lines(changed(TRUTH, *edits))
    with pytest.raises(DataError) as error:
        read_truth(path)
    assert str(error.value).startswith(f"{path}: {message}")
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("edits", "message"),
    [
        ([((0, "scores"), [0.5])], "line 1: scores has 1 numbers, boxes has 2"),
        ([((0, "scores", 0), None)], "line 1: scores[0]: Input should be a valid number"),
        ([((0, "scores", 0), float("inf"))], "line 1: scores[0]: Input should be a finite number"),
        ([((2, "boxes", 0, 3), False)], "line 3: boxes[0][3]: Input should be a valid number"),
        ([((2, "phrase_id"), 4)], "line 3: phrase_id: 4 is on line 2 already"),
    ],
)
def test_bad_predictions(
    lines: Callable[[list[Any]], Path], edits: list[tuple[tuple[int | str, ...], Any]], message: str
) -> None:
    path = lines(changed(PREDICTIONS, *edits))
    with pytest.raises(DataError) as error:
        read_predictions(path)
    assert str(error.value).startswith(f"{path}: {message}")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "the file is empty"),
        (b"\n", "line 1: Invalid JSON"),
        (b'{"phrase_id": 1, "bo', "line 1: Invalid JSON: EOF"),
        (b'{"phrase_id": 1, "boxes": [], "scores": []}\n\n', "line 2: Invalid JSON"),
        (b'{"phrase_id": 1, "boxes": [], "scores": []} {}\n', "line 1: Invalid JSON: trailing characters"),
        (b"[]\n", "line 1: Input should be an object"),
        (b"\xff\xfe{\x00}\x00", "line 1: Invalid JSON"),
        (b"\x1f\x8b\x08\x00\x00", "line 1: Invalid JSON"),
        (b'{"phrase_id": 1, "boxes": [], "scores": [1e999]}', "line 1: scores[0]: Input should be a finite number"),
        (b"[" * 100_000, "line 1: Invalid JSON: recursion limit exceeded"),
    ],
)
def test_files_of_another_kind(tmp_path: Path, content: bytes, message: str) -> None:
    path = tmp_path / "file.jsonl"
    path.write_bytes(content)
    with pytest.raises(DataError) as error:
        read_predictions(path)
    assert str(error.value).startswith(f"{path}: {message}")
    assert "\n" not in str(error.value)


def test_an_endless_line_is_refused_unread(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(files, "MAX_RECORD_BYTES", 100)
    path = tmp_path / "file.jsonl"
    line = json.dumps(PREDICTIONS[1]).encode()
    path.write_bytes(line + b"\n" + b" " * (101 - len(line)) + line)
    with pytest.raises(DataError, match="line 2: longer than 100 bytes"):
        read_predictions(path)


@pytest.mark.parametrize("read", [read_truth, read_predictions, read_mdetr_expressions, read_mdetr_phrases])
def test_unreadable_paths(tmp_path: Path, read: Callable[[Path], object]) -> None:
    with pytest.raises(DataError, match="cannot be read: No such file"):
        read(tmp_path / "missing.json")
    with pytest.raises(DataError, match="cannot be read: Is a directory"):
        read(tmp_path)


def test_expressions(document: Callable[[Any], Path]) -> None:
    truth = read_mdetr_expressions(document(EXPRESSIONS))
    assert truth.phrase_ids.tolist() == [10, 20, 30]
    assert truth.image_id.tolist() == [10, 7, 7]
    assert truth.boxes_xywh.tolist() == [[1, 1, 5, 5], [2, 2, 5.5, 5], [3, 3, 5, 5]]
    assert truth.type_names == ("refcoco", "refcocog")
    assert [truth.types[i].tolist() for i in range(3)] == [[], [1], [0]]


def test_phrases(document: Callable[[Any], Path]) -> None:
    truth = read_mdetr_phrases(document(PHRASES))
    assert truth.phrase_ids.tolist() == [0, 1, 2, 3]
    assert truth.image_id.tolist() == [77] * 4
    boxes = [truth.boxes_xywh[a:b, 2].tolist() for a, b in zip(truth.box_offsets, truth.box_offsets[1:], strict=False)]
    assert boxes == [[1, 2, 3], [2], [3], []]
    assert truth.type_names == ()


@pytest.mark.parametrize(
    ("read", "content", "message"),
    [
        (read_mdetr_expressions, [], "expected one JSON object with images and annotations"),
        (read_mdetr_expressions, {"images": []}, "annotations: a list is required"),
        (read_mdetr_expressions, {"images": [], "annotations": []}, "images: the list is empty"),
        (
            read_mdetr_expressions,
            changed(EXPRESSIONS, (("annotations", 1, "image_id"), 10)),
            "images[0]: id: caption 30 has 0 annotations",
        ),
        (
            read_mdetr_expressions,
            changed(EXPRESSIONS, (("annotations", 1, "image_id"), 31)),
            "annotations[1]: image_id: 31 is not among images",
        ),
        (read_mdetr_expressions, changed(EXPRESSIONS, (("images", 1, "id"), 30)), "images[1]: id: 30 appears twice"),
        (
            read_mdetr_expressions,
            changed(EXPRESSIONS, (("annotations", 2, "bbox", 1), "2")),
            "annotations[2]: bbox[1]: Input should be a valid number",
        ),
        (
            read_mdetr_expressions,
            changed(EXPRESSIONS, (("annotations", 2, "tokens_positive"), [[-1, 2]])),
            "annotations[2]: tokens_positive[0][0]: Input should be greater than or equal to 0",
        ),
        (
            read_mdetr_expressions,
            changed(EXPRESSIONS, (("images", 2, "caption"), None)),
            "images[2]: caption: Input should be a valid string",
        ),
        (read_mdetr_phrases, EXPRESSIONS, "images[0]: tokens_positive_eval: Field required"),
        (
            read_mdetr_phrases,
            changed(PHRASES, (("images", 0, "tokens_positive_eval", 1, 0), [9, 99])),
            "images[0]: tokens_positive_eval[1]: span outside the caption",
        ),
        (
            read_mdetr_phrases,
            changed(PHRASES, (("images", 0, "tokens_positive_eval", 1, 0), [9, 9])),
            "images[0]: tokens_positive_eval[1]: span outside the caption",
        ),
        (
            read_mdetr_phrases,
            changed(PHRASES, (("images", 1, "tokens_positive_eval", 0), [])),
            "images[1]: tokens_positive_eval[0]: List should have at least 1 item",
        ),
        (
            read_mdetr_phrases,
            changed(PHRASES, (("images", 0), ...), (("images", 0), ...), (("annotations",), [])),
            "no phr",
        ),
    ],
)
def test_bad_documents(
    document: Callable[[Any], Path], read: Callable[[Path], object], content: Any, message: str
) -> None:
    path = document(content)
    with pytest.raises(DataError) as error:
        read(path)
    assert str(error.value).startswith(f"{path}: {message}")
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "the JSON ends too early"),
        (b"null", "images: a list is required"),
        (b"[1]", "expected one JSON object with images and annotations"),
        (b'x{"images": []}', "expected one JSON object with images and annotations"),
        (b'{"images": [{"id": 1', "the JSON ends too early"),
        (b'{"images": [{"id": "1', "the JSON ends too early"),
        (b'{"images": [], "annotations": []', "the JSON ends too early"),
        (b'{"images": [], "annotations": []} {}', "one JSON object is needed and nothing after it"),
        (b'{"images": [], "annotations": []]', "one JSON object is needed and nothing after it"),
        (b'{"images": {"a": []}, "annotations": []}', "images: a list is required"),
        (b'{"images": [], "annotations": [], "images": []}', "images: appears twice"),
        (b'{"images": [{"id": 1, "caption": "a"}, 3], "annotations": []}', "images[1]: expected an object"),
        (b'{"images": [{"id": 1, "caption": "a"},], "annotations": []}', "images[1]: expected an object"),
        (b'{"images": [{"id": 1, "caption": "a"}{}], "annotations": []}', "images[1]: expected an object"),
        (b'{"images": [{"id": 1, "caption": "a"}}', "images[1]: expected an object"),
        (b'{"images": ["x"], "annotations": []}', "images[0]: expected an object"),
        (b'{"images": [[]], "annotations": []}', "images[0]: Input should be an object"),
        (b'{"images": [{"id": 1, "caption": "a"]], "annotations": []}', "images[0]: Invalid JSON"),
        (b'{"images": [{"id": 1, "caption": a}], "annotations": []}', "images[0]: Invalid JSON"),
        (b'{"images": [' + b"[" * 100_000 + b"]" * 100_000 + b"]}", "images[0]: Invalid JSON: recursion limit"),
        (b"}{", "images: a list is required"),
    ],
)
def test_documents_of_another_kind(tmp_path: Path, content: bytes, message: str) -> None:
    path = tmp_path / "mdetr.json"
    path.write_bytes(content)
    with pytest.raises(DataError) as error:
        read_mdetr_expressions(path)
    assert str(error.value).startswith(f"{path}: {message}")


def test_brackets_and_quotes_inside_texts_are_texts(document: Callable[[Any], Path]) -> None:
    caption = 'a ]} "dog\\" {["images": ['
    content = changed(EXPRESSIONS, (("images", 0, "caption"), caption), (("info",), {"images": [{"x": "]"}], "]": "}"}))
    assert len(read_mdetr_expressions(document(content))) == 3


def test_hostile_documents_cost_no_more_than_their_size(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "mdetr.json"
    for content, message in (
        (b'{"x": [' + b"[]," * 300_000 + b"1]}", "images: a list is required"),
        (b'{"images": [' + b"1," * 500_000 + b"1]}", r"images\[0\]: expected an object"),
        (b'{"x": "' + b'\\"' * 500_000, "the JSON ends too early"),
    ):
        path.write_bytes(content)
        tracemalloc.start()
        with pytest.raises(DataError, match=message):
            read_mdetr_expressions(path)
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        assert peak < 4 * len(content)
    monkeypatch.setattr(files, "MAX_RECORD_BYTES", 100)
    path.write_bytes(b'{"images": [{"id": 1}, {"caption": "' + b"a" * 100 + b'"}]}')
    with pytest.raises(DataError, match=r"images\[0\]: caption: Field required"):
        read_mdetr_expressions(path)
    path.write_bytes(b'{"images": [{"caption": "' + b"a" * 100 + b'"}]}')
    with pytest.raises(DataError, match=r"images\[0\]: longer than 100 bytes"):
        read_mdetr_expressions(path)


def test_captions_over_the_limit_are_refused(document: Callable[[Any], Path], monkeypatch: pytest.MonkeyPatch) -> None:
    path = document(PHRASES)
    monkeypatch.setattr(files, "MAX_CAPTION_PAIRS", 9)
    assert len(read_mdetr_phrases(path)) == 4
    monkeypatch.setattr(files, "MAX_CAPTION_PAIRS", 8)
    with pytest.raises(DataError, match=r"images\[0\]: more than 8 pairs"):
        read_mdetr_phrases(path)


def test_documents_over_the_limit_are_refused(document: Callable[[Any], Path], monkeypatch: pytest.MonkeyPatch) -> None:
    path = document(EXPRESSIONS)
    monkeypatch.setattr(files, "MAX_DOCUMENT_BYTES", path.stat().st_size)
    assert len(read_mdetr_expressions(path)) == 3
    monkeypatch.setattr(files, "MAX_DOCUMENT_BYTES", path.stat().st_size - 1)
    with pytest.raises(DataError, match="larger than"):
        read_mdetr_expressions(path)


@pytest.mark.parametrize("read", [read_truth, read_predictions, read_mdetr_expressions, read_mdetr_phrases])
@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_damaged_files_give_one_line_or_a_result(
    tmp_path: Path, read: Callable[[Path], object], data: st.DataObject
) -> None:
    sources = [
        "\n".join(map(json.dumps, TRUTH)),
        "\n".join(map(json.dumps, PREDICTIONS)),
        json.dumps(EXPRESSIONS),
        json.dumps(PHRASES),
    ]
    content = bytearray(data.draw(st.sampled_from(sources)).encode())
    for _ in range(data.draw(st.integers(0, 4))):
        position = data.draw(st.integers(0, len(content)))
        cut = data.draw(st.integers(0, 6))
        patch = data.draw(
            st.sampled_from([b"", b"[", b"]", b"{", b"-1", b"1e999", b"null", b'"', b"\n", b"\xff", b"NaN"])
        )
        content[position : position + cut] = patch
    path = tmp_path / "damaged"
    path.write_bytes(content)
    try:
        read(path)
    except DataError as error:
        assert str(error).startswith(str(path))  # noqa: PT017
        assert "\n" not in str(error)  # noqa: PT017


def test_memory_is_that_of_the_columns(tmp_path: Path) -> None:
    """A file of many lines is not held in memory: the peak stays near the arrays it becomes."""
    path = tmp_path / "file.jsonl"
    with path.open("w") as file:
        for phrase_id in range(2000):
            boxes = [[float(i), 1.5, 10.25, 20.125] for i in range(100)]
            file.write(json.dumps({"phrase_id": phrase_id, "boxes": boxes, "scores": [0.5] * 100}) + "\n")
    tracemalloc.start()
    predictions = read_predictions(path)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    columns = predictions.boxes_xywh.nbytes + predictions.score.nbytes + predictions.phrase_id.nbytes
    assert len(predictions) == 200_000
    assert peak < 2 * columns
