"""Tables of suites on the board."""

from __future__ import annotations

import dataclasses
import re
from pathlib import Path

import pytest
from rich.console import Console

from ovd_bench.benchmarks.board.collect import Board, collect
from ovd_bench.benchmarks.board.latex import board_latex
from ovd_bench.benchmarks.board.page import render
from ovd_bench.benchmarks.board.suites import SuiteTable
from ovd_bench.benchmarks.board.terminal import board_tables
from ovd_bench.benchmarks.board.text_formats import board_csv, board_document, board_markdown
from ovd_bench.benchmarks.data.catalog.suites import Member, Suite
from ovd_bench.benchmarks.store.protocols import RunProtocol
from ovd_bench.benchmarks.store.suite_lists import known_suites, remember_suite
from ovd_bench.detectors.prompts import PLANS
from ovd_bench.metrics.errors import DataError
from ovd_bench.tests.benchmarks.board.made_runs import make_benchmark, make_run

SUITE = Suite("toys", "toys", tuple(Member(f"toys-{name}", name) for name in ("one", "two")))


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three detectors under one plan, one of them on one set only, and one with raw names on one set."""
    folder = tmp_path_factory.mktemp("suite")
    root = folder / "results"
    for seed, member in enumerate(SUITE.names):
        made = make_benchmark(folder / member, images=10, seed=seed)
        benchmark = dataclasses.replace(made, name=member)
        for number, name in enumerate(("alpha", "beta", "gamma")[: 3 - seed]):
            make_run(root, benchmark, name, miss=0.1 + 0.2 * number, bootstrap=20, weights="abc"[number])
        if seed == 0:
            raw = RunProtocol.of("lvis", PLANS["raw"])
            make_run(root, benchmark, "delta", bootstrap=20, weights="d", protocol=raw)
        else:
            make_run(root, benchmark, "delta", bootstrap=20, weights="d")
    remember_suite(root, SUITE)
    return root


@pytest.fixture(scope="module")
def board(root: Path) -> Board:
    return collect(root, resamples=20)


def test_rows_have_a_mean_if_they_have_all_sets(board: Board) -> None:
    first, second = board.suites
    assert [row.label for row in first.rows] == ["alpha", "beta", "gamma (1 of 2 sets)"]
    assert [row.rank for row in first.rows] == [1, 2, None]
    for row in first.rows[:2]:
        values = [row.mean.metric(name).value or 0 for name in SUITE.names]
        assert row.mean.mean.value == pytest.approx(sum(values) / 2)
        assert row.mean.mean.ci95 is not None
    assert first.rows[2].mean.mean.value is None
    # The usual plan may differ between sets; rows with other plans are in another table.
    assert [row.label for row in second.rows] == ["delta"]
    assert second.rows[0].mean.complete


def test_single_tables_give_way_unless_they_are_asked_for(board: Board, root: Path) -> None:
    assert board.tables
    assert board.shown == ()
    asked = collect(root, ["toys-one"], resamples=20)
    assert not asked.suites
    assert asked.shown == asked.tables
    both = collect(root, ["toys", "toys-one"], resamples=20)
    assert len(both.suites) == 2
    assert {table.benchmark.name for table in both.shown} == {"toys-one"}


def test_a_suite_that_nobody_finished_must_be_named(tmp_path: Path) -> None:
    made = make_benchmark(tmp_path / "one", images=10)
    make_run(tmp_path / "results", dataclasses.replace(made, name="toys-one"), bootstrap=20)
    remember_suite(tmp_path / "results", SUITE)
    assert collect(tmp_path / "results", resamples=20).suites == ()
    (table,) = collect(tmp_path / "results", ["toys"], resamples=20).suites
    assert table.rows[0].label == "alpha (1 of 2 sets)"


def cells(table: SuiteTable) -> list[str]:
    return [cell for row in table.rows for cell in table.cells(row)]


def test_all_formats_show_all_numbers(board: Board) -> None:
    console = Console(width=160, record=True)
    console.print(board_tables(board, width=160))
    texts = (console.export_text(), board_markdown(board), render(board, title="t"))
    for text in texts:
        for cell in cells(board.suites[0]):
            assert cell in text
        assert "gamma (1 of 2 sets)" in text
    assert "toys: 2 sets" in board_latex(board)
    assert len(board_csv(board).splitlines()) == 1 + sum(len(table.rows) for table in board.tables)
    (first, second) = board_document(board)["suites"]
    assert [row["complete"] for row in first["rows"]] == [True, True, False]
    assert set(second["rows"][0]["sets"]) == set(SUITE.names)


def test_a_narrow_terminal_says_what_it_leaves_out(board: Board) -> None:
    console = Console(width=44, record=True)
    console.print(board_tables(board, width=44))
    assert re.search(r"\d sets left out, the terminal is too narrow", " ".join(console.export_text().split()))


def test_lists_beside_results(tmp_path: Path) -> None:
    remember_suite(tmp_path, SUITE)
    remember_suite(tmp_path, SUITE)
    suites, problems = known_suites(tmp_path)
    assert suites[-1].names == SUITE.names
    assert not problems
    other = dataclasses.replace(SUITE, members=(*SUITE.members, Member("toys-three", "three")))
    with pytest.raises(DataError, match="a suite of this name with other sets is there"):
        remember_suite(tmp_path, other)
    (tmp_path / "suites/bad.json").write_text('{"schema": 1, "name": "good", "sets": ["a", "b"]}')
    (tmp_path / "suites/worse.json").write_text("[")
    _, problems = known_suites(tmp_path)
    assert len(problems) == 2
    assert all(problem.startswith(str(tmp_path)) and "\n" not in problem for problem in problems)
