"""What is said about a results file that cannot be read: one line with file, record and field."""

# ruff: noqa: E501  (one case per line)

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest

from ovd_bench.benchmarks.data.files.predictions import read_predictions, read_results, write_predictions
from ovd_bench.metrics.errors import DataError
from ovd_bench.metrics.types import Predictions
from ovd_bench.tests.benchmarks.data.files.complaints import assert_names_the_place

GOOD = '{"image_id": 1, "category_id": 2, "bbox": [1, 2, 3, 4], "score": 0.5}'
BOX_NEED = "a list of 4 numbers [x, y, width, height] within ±1e100 is needed"


def bad(old: str, new: str) -> str:
    """A list whose third record is wrong."""
    assert old in GOOD
    return f"[{GOOD}, {GOOD}, {GOOD.replace(old, new, 1)}, {GOOD}]"


def extra(text: str) -> str:
    return bad("0.5}", "0.5" + text + "}")


PHRASE = ', "phrase": "a"'
CASES = [
    # the list
    ("   \n ", "the file holds only white space"),
    ("[", "the file ends before the list does (truncated?)"),
    ("{}", "the top level is an object, a list of detections is needed (is this an annotation file?)"),
    ("12", "expected a list of detections, found '1' at byte 0"),
    ("[1]", "record 0: expected an object, found '1' at byte 1"),
    ("[null]", "record 0: expected an object, found 'n' at byte 1"),
    (f"[{GOOD}", "the file ends after record 0, before the list does (truncated?)"),
    (f"[{GOOD},", "the file ends after record 0, before the list does (truncated?)"),
    (f"[{GOOD}, {GOOD[:-9]}", "the file ends inside record 1, before the list does (truncated?)"),
    (f"[{GOOD},]", "record 1: expected an object, found ']' at byte 71"),
    (f"[,{GOOD}]", "record 0: expected an object, found ',' at byte 1"),
    (f"[{GOOD} {GOOD}]", "after record 0: expected ',' or ']', found '{' at byte 71"),
    (f"[{GOOD}}}", "after record 0: expected ',' or ']', found '}' at byte 70"),
    (f"[{GOOD}]]", "expected the end of the file, found ']' at byte 71"),
    (f"[{GOOD}] x", "expected the end of the file, found 'x' at byte 72"),
    (f"[{GOOD}]" + " " * 200000 + "x", "expected the end of the file, found 'x' at byte 200071"),
    (f"[{GOOD}]\0", "expected the end of the file, found byte 0x00 at byte 71"),
    # fields
    (bad('"score": 0.5', '"scores": 0.5'), "record 2: field 'score' is missing"),
    (bad('"bbox": [1, 2, 3, 4], ', ""), "record 2: field 'bbox' is missing"),
    (f"[{GOOD}, {{}}]", "record 1: field 'image_id' is missing"),
    (bad('"category_id": 2, ', ""), "record 2: field 'category_id' is missing"),
    *[
        (bad('"image_id": 1', f'"image_id": {value}'), f"record 2: field 'image_id' is {shown}, an integer (int64) is needed")
        for value, shown in [
            ("true", "true"), ("null", "null"), ('"1"', '"1"'), ("42.5", "42.5"), ("1e-3", "1e-3"), ("[1]", "[1]"),
            ("9223372036854775808", "9223372036854775808"), ("-9223372036854775809", "-9223372036854775809"),
            ("1e19", "1e19"), ("1e400", "1e400"), ('{"a": \n1}', '{"a":  1}'), ("1" * 60, "1" * 40 + "…"),
        ]
    ],
    *[
        (bad('"category_id": 2', f'"category_id": {v}'), f"record 2: field 'category_id' is {v}, an integer (int32) is needed")
        for v in ("2147483648", "-2147483649", "false", "2.5")
    ],
    *[
        (bad("0.5", value), f"record 2: field 'score' is {value}, a finite number is needed")
        for value in ("null", '"0.5"', "true", "[0.5]", "1e400", "-1e309")
    ],
    *[
        (bad("[1, 2, 3, 4]", value), f"record 2: field 'bbox' is {value}, {BOX_NEED}")
        for value in ("[1, 2, 3]", "[]", "[1, 2, 3, 4, 5]", "[1, 2, null, 4]", "[1, 2, 3, 1e999]", "[1, 2, -1e100, 4]", "null", "[[1, 2, 3, 4]]")
    ],
    (extra(PHRASE), "record 0: field 'phrase' is missing, record 2 has it: all records need it, or none"),
    (f"[{GOOD[:-1]}, \"phrase\": 3}}]", "record 0: field 'phrase' is 3, a string of Unicode text is needed"),
    (f"[{GOOD[:-1]}, \"phrase\": \"\\ud800\"}}]", "record 0: field 'phrase' is \"\\ud800\", a string of Unicode text is needed"),
    # syntax; ¦ stands before the byte that the message names as @
    (bad("0.5", "¦NaN"), "record 2: field 'score': expected a value, found NaN (which JSON does not know) at byte @"),
    (bad("0.5", "¦-Infinity"), "record 2: field 'score': expected a value, found -Infinity (which JSON does not know) at byte @"),
    (bad("3, 4", "¦Infinity, 4"), "record 2: field 'bbox': expected a value, found Infinity (which JSON does not know) at byte @"),
    (bad("0.5", "0¦1"), "record 2: field 'score': expected a digit, found '1' at byte @"),
    (bad("0.5}", "1.¦}"), "record 2: field 'score': expected a digit, found '}' at byte @"),
    (bad("0.5", "1.¦e3"), "record 2: field 'score': expected a digit, found 'e' at byte @"),
    (bad("0.5}", "1e+¦}"), "record 2: field 'score': expected a digit, found '}' at byte @"),
    (bad("0.5", "¦.5"), "record 2: field 'score': expected a value, found '.' at byte @"),
    (bad("0.5", "¦+5"), "record 2: field 'score': expected a value, found '+' at byte @"),
    (bad("0.5", "-¦-5"), "record 2: field 'score': expected a digit, found '-' at byte @"),
    (bad("0.5", "0¦x10"), "record 2: expected ',' or '}', found 'x' at byte @"),
    (bad("0.5}", "¦}"), "record 2: field 'score': expected a value, found '}' at byte @"),
    (bad("4]", "4,¦]"), "record 2: field 'bbox': expected a value, found ']' at byte @"),
    (bad("0.5}", "0.5,¦}"), "record 2: expected '\"', found '}' at byte @"),
    (bad('"score"', "¦score"), "record 2: expected '\"', found 's' at byte @"),
    (bad('"score": 0', '"score" ¦0'), "record 2: expected ':', found '0' at byte @"),
    (extra(r', "a": "\¦x"'), "record 2: expected an escape character, found 'x' at byte @"),
    (extra(r', "a": "\u12¦g4"'), "record 2: expected four hexadecimal digits, found 'g' at byte @"),
    (extra(', "a": "¦\t"'), "record 2: expected a string without control characters, found byte 0x09 at byte @"),
    (extra(', "a": "¦\0"'), "record 2: expected a string without control characters, found byte 0x00 at byte @"),
    (extra(', "a": "¦\x1f"'), "record 2: expected a string without control characters, found byte 0x1f at byte @"),
    (extra(', "a": tru¦'), "record 2: expected true, found '}' at byte @"),
    (extra(', "a": [1, 2¦'), "record 2: expected ',' or ']', found '}' at byte @"),
    (extra(', "a": {"b": 1¦]'), "record 2: expected ',' or '}', found ']' at byte @"),
    (extra(', "a": {¦1: 1}'), "record 2: expected '\"', found '1' at byte @"),
    (extra(', "a": ' + "[" * 257 + "¦1" + "]" * 257), "record 2: nested deeper than 256 levels at byte @"),
]  # fmt: skip


