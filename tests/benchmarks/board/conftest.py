"""Finished runs that several tests use; made once."""

from __future__ import annotations

from pathlib import Path

import pytest

from ovd_bench.benchmarks.data.catalog.benchmark import Benchmark
from ovd_bench.tests.benchmarks.board.made_runs import make_benchmark, make_results


@pytest.fixture(scope="session")
def toy(tmp_path_factory: pytest.TempPathFactory) -> Benchmark:
    return make_benchmark(tmp_path_factory.mktemp("toy") / "data")


@pytest.fixture(scope="session")
def results(toy: Benchmark, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_results(tmp_path_factory.mktemp("results"), toy)
