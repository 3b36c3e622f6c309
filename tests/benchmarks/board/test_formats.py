"""JSON, CSV and Markdown state what the results state, and contain no markup and no formula."""

from __future__ import annotations

import csv
import io
import json
import re
from dataclasses import replace
from pathlib import Path

import pytest
from rich.console import Console

from ovd_bench.benchmarks.board.collect import Board, collect
from ovd_bench.benchmarks.board.columns import COLUMNS
from ovd_bench.benchmarks.board.files import write_board
from ovd_bench.benchmarks.board.latex import board_latex
from ovd_bench.benchmarks.board.page import render
from ovd_bench.benchmarks.board.terminal import board_tables
from ovd_bench.benchmarks.board.text_formats import board_csv, board_document, board_json, board_markdown
from ovd_bench.benchmarks.data.catalog.benchmark import Benchmark
from ovd_bench.benchmarks.store.schema import Contamination, NamesSeen
from ovd_bench.metrics.errors import DataError
from ovd_bench.tests.benchmarks.board.made_runs import make_run


@pytest.fixture(scope="module")
def board(results: Path) -> Board:
    return collect(results, resamples=50)


def test_json_holds_every_number_unrounded(board: Board) -> None:
    document = json.loads(board_json(board))
    assert [len(table["rows"]) for table in document["tables"]] == [len(table.rows) for table in board.tables]
    for read, table in zip(document["tables"], board.tables, strict=True):
        for cells, row in zip(read["rows"], table.rows, strict=True):
            assert cells["result_id"] == row.result.id
            assert {column.key: cells[column.key] for column in COLUMNS} == {c.key: c.raw(row) for c in COLUMNS}
            assert cells["ci95"]["AP"] == list(row.metric("AP").ci95 or ())
            assert (cells["starred"], cells["star_basis"]) == (row.standing.starred, row.standing.basis)
    assert document["partial_runs"] == 1
    assert len(document["problems"]) == 1
    assert len(document["published"]["rows"]) > 50


def test_csv_holds_every_row_with_its_hashes(board: Board) -> None:
    read = list(csv.DictReader(io.StringIO(board_csv(board))))
    rows = [(table, row) for table in board.tables for row in table.rows]
    assert len(read) == len(rows)
    for cells, (table, row) in zip(read, rows, strict=True):
        assert cells["protocol_sha256"] == table.protocol.sha256
        assert cells["annotations_sha256"] == table.benchmark.annotations_sha256
        assert float(cells["AP"]) == row.value("AP")
        assert cells["unseen/APu"] == ""
        assert cells["starred"] == str(int(row.standing.starred))
    assert {cells["contamination"] for cells in read} == {"", "coco-val2017:test-images"}


def test_markdown_has_a_table_per_protocol_and_keeps_published_numbers_apart(board: Board) -> None:
    text = board_markdown(board)
    measured, published = text.split("# Published numbers")
    lines = [line for line in measured.splitlines() if line.startswith("| ") and "detector" not in line]
    rows = [line for line in lines if not line.startswith("| ---")]
    assert len(rows) == sum(len(table.rows) for table in board.tables)
    best = board.tables[0].rows[0]
    assert f"{100 * (best.value('AP') or 0):.2f} ±" in rows[0]
    assert "★" in rows[0]
    assert "⚑1" in measured
    assert "Grounding DINO-T" in published
    assert "Grounding DINO-T" not in measured
    assert not any(row.name in published for table in board.tables for row in table.rows)


def test_latex_has_every_row_with_its_numbers(board: Board) -> None:
    tables = re.findall(r"\\begin\{table\}.*?\\end\{table\}", board_latex(board), re.DOTALL)
    published = len(board.published.tables()) if board.published else 0
    assert len(tables) == len(board.tables) + published
    for text, table in zip(tables, board.tables, strict=False):
        alignment = re.search(r"\\begin\{tabular\}\{(\w+)\}", text)
        body = text.split(r"\midrule")[1].split(r"\bottomrule")[0].strip().splitlines()
        assert alignment
        assert len(body) == len(table.rows)
        for line, row in zip(body, table.rows, strict=True):
            cells = line.removesuffix(r" \\").split(" & ")
            assert len(cells) == len(alignment[1])
            assert cells[1].startswith(row.name)
            assert (r"\star" in cells[1]) is row.standing.starred
            ap = row.value("AP")
            assert ap is None or cells[2].startswith(f"{100 * ap:.2f} ")


