"""The timing command."""

from __future__ import annotations

from pathlib import Path

import pytest
import typer

from ovd_bench.benchmarks.data.shapes import WORLDS
from ovd_bench.perf import shapes as perf
from ovd_bench.tests.benchmarks.data.shapes.worlds import SMALL


def test_every_way_is_timed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(WORLDS, "small", SMALL)
    perf.main("small", "minival", tmp_path / "speed.md")
    rows = [line.split("|")[1:-1] for line in (tmp_path / "speed.md").read_text().splitlines() if line[:1] == "|"][2:]
    assert {name.split()[0].strip(",") for name, _, _ in rows} == {"render", "write"}
    for _, rate, milliseconds in rows:
        assert float(rate) > 0
        assert float(milliseconds) > 0


def test_unknown_split_is_an_error() -> None:
    with pytest.raises(typer.BadParameter, match="shapes/val does not exist"):
        perf.main("shapes", "val")
