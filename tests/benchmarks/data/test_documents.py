"""Small documents of users, including hostile ones: one-line errors, and no hang."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from ovd_bench.benchmarks.data.files.documents import read_document, read_yaml
from ovd_bench.benchmarks.data.odvg.records import read_label_map
from ovd_bench.benchmarks.data.prompt_files import read_plan
from ovd_bench.benchmarks.studies.definition import read_study
from ovd_bench.benchmarks.training.registry import read_config
from ovd_bench.detectors.clip_region_options import read_options
from ovd_bench.detectors.types import DetectorError
from ovd_bench.metrics.errors import DataError

#: A few lines that stand for 10^9 values.
BOMB = "a0: &a0 [1, 1, 1, 1, 1, 1, 1, 1, 1, 1]\n" + "".join(
    f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]\n" for n in range(1, 9)
)
YAML = [
    "a: !!bool x",
    "a: !!int ''",
    "a: !!float x",
    "a: !!timestamp x",
    "a: !!binary x",
    "a: !!python/object/apply:os.system [id]",
    "? [1, 2]\n: 3",
    "{" * 2000,
    "a: \x00",
    "a: &a [*a]",
    BOMB,
]
READERS: list[Callable[[Path], Any]] = [
    lambda path: read_plan(str(path)),
    read_config,
    read_study,
    lambda path: read_options(str(path)),
]


@pytest.mark.parametrize("text", YAML, ids=range(len(YAML)))
def test_hostile_yaml_is_one_line(text: str, tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text(text)
    for read in READERS:
        with pytest.raises((DataError, DetectorError)) as caught:
            read(path)
        assert str(caught.value).startswith(str(path))
        assert "\n" not in str(caught.value)


def test_ordinary_yaml_is_read(tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text("a: &list [1, 2.5, yes, null, text]\nb: {c: d, e: *list}\n")
    wanted = [1, 2.5, True, None, "text"]
    assert read_yaml(path, 100, "file") == {"a": wanted, "b": {"c": "d", "e": wanted}}


def test_a_pipe_is_not_read(tmp_path: Path) -> None:
    path = tmp_path / "pipe.yaml"
    os.mkfifo(path)
    for read in (lambda p: read_document(p, 100, "file"), read_label_map, *READERS[1:3]):
        with pytest.raises(DataError, match="is not a regular file"):
            read(path)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('["cat", "dog"]', "is a list: a label map is an object"),
        ('{"cat": 0, "dog": 1}', "maps names to labels: the other way round is needed"),
        ('{"1": "cat", "2": "dog"}', "labels run from 1 to 2: count from 0"),
        ('{"0": "cat", "2": "dog"}', "label 1 is missing"),
        ("{}", "label 0 is missing"),
        ("{", "Invalid JSON"),
    ],
)
def test_other_label_maps(text: str, said: str, tmp_path: Path) -> None:
    path = tmp_path / "map.json"
    path.write_text(text)
    with pytest.raises(DataError, match=said):
        read_label_map(path)
