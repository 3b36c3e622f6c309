"""The measurement of training batches runs to its end. Nothing here asserts a time."""

from __future__ import annotations

from pathlib import Path

import pytest

from ovd_bench.perf.samples import main


@pytest.mark.full
def test_all_tables_are_written(tmp_path: Path) -> None:
    main(["--seconds", "0.1", "--rounds", "1", "--out", str(tmp_path / "samples.md")])
    text = (tmp_path / "samples.md").read_text()
    assert text.count("\n## ") == 4
    assert text.count("\n| 0 |") == text.count("\n| 2 |") == 3
