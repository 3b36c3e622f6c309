"""Speeds on the board: marks, notes, and a picture of comparable rows only."""

from __future__ import annotations

import csv
import io
import itertools
from pathlib import Path

import pytest
from rich.console import Console

from ovd_bench.benchmarks.board.collect import Board, of_runs
from ovd_bench.benchmarks.board.figures import Chart, charts
from ovd_bench.benchmarks.board.latex import board_latex
from ovd_bench.benchmarks.board.measured_speed import DOUBTED, OLD_WAY, comparable, speed_facts, speed_mark
from ovd_bench.benchmarks.board.page import render
from ovd_bench.benchmarks.board.terminal import board_tables
from ovd_bench.benchmarks.board.text_formats import board_csv, board_document, board_markdown
from ovd_bench.benchmarks.data.catalog.benchmark import Benchmark
from ovd_bench.benchmarks.store.schema import Result, WarmSpeed
from ovd_bench.tests.benchmarks.board.made_runs import load, make_run

ALONE = WarmSpeed(image_seconds=0.1, images=20, first_call_seconds=77.0, threads=2, alone=True, reasons=[])
LOADED = ALONE.model_copy(update={"alone": False, "reasons": ["a compiler <ran>"]})
BLIND = ALONE.model_copy(update={"alone": None, "reasons": ["nobody told"]})
KINDS = {"alone": ALONE, "loaded": LOADED, "blind": BLIND, "old": None}


@pytest.fixture(scope="module")
def runs(toy: Benchmark, tmp_path_factory: pytest.TempPathFactory) -> list[tuple[Path, Result]]:
    """A run of each kind, best first."""
    root = tmp_path_factory.mktemp("runs")
    return [
        load(make_run(root, toy, name, seed=seed, warm=warm, keep_predictions=False))
        for seed, (name, warm) in enumerate(KINDS.items())
    ]


@pytest.fixture(scope="module")
def board(runs: list[tuple[Path, Result]]) -> Board:
    return of_runs(runs, resamples=20)


def test_old_and_disturbed_rows_are_marked_and_the_others_are_not(runs: list[tuple[Path, Result]]) -> None:
    assert [speed_mark(result) for _, result in runs] == ["", DOUBTED, DOUBTED, OLD_WAY]
    for _, result in runs:
        none = result.model_copy(update={"speed": result.speed.model_copy(update={"images_per_second": None})})
        assert speed_mark(none) == ""


def test_marks_and_their_reasons_are_in_every_format(board: Board) -> None:
    (table,) = board.tables
    rates = {row.name: (row.result.speed.images_per_second, speed_mark(row.result)) for row in table.rows}
    cells = {name: f"{rate:.1f} {mark}".strip() for name, (rate, mark) in rates.items()}
    notes = "\n".join(note for note in table.notes if note[0] in (DOUBTED, OLD_WAY))
    for name, words in (("loaded", "a compiler <ran>"), ("blind", "nobody told"), ("old", OLD_WAY)):
        assert any(name in note and words in note for note in notes.splitlines())
    assert "alone (" not in notes
    console = Console(width=300, record=True)
    console.print(board_tables(board, width=300))
    shown = {"terminal": console.export_text(), "markdown": board_markdown(board), "page": render(board, title="t")}
    for text in shown.values():
        for name, cell in cells.items():
            assert any(name in part and cell in part for part in (text.splitlines() if "<html" not in text else [text]))
        assert text.count(DOUBTED) >= 4  # two cells, two notes
        assert text.count(OLD_WAY) >= 2
    assert "compiler <ran>" not in shown["page"]
    assert board_latex(board).count(r"\dag{}") == 4


def test_numbers_keep_their_place_and_say_how_they_were_made(board: Board) -> None:
    (table,) = board_document(board)["tables"]
    rows = {row["name"]: row for row in table["rows"]}
    methods = {name: (row["speed_method"], row["measured_alone"]) for name, row in rows.items()}
    assert methods["old"] == ("wall time", None)
    assert {name: alone for name, (_, alone) in methods.items()} == {
        **{"alone": True, "loaded": False},
        **{"blind": None, "old": None},
    }
    for cells in csv.DictReader(io.StringIO(board_csv(board))):
        row = rows[cells["name"]]
        assert float(cells["images_per_second"]) == row["images_per_second"]
        assert cells["speed_method"] == row["speed_method"]
        assert cells["measured_alone"] == {True: "1", False: "0", None: ""}[row["measured_alone"]]


def test_loading_and_first_call_are_told_apart(board: Board) -> None:
    (table,) = board.tables
    facts = {row.name: speed_facts(row.result) for row in table.rows}
    assert all("0.5 s" in text for text in facts.values())
    assert all(("77.00 s" in text) is (name != "old") for name, text in facts.items())
    assert "a compiler <ran>" in facts["loaded"]
    assert facts["alone"] in render(board, title="t")


def picture(board: Board) -> Chart:
    (table,) = board.tables
    return next(chart for chart in charts(table, [[]] * len(table.rows)) if "Speed" in chart.title)


def test_a_picture_needs_two_comparable_rows(board: Board, runs: list[tuple[Path, Result]]) -> None:
    chart = picture(board)
    assert chart.svg is None
    assert all(name in chart.caption for name in KINDS)
    assert chart.caption in render(board, title="t")
    twin = runs[0][1].model_copy(update={"id": "e" * 64})
    drawn = picture(of_runs([*runs, (runs[0][0], twin)], resamples=20))
    assert drawn.svg is not None
    assert drawn.svg.count('class="name"') == 2
    assert all(name in drawn.caption for name in ("loaded", "blind", "old"))


def other(result: Result, change: str) -> Result:
    """The same result, made otherwise."""
    env, run, warm = result.env, result.run, result.speed.warm
    assert warm is not None
    if change == "processor":
        env = env.model_copy(update={"cpu": "another"})
    elif change == "cores":
        env = env.model_copy(update={"cores": 64})
    elif change == "device":
        run = run.model_copy(update={"device": "cuda"})
    elif change == "batch":
        run = run.model_copy(update={"batch": 9})
    elif change == "threads":
        warm = warm.model_copy(update={"threads": 1})
    speed = result.speed.model_copy(update={"warm": warm})
    return result.model_copy(update={"env": env, "run": run, "speed": speed})


@pytest.mark.parametrize("change", ["processor", "cores", "device", "batch", "threads"])
def test_rows_of_another_setup_are_not_compared(runs: list[tuple[Path, Result]], change: str) -> None:
    one, two = runs[0][1], other(runs[0][1], change)
    assert comparable(["a", "b"], [one, one]).rows == (0, 1)
    assert comparable(["a", "b"], [one, two]).rows == ()
    found = comparable(["a", "b", "c", "d"], [two, one, two, two])
    assert found.rows == (0, 2, 3)
    assert any("b" in line.split(":")[0] for line in found.left_out)
    assert comparable(["a", "b", "c", "d"], [two, one, two, one]).rows == (0, 2)  # of equally many, those of the best


def test_only_comparable_rows_are_drawn(runs: list[tuple[Path, Result]]) -> None:
    kinds = {name: result for name, (_, result) in zip(KINDS, runs, strict=True)}
    for names in itertools.product(KINDS, repeat=3):
        found = comparable(names, [kinds[name] for name in names])
        alone = tuple(number for number, name in enumerate(names) if name == "alone")
        assert found.rows == (alone if len(alone) > 1 else ())
        told = ", ".join(found.left_out)
        assert all(name in told for name in names if name != "alone" or not found.rows)
