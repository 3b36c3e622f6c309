"""Comparisons of earlier boards, in the user's cache: the same files need not be compared again."""

from __future__ import annotations

import contextlib
import hashlib
import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from platformdirs import user_cache_path
from pydantic import TypeAdapter, ValidationError

from ovd_bench.benchmarks.board.rows import BoardTable, Standing
from ovd_bench.benchmarks.data.catalog.benchmark import Benchmark
from ovd_bench.benchmarks.data.files.atomic import atomic_write, file_sha256
from ovd_bench.benchmarks.store.folders import RESULT
from ovd_bench.benchmarks.store.predictions import run_sha256
from ovd_bench.metrics.errors import DataError

_STANDINGS = TypeAdapter(list[Standing])
#: What computes a comparison: another version of any of these files has another key.
_PACKAGE = Path(__file__).resolve().parents[2]
_SOURCES = ("metrics", "benchmarks/board", "benchmarks/data/files")


def comparison_key(table: BoardTable, benchmark: Benchmark, resamples: int, seed: int) -> str | None:
    """Hash of everything that the stars of a table depend on; None if predictions are missing or damaged."""
    try:
        runs = [[file_sha256(row.folder / RESULT), run_sha256(row.folder)] for row in table.rows]
        annotations = file_sha256(benchmark.annotations)
    except (DataError, OSError):
        return None
    facts = [runs, annotations, table.protocol.sha256, resamples, seed, np.__version__, _code_sha256()]
    return hashlib.sha256(json.dumps(facts).encode()).hexdigest()


def remembered(key: str, rows: int) -> list[Standing] | None:
    """The comparison of an earlier board; None if there is none, or its file is damaged."""
    try:
        standings = _STANDINGS.validate_json(_file(key).read_bytes())
    except (OSError, ValidationError):
        return None
    return standings if len(standings) == rows else None


def remember(key: str, standings: Sequence[Standing]) -> None:
    """Keep a comparison; a cache that cannot be written is no error."""
    with contextlib.suppress(OSError, DataError):
        _file(key).parent.mkdir(parents=True, exist_ok=True)
        with atomic_write(_file(key)) as file:
            file.write(_STANDINGS.dump_json(list(standings)))


def _file(key: str) -> Path:
    return user_cache_path("ovd-bench") / "board" / f"{key}.json"


def _code_sha256() -> str:
    kinds = (".py", ".cc", ".h")
    files = [file for folder in _SOURCES for file in (_PACKAGE / folder).rglob("*") if file.suffix in kinds]
    digest = hashlib.sha256()
    for file in sorted(files):
        digest.update(file.read_bytes())
    return digest.hexdigest()
