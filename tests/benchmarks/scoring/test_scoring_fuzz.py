"""Damaged and hostile files: a score or one line, never a traceback."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

import pytest

from ovd_bench.benchmarks.data.text import printable
from ovd_bench.benchmarks.scoring.score import ScoreRequest, score
from ovd_bench.metrics.errors import DataError
from ovd_bench.tests.metrics.small_sets import random_set

_JUNK: list[Any] = [
    None,
    True,
    -1,
    0,
    1e308,
    10**30,
    "",
    "x",
    [],
    {},
    [1, 2],
    {"a": 1},
    float("nan"),
    float("inf"),
    2**31,
]


def _mutate(rng: random.Random, value: Any, depth: int = 0) -> Any:
    """The document with one place replaced, deleted or doubled."""
    if depth > 4 or not isinstance(value, (dict, list)) or not value or rng.random() < 0.1:
        return rng.choice(_JUNK)
    if isinstance(value, dict):
        key = rng.choice(list(value))
        if rng.random() < 0.25:
            return {k: v for k, v in value.items() if k != key}
        return {**value, key: _mutate(rng, value[key], depth + 1)}
    place = rng.randrange(len(value))
    if rng.random() < 0.15:
        return [*value[:place], value[place], *value[place:]]
    return [*value[:place], _mutate(rng, value[place], depth + 1), *value[place + 1 :]]


@pytest.mark.parametrize("seed", range(8))
@pytest.mark.parametrize("protocol", ["lvis", "lvis-fixed", "coco"])
def test_one_wrong_place(tmp_path: Path, seed: int, protocol: str) -> None:
    rng = random.Random(f"{seed} {protocol}")
    annotations, results = random_set(seed, 4, 3, 6, odd=True)
    gt, dt = tmp_path / "gt.json", tmp_path / "dt.json"
    outcomes = {"scored": 0, "refused": 0}
    for _ in range(60):
        damaged = rng.random() < 0.5
        gt.write_text(json.dumps(_mutate(rng, annotations) if damaged else annotations))
        dt.write_text(json.dumps(results if damaged else _mutate(rng, results)))
        try:
            document = score(ScoreRequest(dt, gt, protocol, ["all"], resamples=3)).as_json()
            json.dumps(document, allow_nan=False)
            outcomes["scored"] += 1
        except DataError as error:
            message = str(error)
            assert "\n" not in message
            assert len(message) < 600
            assert str(tmp_path) in message or "protocol" in message
            outcomes["refused"] += 1
    assert outcomes["scored"] > 0
    assert outcomes["refused"] > 0


def test_printable() -> None:
    assert printable("a\nb\tc\x1b[31m\x07") == "a b c?[31m?"
    assert printable("größe 大") == "größe 大"