def test_latex_runs_no_text_of_others(toy: Benchmark, tmp_path: Path) -> None:
    notes = (Contamination(dataset="x", level="unknown", note=r"\input{/etc/passwd} 5 % of $x_1^2 & ~{y}"),)
    make_run(tmp_path / "r", toy, "a_b", contamination=notes)
    text = board_latex(replace(collect(tmp_path / "r", resamples=20), published=None))
    assert r"a\_b" in text
    assert r"\textbackslash{}input\{/etc/passwd\} 5 \% of \$x\_1\textasciicircum{}2 \& \textasciitilde{}\{y\}" in text
    assert r"\input" not in text


def test_text_of_others_is_neither_markup_nor_formula(toy: Benchmark, tmp_path: Path) -> None:
    hostile = Contamination(dataset="=cmd()", level="unknown", note="<script>alert(1)</script> | [x](y) `z`\n# head")
    make_run(tmp_path, toy, "alpha", contamination=(hostile,))
    made = collect(tmp_path)
    text = board_markdown(made)
    assert "<script>" not in text
    assert "\n# head" not in text
    assert r"\| \[x\](y) \`z\`" in text
    cells = next(csv.DictReader(io.StringIO(board_csv(made))))
    assert cells["contamination"] == "'=cmd():unknown"


def test_names_seen_are_shown_wherever_contamination_is(toy: Benchmark, tmp_path: Path) -> None:
    counts = NamesSeen(seen=3, names=4, rare_seen=1, rare=2)
    seen = Contamination(dataset="toy-train", level="names", note="3 of 4 names", names=counts)
    make_run(tmp_path, toy, "alpha", contamination=(seen,))
    made = collect(tmp_path)
    words = "toy-train: names of the benchmark among the labels of the training data – 3 of 4 names"
    assert f"⚑1 {words}" in board_markdown(made)
    assert words in render(made, title="board")
    assert next(csv.DictReader(io.StringIO(board_csv(made))))["contamination"] == "toy-train:names"
    (shown,) = board_document(made)["tables"][0]["rows"][0]["contamination"]
    assert shown["names"] == {"seen": 3, "names": 4, "rare_seen": 1, "rare": 2}
    console = Console(width=200, record=True)
    console.print(board_tables(made, width=200))
    assert f"⚑1 {words}" in console.export_text()


def test_the_same_board_gives_the_same_files(results: Path, tmp_path: Path) -> None:
    made = collect(results, resamples=20)
    first = [path.read_bytes() for path in write_board(tmp_path, made)]
    second = [path.read_bytes() for path in write_board(tmp_path, collect(results, resamples=20))]
    assert first == second
    assert sorted(path.name for path in tmp_path.iterdir()) == ["board.html", "board.json", "board.md"]


def test_own_published_numbers_take_the_place_of_the_shipped_ones(toy: Benchmark, tmp_path: Path) -> None:
    make_run(tmp_path, toy, "alpha")
    (tmp_path / "published.json").write_text('{"schema": 1, "about": "mine", "rows": []}')
    made = collect(tmp_path)
    assert made.published is not None
    assert made.published.about == "mine"


def test_a_benchmark_can_be_picked(results: Path, tmp_path: Path) -> None:
    assert len(collect(results, ["toy"], resamples=20).tables) == 2
    with pytest.raises(DataError, match=r"no results on benchmark 'nope'; there are: toy"):
        collect(results, ["nope"])
    with pytest.raises(DataError, match="no such folder"):
        collect(tmp_path / "absent")


def test_an_empty_folder_is_an_empty_board(tmp_path: Path) -> None:
    made = collect(tmp_path)
    assert made.tables == ()
    assert "No complete runs yet" in board_markdown(replace(made, published=None))
