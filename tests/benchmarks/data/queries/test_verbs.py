"""``bench data convert …-queries``, with the files of the readers' own tests."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from ovd_bench.benchmarks.data.queries.conversion import NOT_ASKED
from ovd_bench.tests.benchmarks.data.odvg.test_flickr30k import folder
from ovd_bench.tests.benchmarks.data.odvg.test_verbs import run, run_json
from ovd_bench.tests.benchmarks.data.queries import test_d3, test_omnilabel, test_refcoco, test_saco
from ovd_bench.tests.benchmarks.data.queries.test_d3 import source, tables

__all__ = ["folder", "source", "tables"]


def test_expressions(tmp_path: Path) -> None:
    rows = test_refcoco._lines(tmp_path / "refcoco_val.jsonl", test_refcoco._line(), test_refcoco._line(sent=" "))
    result = run("convert", "refcoco-queries", rows, "-o", tmp_path / "r.jsonl")
    assert result.exit_code == 0, result.output
    words = " ".join(result.output.split())
    assert "queries 1 images 1 boxes 1 absent 0 unscored 0 kinds: 1 refcoco/val" in words
    assert "left out: 1 queries whose text or spans have no words" in words
    report = run_json("convert", "refcoco-queries", rows, "-o", tmp_path / "r.jsonl", "--kind", "mine")
    assert report["files"][0]["kinds"] == {"mine": 1}


def test_phrases(folder: Path, tmp_path: Path) -> None:
    report = run_json("convert", "flickr30k-queries", folder, "-o", tmp_path / "f.jsonl")["files"][0]
    assert (report["path"], report["queries"], report["left_out"]) == (str(tmp_path / "f.jsonl"), 22, {})


@pytest.mark.parametrize(("scenario", "queries"), [("intra", 4), ("inter", 8)])
def test_d3_scenarios(source: Path, tables: Path, tmp_path: Path, scenario: str, queries: int) -> None:
    options = ("--tables", tables, "--scenario", scenario)
    report = run_json("convert", "d3-queries", source, "-o", tmp_path / "d.jsonl", *options)["files"][0]
    assert report["queries"] == queries
    assert report["left_out"] == ({NOT_ASKED: 1} if scenario == "intra" else {})
    assert test_d3._asked(tmp_path / "d.jsonl")


def test_omnilabel_and_saco(tmp_path: Path) -> None:
    document = tmp_path / "o.json"
    document.write_text(json.dumps(test_omnilabel._document()))
    assert run_json("convert", "omnilabel-queries", document, "-o", tmp_path / "o.jsonl")["files"][0]["queries"] == 6
    pairs = test_saco._write(tmp_path / "a.json", test_saco.PAIRS, test_saco.BOXES)
    files = run_json("convert", "saco-queries", pairs, pairs, "-o", tmp_path / "s.jsonl")["files"]
    assert [Path(file["path"]).name for file in files] == ["s-a.jsonl", "s-b.jsonl"]
