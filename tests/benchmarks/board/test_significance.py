"""Who gets the star, and by which test."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from ovd_bench.benchmarks.board import collect as collect_module
from ovd_bench.benchmarks.board.collect import gather_evidence
from ovd_bench.benchmarks.board.rows import BoardTable, Row, group
from ovd_bench.benchmarks.board.significance import compare_with_best
from ovd_bench.benchmarks.board.text_formats import board_json
from ovd_bench.benchmarks.data.catalog.benchmark import Benchmark
from ovd_bench.benchmarks.data.files.annotations import read_ground_truth
from ovd_bench.benchmarks.scoring.compare import compare_files
from ovd_bench.benchmarks.store.folders import find_results
from ovd_bench.metrics.errors import DataError
from ovd_bench.tests.benchmarks.board.made_runs import load, make_predictions, make_run


def _lvis(results: Path) -> BoardTable:
    found = [(path.parent, result) for path, result in find_results(results)[0]]
    return next(table for table in group(found) if table.protocol.name == "lvis")


def _row(table: BoardTable, name: str) -> Row:
    return next(row for row in table.rows if row.name.startswith(name))


def test_the_star_follows_the_paired_bootstrap(results: Path, toy: Benchmark) -> None:
    table = _lvis(results)
    compared = compare_with_best(table, gather_evidence(table), resamples=200, seed=3)
    best = compared.rows[0]
    assert (best.standing.starred, best.standing.basis, best.standing.delta) == (True, "best", 0.0)
    for name in ("beta", "gamma", "alpha@bbbbbbbb"):
        row = _row(compared, name)
        if row is best:
            continue
        first, second = (r.folder / "predictions" / "shard-00000-of-00001.arrow" for r in (best, row))
        _, comparison, _ = compare_files(first, second, toy.annotations, "lvis", resamples=200, seed=3, threads=1)
        difference = comparison.differences["AP"]
        assert difference.ci95 is not None
        assert row.standing.basis == "paired"
        assert row.standing.ci95 == difference.ci95
        assert row.standing.starred == (difference.ci95[0] <= 0 <= difference.ci95[1])
    assert not _row(compared, "gamma").standing.starred


def test_without_predictions_intervals_decide_and_it_says_so(results: Path) -> None:
    table = _lvis(results)
    compared = compare_with_best(table, gather_evidence(table), resamples=50)
    best, delta = compared.rows[0], _row(compared, "delta")
    mine, theirs = delta.metric("AP").ci95, best.metric("AP").ci95
    assert mine is not None
    assert theirs is not None
    assert delta.standing.basis == "intervals"
    assert delta.standing.starred == (mine[1] >= theirs[0])
    assert delta.standing.ci95 is None
    assert any("overlap" in note and "delta" in note and "beta" not in note for note in compared.notes)


def test_without_annotations_every_row_is_judged_by_intervals(results: Path) -> None:
    table = _lvis(results)
    evidence = replace(gather_evidence(table), gt="the annotations are gone")
    compared = compare_with_best(table, evidence)
    assert {row.standing.basis for row in compared.rows[1:]} == {"intervals"}
    assert any("the annotations are gone" in note for note in compared.notes)


def test_equal_runs_share_the_star_and_a_lone_run_has_none(toy: Benchmark, tmp_path: Path) -> None:
    same = make_predictions(toy, miss=0.2, wrong=0.2, seed=1)
    runs = [load(make_run(tmp_path, toy, name, predictions=same)) for name in ("a", "b")]
    table = group(runs)[0]
    assert [row.standing.starred for row in compare_with_best(table, gather_evidence(table), resamples=20).rows] == [
        True,
        True,
    ]
    alone = group(runs[:1])[0]
    assert [row.standing.starred for row in compare_with_best(alone, gather_evidence(alone)).rows] == [False]


def test_no_interval_and_no_predictions_means_not_judged(toy: Benchmark, tmp_path: Path) -> None:
    best = load(make_run(tmp_path, toy, "a", miss=0.1, seed=1))
    bare = load(make_run(tmp_path, toy, "b", miss=0.5, seed=2, keep_predictions=False, bootstrap=0))
    table = group([best, bare])[0]
    compared = compare_with_best(table, gather_evidence(table))
    assert (compared.rows[1].standing.starred, compared.rows[1].standing.basis) == (False, None)
    assert any("not judged" in note and "b" in note for note in compared.notes)


def test_predictions_that_are_not_those_of_the_result_are_not_used(toy: Benchmark, tmp_path: Path) -> None:
    runs = [load(make_run(tmp_path, toy, name, seed=seed)) for name, seed in (("a", 1), ("b", 2))]
    table = group(runs)[0]
    evidence = gather_evidence(table)
    other = make_predictions(toy, miss=0.9, wrong=0.5, seed=8)
    swapped = {result_id: lambda: other for result_id in evidence.predictions}
    compared = compare_with_best(table, replace(evidence, predictions=swapped))
    assert compared.rows[1].standing.basis == "intervals"
    assert "do not give the AP" in compared.rows[1].standing.reason


def test_damaged_predictions_are_a_reason_not_an_error(toy: Benchmark, tmp_path: Path) -> None:
    runs = [load(make_run(tmp_path, toy, name, seed=seed)) for name, seed in (("a", 1), ("b", 2))]
    shard = runs[1][0] / "predictions" / "shard-00000-of-00001.arrow"
    shard.write_bytes(shard.read_bytes()[:-20])
    table = group(runs)[0]
    compared = compare_with_best(table, gather_evidence(table))
    assert compared.rows[1].standing.basis == "intervals"
    assert "shards are missing or changed" in compared.rows[1].standing.reason


def test_changed_annotations_are_noticed(toy: Benchmark, tmp_path: Path) -> None:
    copy = tmp_path / "gt.json"
    copy.write_bytes(toy.annotations.read_bytes())
    moved = replace(toy, annotations=copy)
    runs = [load(make_run(tmp_path / "r", moved, name, seed=seed)) for name, seed in (("a", 1), ("b", 2))]
    copy.write_text(copy.read_text() + " ")
    table = group(runs)[0]
    assert isinstance(gather_evidence(table).gt, str)
    copy.unlink()
    assert isinstance(gather_evidence(table).gt, str)
    with pytest.raises(DataError):
        read_ground_truth(copy)


def test_old_intervals_are_named(toy: Benchmark, tmp_path: Path) -> None:
    """A result of before the present rule of intervals says so below the table, and nowhere else."""
    (first, new), (folder, other) = (
        load(make_run(tmp_path, toy, name, seed=seed)) for name, seed in (("a", 1), ("b", 2))
    )
    old = other.model_copy(update={"run": other.run.model_copy(update={"interval": None})})
    (note,) = [one for one in group([(first, new), (folder, old)])[0].notes if one.startswith("± ")]
    assert note.startswith("± by the old rule")
    assert ": b;" in note
    assert not [one for one in group([(first, new), (folder, other)])[0].notes if one.startswith("± ")]


def test_every_paired_difference_lies_in_its_interval(results: Path) -> None:
    table = _lvis(results)
    for row in compare_with_best(table, gather_evidence(table), resamples=100).rows[1:]:
        standing = row.standing
        if standing.basis == "paired":
            assert standing.ci95 is not None
            assert standing.delta is not None
            assert standing.ci95[0] <= standing.delta <= standing.ci95[1]


def test_the_same_files_are_compared_once(toy: Benchmark, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    counted: list[str] = []

    def counting(table: BoardTable, *arguments: Any, **options: Any) -> BoardTable:
        counted.append(table.slug)
        return compare_with_best(table, *arguments, **options)

    monkeypatch.setattr(collect_module, "compare_with_best", counting)
    folders = [make_run(tmp_path / "r", toy, name, seed=seed) for seed, name in enumerate(("one", "two"), 1)]

    def board(seed: int = 0) -> str:
        return board_json(collect_module.collect(tmp_path / "r", resamples=20, seed=seed))

    first = board()
    assert (board(), len(counted)) == (first, 1)
    assert (board(seed=1) == first, len(counted)) == (False, 2)
    for file in (tmp_path / "cache").rglob("*.json"):
        file.write_text('[{"starred": 7}]')
    assert (board(), len(counted)) == (first, 3)
    shutil.rmtree(folders[1])
    make_run(tmp_path / "r", toy, "two", miss=0.9, seed=2)
    assert (board() == first, len(counted)) == (False, 4)
    (folders[0] / "predictions" / "shard-00000-of-00001.arrow").write_bytes(b"damaged")
    damaged = board()
    assert (board(), damaged == first, len(counted)) == (damaged, False, 6)  # what is incomplete is not kept
