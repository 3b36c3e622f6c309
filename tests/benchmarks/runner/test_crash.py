"""A run that is killed at any moment resumes to the same bytes."""

from __future__ import annotations

from pathlib import Path

import pytest

from ovd_bench.tests.benchmarks.runner.crash import kill_and_resume


@pytest.mark.parametrize("kills", [5, pytest.param(50, marks=pytest.mark.full)])
def test_kill_and_resume(tmp_path: Path, kills: int) -> None:
    seen = kill_and_resume(tmp_path, kills, seed=kills)
    assert sum(count for what, count in seen.items() if "working" in what) >= kills // 2
