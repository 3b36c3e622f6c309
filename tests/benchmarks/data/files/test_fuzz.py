"""Damaged files: one line of complaint, never a traceback, a crash or a hang; JSON verdicts equal a plain reading's."""

from __future__ import annotations

import json
import math
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from ovd_bench.benchmarks.data.files.annotations import parse_ground_truth
from ovd_bench.benchmarks.data.files.predictions import read_predictions, read_results
from ovd_bench.metrics.errors import DataError
from ovd_bench.metrics.types import MAX_COORDINATE, GroundTruth

_WORDS = r"""
null true false NaN -Infinity { } [ ] , : " \ - 0 1 1.0 1e5 -0 1e400 42.5 0.1 {} [] ,, }} "a" "score":1, \u0041 \ud800
\u12 },{ "image_id":7, "phrase":"a", // é 999999999999999999999
"""
TOKENS = [" ", "\n", "\0", "\x7f", *_WORDS.split()]

RESULTS = b"""[
 {"image_id": 1, "category_id": 2, "bbox": [1, 2.5, 3e0, 4.25], "score": 0.12345678901234567, "segmentation": [[1, 2]]},
 {"score": 1, "x": {"a": [true, null, "\\u00e9\\n"], "b": {}}, "category_id": 3, "image_id": 42.0, "bbox": [0,0,0,0]},
 {"image_id": -7, "category_id": 2, "bbox": [1, 2, 3, 4], "score": -0.5, "note": "},{\\"image_id\\":1"} ]
"""

ANNOTATIONS = b"""{"info": {"a": [1, {}]},
 "images": [{"id": 1, "width": 4, "height": 5, "neg_category_ids": [2, 3], "not_exhaustive_category_ids": []},
            {"id": 2, "neg_category_ids": [], "not_exhaustive_category_ids": [3]}],
 "annotations": [{"id": 0, "image_id": 1, "category_id": 2, "bbox": [1, 2, 3, 4], "area": 12, "iscrowd": 0},
                 {"segmentation": [[1.5, 2]], "id": 5, "image_id": 2, "category_id": 3, "bbox": [1, 2, 3, 4],
                  "area": 1.5, "ignore": 1}],
 "categories": [{"id": 2, "name": "a", "synonyms": ["a", "b"], "frequency": "r"}, {"id": 3, "name": "\\u00e9"}]}
"""


def mutate(data: bytes, generator: random.Random, tokens: list[str] = TOKENS) -> bytes:
    """The data with one to three small accidents."""
    for _ in range(generator.choice([1, 1, 2, 3])):
        at, end = sorted(generator.randrange(len(data) + 1) for _ in range(2))
        end = generator.choice([at, at, min(end, at + 8)])
        copied = generator.randrange(len(data) + 1)
        pieces = [
            b"",
            generator.randbytes(1 + generator.randrange(4)),
            generator.choice(tokens).encode(),
            data[copied : copied + generator.randrange(60)],
        ]
        data = data[:at] + generator.choice(pieces) + data[end:]
    return data


def reference(data: bytes) -> list[tuple[Any, ...]] | None:
    """The records of a results file in plain Python, None where it has to be refused."""

    def refuse(name: str) -> None:
        raise ValueError(name)

    def number(value: Any, limit: float) -> bool:
        return type(value) in (int, float) and abs(value) < limit

    def integer(value: Any, bits: int) -> bool:
        small = type(value) is float and value.is_integer() and abs(value) <= 2**53
        return (type(value) is int or small) and -(2**bits) <= value < 2**bits

    try:
        records = json.loads(data.decode(), parse_constant=refuse)
        if not isinstance(records, list) or not records or not all(isinstance(r, dict) for r in records):
            return None
        with_phrase = [r["phrase"].encode().decode() for r in records if "phrase" in r]
        if with_phrase and len(with_phrase) < len(records):
            return None
        out = []
        for r in records:
            box, score = r["bbox"], r["score"]
            if not (integer(r["image_id"], 63) and integer(r["category_id"], 31) and number(score, math.inf)):
                return None
            if not (isinstance(box, list) and len(box) == 4 and all(number(v, MAX_COORDINATE) for v in box)):
                return None
            out.append((int(r["image_id"]), int(r["category_id"]), float(score), *map(float, box), r.get("phrase")))
    except (ValueError, KeyError, AttributeError, OverflowError):
        return None
    return out


def attempt(read: Callable[[Path], Any], path: Path, data: bytes) -> Any:
    """What a reader makes of the data; None when it refuses them, in one line."""
    path.write_bytes(data)
    try:
        return read(path)
    except DataError as error:
        complaint = str(error)
    assert complaint.startswith(f"{path}: ")
    assert "\n" not in complaint
    return None