@pytest.mark.parametrize("block_bytes", [1, 50, 1 << 20])
@pytest.mark.parametrize(("text", "message"), CASES, ids=[str(i) for i in range(len(CASES))])
def test_message(tmp_path: Path, text: str, message: str, block_bytes: int) -> None:
    path = tmp_path / "dt.json"
    message = message.replace("@", str(text.find("¦")))
    path.write_text(text.replace("¦", ""))
    with pytest.raises(DataError) as error:
        read_results(path, threads=2, block_bytes=block_bytes)
    assert_names_the_place(str(error.value), path, message)


@pytest.mark.parametrize(
    "text",
    [
        b"\xff",
        b"\xc0\xaf",
        b"\xed\xa0\x80",
        b"\xf5\x80\x80\x80",
        b"\xe2\x82",
        b"\x80",
        b"\xf0\x8f\xbf\xbf",
        b"\xe0\x9f\xbf",
    ],
)
def test_text_that_is_no_utf8(tmp_path: Path, text: bytes) -> None:
    path = tmp_path / "dt.json"
    path.write_bytes(f'[{GOOD[:-1]}, "a": "'.encode() + text + b'"}]')
    with pytest.raises(DataError, match="record 0: expected UTF-8 text, found"):
        read_results(path)


def test_depth_limit_is_exact(tmp_path: Path) -> None:
    path = tmp_path / "dt.json"
    path.write_text(f'[{GOOD[:-1]}, "a": {"[" * 256}{"]" * 256}}}]')
    assert len(read_results(path)) == 1


