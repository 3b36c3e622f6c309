"""Grouping, ranking and naming of rows."""

from __future__ import annotations

from pathlib import Path

from ovd_bench.benchmarks.board.rows import group, row_names
from ovd_bench.benchmarks.data.catalog.benchmark import Benchmark
from ovd_bench.benchmarks.store.folders import find_results
from ovd_bench.benchmarks.store.protocols import RunProtocol
from ovd_bench.detectors.prompts import PromptPlan
from ovd_bench.tests.benchmarks.board.made_runs import load, make_benchmark, make_run


def test_rows_share_a_table_only_if_both_hashes_agree(results: Path, toy: Benchmark, tmp_path: Path) -> None:
    other = make_benchmark(tmp_path / "data", seed=9)
    shorter = RunProtocol.of("lvis", PromptPlan(), top_k=10)
    more = [make_run(tmp_path / "a", other, "alpha"), make_run(tmp_path / "b", toy, "alpha", protocol=shorter)]
    found = [(path.parent, result) for path, result in find_results(results)[0]] + [load(folder) for folder in more]
    tables = group(found)
    keys = {(table.benchmark.annotations_sha256, table.protocol.sha256) for table in tables}
    assert len(tables) == len(keys) == 4
    assert len({table.slug for table in tables}) == 4
    for table in tables:
        for row in table.rows:
            assert row.result.benchmark.annotations_sha256 == table.benchmark.annotations_sha256
            assert row.result.protocol.sha256 == table.protocol.sha256


def test_partial_runs_stay_out_unless_asked_for(results: Path) -> None:
    found = [(path.parent, result) for path, result in find_results(results)[0]]
    names = [row.name for table in group(found) for row in table.rows]
    assert "part" not in names
    assert "part" in [row.name for table in group(found, keep_partial=True) for row in table.rows]


def test_other_weights_are_another_row_and_the_same_result_is_one(results: Path, toy: Benchmark) -> None:
    found = [(path.parent, result) for path, result in find_results(results)[0]]
    table = next(table for table in group([*found, *found]) if table.protocol.name == "lvis")
    assert sorted(row.name for row in table.rows) == ["alpha@aaaaaaaa", "alpha@bbbbbbbb", "beta", "delta", "gamma"]


def test_rows_are_ranked_by_ap_and_those_without_come_last(toy: Benchmark, tmp_path: Path) -> None:
    runs = [load(make_run(tmp_path, toy, name, seed=seed)) for name, seed in (("a", 1), ("b", 2), ("c", 1), ("d", 3))]
    folder, result = runs[3]
    nothing = result.metrics["AP"].model_copy(update={"value": None, "ci95": None})
    runs[3] = (folder, result.model_copy(update={"metrics": result.metrics | {"AP": nothing}, "id": "f" * 64}))
    rows = group(runs)[0].rows
    assert [row.value("AP") for row in rows[:3]] == sorted((row.value("AP") or 0 for row in rows[:3]), reverse=True)
    ranks = {row.name: row.rank for row in rows}
    assert ranks["a"] == ranks["c"]
    assert ranks["d"] is None
    assert rows[-1].name == "d"


def test_what_a_detector_warns_of_stands_below_the_table(toy: Benchmark, tmp_path: Path) -> None:
    said = {"a": ["warning: 3 pairs of class names are nearly the same"], "b": ["trained on a Tuesday"]}
    runs = []
    for seed, (name, notes) in enumerate(said.items(), 1):
        folder, result = load(make_run(tmp_path, toy, name, seed=seed))
        detector = result.detector.model_copy(update={"notes": notes})
        runs.append((folder, result.model_copy(update={"detector": detector})))
    below = [note for table in group(runs) for note in table.notes]
    assert "a: warning: 3 pairs of class names are nearly the same" in below
    assert not any("Tuesday" in note for note in below)


def test_names_are_as_short_as_they_can_be(toy: Benchmark, tmp_path: Path) -> None:
    runs = [
        make_run(tmp_path / "1", toy, "same", seed=1),
        make_run(tmp_path / "2", toy, "same", seed=2),
        make_run(tmp_path / "3", toy, "same", seed=3, weights="c"),
        make_run(tmp_path / "4", toy, "other", seed=3),
    ]
    results = [load(folder)[1] for folder in runs]
    names = row_names(results)
    assert names[2:] == ["same@cccccccc", "other"]
    assert names[:2] == [f"same@aaaaaaaa#{result.id[:6]}" for result in results[:2]]