def ours(path: Path, data: bytes, block_bytes: int) -> list[tuple[Any, ...]] | None:
    p = attempt(lambda path: read_results(path, threads=2, block_bytes=block_bytes), path, data)
    if p is None:
        return None
    phrase = [None] * len(p) if p.phrase is None else p.phrase.tolist()
    columns = [c.tolist() for c in (p.image_id, p.category_id, p.score, p.x, p.y, p.w, p.h)]
    return list(zip(*columns, phrase, strict=True))


@pytest.mark.parametrize("block_bytes", [1, 60, 1 << 20])
def test_results_json_verdict_is_that_of_python(tmp_path: Path, block_bytes: int) -> None:
    generator = random.Random(block_bytes)
    accepted = 0
    for _ in range(4000):
        data = mutate(RESULTS, generator)
        expected = reference(data)
        assert repr(ours(tmp_path / "dt.json", data, block_bytes)) == repr(expected), data
        accepted += expected is not None
    assert 400 < accepted < 3600


@pytest.mark.parametrize("block_bytes", [30, 1 << 20])
def test_results_json_cut_anywhere_is_refused(tmp_path: Path, block_bytes: int) -> None:
    data = RESULTS.rstrip()
    for size in range(len(data)):
        assert ours(tmp_path / "dt.json", data[:size], block_bytes) is None
    assert ours(tmp_path / "dt.json", data, block_bytes) == reference(data)


@pytest.mark.parametrize("block_bytes", [20, 1 << 20])
def test_annotations(tmp_path: Path, block_bytes: int) -> None:
    generator = random.Random(block_bytes)

    def read(path: Path) -> GroundTruth:
        return parse_ground_truth(path, threads=2, block_bytes=block_bytes)

    tokens = [*TOKENS, '"id":1,', '"area":2,', '"images":[],', '"iscrowd":1,', '"ignore":[],', '"name":null']
    found = [attempt(read, tmp_path / "gt.json", mutate(ANNOTATIONS, generator, tokens)) for _ in range(1500)]
    assert 100 < sum(truth is None for truth in found) < 1400
    data = ANNOTATIONS.rstrip()
    for size in range(len(data)):
        assert attempt(read, tmp_path / "gt.json", data[:size]) is None
    assert attempt(read, tmp_path / "gt.json", data) is not None


@pytest.mark.parametrize("name", ["dt.json", "dt.arrow", "dt.parquet", "gt.json"])
def test_random_bytes(tmp_path: Path, name: str) -> None:
    generator = random.Random(name)
    head = {"dt.json": b"[", "dt.arrow": b"ARROW1\0\0", "dt.parquet": b"PAR1", "gt.json": b"{"}[name]
    tail = {"dt.arrow": b"ARROW1", "dt.parquet": b"PAR1"}.get(name, b"")
    read: Callable[[Path], Any] = parse_ground_truth if name == "gt.json" else read_predictions
    for _ in range(200):
        assert attempt(read, tmp_path / name, head + generator.randbytes(generator.randrange(300)) + tail) is None


@pytest.mark.parametrize("kind", ["arrow", "arrow-zstd", "arrow-lz4", "parquet", "parquet-plain"])
def test_tables(tmp_path: Path, kind: str) -> None:
    columns: dict[str, Any] = {name: np.linspace(0, 1, 20, dtype=np.float32) for name in ("score", "x", "y", "w", "h")}
    columns |= {"image_id": np.arange(20), "category_id": np.arange(20, dtype=np.int32)}
    table = pa.table({**columns, "phrase": pa.array(["a", "bc"] * 10).dictionary_encode()})
    path = tmp_path / f"dt.{kind.split('-')[0]}"
    if kind.startswith("arrow"):
        options = pa.ipc.IpcWriteOptions(compression=kind.partition("-")[2] or None)
        with pa.ipc.new_file(path, table.schema, options=options) as writer:
            writer.write_table(table, max_chunksize=12)
    else:
        compression = {"parquet": "zstd", "parquet-plain": "none"}[kind]
        pq.write_table(table, path, compression=compression, use_dictionary=kind == "parquet")
    data = path.read_bytes()
    generator = random.Random(kind)
    damaged = [mutate(data, generator) for _ in range(300)]
    for _ in range(700):  # single bits and lengths, so that the structure stays plausible
        at = generator.randrange(8, len(data) - 8)
        piece = generator.choice([bytes([data[at] ^ 1 << generator.randrange(8)]), b"\xff" * 4, b"\x7f", b"\0" * 8])
        damaged.append(data[:at] + piece + data[at + len(piece) :])
    found = [attempt(read_predictions, path, content) for content in damaged]
    assert 100 < sum(predictions is None for predictions in found) < 900