OTHER_CONTENT = [
    ("dt.json", b"PAR1abcdPAR1", "the name says JSON, but the content is Parquet"),
    ("dt.json", b"ARROW1\0\0", "the name says JSON, but the content is Arrow IPC"),
    ("dt.json", b"\x1f\x8b\x08\0", "the name says JSON, but the content is gzip-compressed (unpack it first)"),
    ("dt.json", b"PK\x03\x04", "the name says JSON, but the content is a zip archive (unpack it first)"),
    ("dt.json", b"\xef\xbb\xbf[]", "the name says JSON, but the content is text with a byte order mark (save it as UTF-8 without one)"),
    ("dt.json", "[]".encode("utf-16"), "the name says JSON, but the content is not"),
    ("dt.json", b"<html>", "the name says JSON, but the content is not"),
    ("dt.arrow", b"[]", "the name says Arrow IPC, but the content is JSON"),
    ("dt.arrow", b"\xff\xff\xff\xff\0\0\0\0", "the name says Arrow IPC, but the content is an Arrow IPC stream (write it in the file format instead)"),
    ("dt.feather", b"FEA1", "the name says Arrow IPC, but the content is not"),
    ("dt.parquet", b"ARROW1\0\0", "the name says Parquet, but the content is Arrow IPC"),
    ("dt.PARQUET", b"[]", "the name says Parquet, but the content is JSON"),
    ("dt.pt", b"\x80\x02", "the content is neither JSON nor Arrow IPC nor Parquet"),
    ("dt.gz", b"\x1f\x8b\x08\0", "the content is gzip-compressed (unpack it first)"),
    ("dt.json", b"", "the file is empty"),
    ("dt", b"", "the file is empty"),
]  # fmt: skip


@pytest.mark.parametrize(("name", "content", "message"), OTHER_CONTENT)
def test_content_is_not_what_the_name_says(tmp_path: Path, name: str, content: bytes, message: str) -> None:
    path = tmp_path / name
    path.write_bytes(content)
    with pytest.raises(DataError) as error:
        read_predictions(path)
    assert str(error.value) == f"{path}: {message}"


def test_name_without_a_promise_goes_by_content(tmp_path: Path) -> None:
    path = tmp_path / "detections.txt"
    path.write_text(f"[{GOOD}]")
    assert read_predictions(path).score.tolist() == [0.5]


def test_no_such_file_directory_and_pipe(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.json")
    (tmp_path / "file").write_text("x")
    for name, message in [
        ("absent.json", "no such file"),
        ("", "is a directory, a file is needed"),
        ("pipe.json", "is not a regular file"),
        ("file/dt.json", "cannot be read: Not a directory"),
    ]:
        with pytest.raises(DataError) as error:
            read_predictions(tmp_path / name)
        assert str(error.value) == f"{tmp_path / name}: {message}"


def test_writing_to_an_unknown_form(tmp_path: Path) -> None:
    predictions = Predictions.from_boxes([1], [1], [0.5], np.ones((1, 4)))
    with pytest.raises(DataError, match=r"dt\.csv: name the file \.arrow, \.parquet or \.json"):
        write_predictions(tmp_path / "dt.csv", predictions)
