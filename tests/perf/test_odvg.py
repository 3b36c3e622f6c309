"""The files that the benchmark makes are what it says they are."""

from __future__ import annotations

from pathlib import Path

from ovd_bench.benchmarks.data.odvg.detection import convert_objects365
from ovd_bench.benchmarks.data.odvg.index import OdvgFile
from ovd_bench.benchmarks.data.odvg.mdetr import convert_goldg
from ovd_bench.perf import odvg
from ovd_bench.tests.benchmarks.data.odvg.read_odvg import read_odvg


def test_made_files_are_real_ones(tmp_path: Path) -> None:
    path = odvg._made(tmp_path / "r.jsonl", odvg._records(50), "\n")
    file = OdvgFile.open(path)
    assert len(file) == 50
    assert 400 < file.boxes.sum() < 1200
    source = odvg._made(tmp_path / "o.json", odvg._objects365(49), "")
    report = convert_objects365(source, tmp_path / "o.jsonl")
    assert (report.records, report.classes, report.boxes + sum(report.dropped.values())) == (
        49,
        365,
        file.boxes[1:].sum(),
    )
    assert next(iter(read_odvg(tmp_path / "o.jsonl"))).filename == "patch1/objects365_v2_00000001.jpg"
    report = convert_goldg(odvg._made(tmp_path / "g.json", odvg._goldg(30), ""), tmp_path / "g.jsonl")
    assert report.records + sum(report.left_out.values()) == 30
