"""Cells that come from other people's files."""

from __future__ import annotations

import csv
import io

import pytest

from ovd_bench.benchmarks.data.csv_text import csv_text


@pytest.mark.parametrize(
    ("cell", "written"),
    [
        ("=1+1", "'=1+1"),
        ("@SUM(A1)", "'@SUM(A1)"),
        ("-cat", "'-cat"),
        ("\t=1", "'?=1"),
        ("a\x1b[31mred", "a?[31mred"),
        ("abc\u202ecba", "abc?cba"),
        ("nul\0", "nul?"),
        ("two\nlines", "two?lines"),
        ('a "quoted", cat', 'a "quoted", cat'),
        ("猫", "猫"),
    ],
)
def test_texts_are_harmless(cell: str, written: str) -> None:
    assert list(csv.reader(io.StringIO(csv_text(["name"], [[cell]])))) == [["name"], [written]]


def test_numbers_stay() -> None:
    assert csv_text(["a", "b", "c"], [(-1, 0.5, None)]) == "a,b,c\n-1,0.5,\n"
