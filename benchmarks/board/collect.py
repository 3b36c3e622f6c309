"""The board: every result file under a folder, grouped, ranked and judged."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from ovd_bench.benchmarks.board.published import PUBLISHED, Published, read_published
from ovd_bench.benchmarks.board.rows import BoardTable, group
from ovd_bench.benchmarks.board.significance import RESAMPLES, Evidence, compare_with_best, with_standings
from ovd_bench.benchmarks.board.standing_cache import comparison_key, remember, remembered
from ovd_bench.benchmarks.board.suites import SuiteTable, suite_tables
from ovd_bench.benchmarks.data.catalog.benchmark import Benchmark
from ovd_bench.benchmarks.data.files.annotations import read_ground_truth
from ovd_bench.benchmarks.store.folders import find_results, manifest_path
from ovd_bench.benchmarks.store.manifest import read_manifest
from ovd_bench.benchmarks.store.predictions import read_run_predictions
from ovd_bench.benchmarks.store.schema import Result
from ovd_bench.benchmarks.store.suite_lists import known_suites
from ovd_bench.metrics.errors import DataError
from ovd_bench.metrics.types import GroundTruth, Predictions


@dataclass(frozen=True)
class Board:
    """Content of the board.

    Attributes:
        tables: one per benchmark and protocol.
        published: other people's numbers; None = not shown.
        partial: runs left out because they are partial.
        problems: one line per result file that could not be read.
        suites: means over several benchmarks.
        asked: names of benchmarks that were asked for one by one.
    """

    tables: tuple[BoardTable, ...]
    published: Published | None = None
    partial: int = 0
    problems: tuple[str, ...] = ()
    suites: tuple[SuiteTable, ...] = ()
    asked: frozenset[str] = frozenset()

    @property
    def shown(self) -> tuple[BoardTable, ...]:
        """The tables that readers see: not those of which each row is a cell of a suite's table."""
        cells = {one.id for table in self.suites for row in table.rows for one in row.mean.results.values()}
        return tuple(
            table
            for table in self.tables
            if table.benchmark.name in self.asked or not all(row.result.id in cells for row in table.rows)
        )


def collect(root: Path, benchmarks: Sequence[str] = (), *, resamples: int = RESAMPLES, seed: int = 0) -> Board:
    """Read the results under a folder and build the board.

    Args:
        root: folder of the results; its own ``published.json`` replaces the one that ships with the suite.
        benchmarks: names, also of suites; empty = all. A suite in which no detector has all sets must be named.
        resamples: number of resamples of the paired bootstrap.
        seed: seed of the bootstrap.

    Raises:
        DataError: the folder does not exist, or a named benchmark has no result.
    """
    if not root.is_dir():
        raise DataError(f"{root}: no such folder: make a run with 'bench run' or name another folder with --out")
    found, problems = find_results(root)
    suites, unreadable = known_suites(root)
    have = {result.benchmark.name for _, result in found}
    named = [suite for suite in suites if suite.name in benchmarks and not have.isdisjoint(suite.names)]
    asked = set(benchmarks) - {suite.name for suite in named}
    if unknown := sorted(asked - have):
        raise DataError(
            f"{root}: no results on benchmark '{unknown[0]}'; there are: {', '.join(sorted(have)) or 'none'}"
        )
    names = asked.union(*(suite.names for suite in named))
    wanted = [(path.parent, result) for path, result in found if not benchmarks or result.benchmark.name in names]
    tables = [_judged(table, resamples, seed) for table in group(wanted)]
    results = [result for _, result in wanted]
    return Board(
        tables=tuple(tables),
        published=_published(root, benchmarks),
        partial=sum(result.partial for result in results),
        problems=(*problems, *unreadable),
        suites=tuple(suite_tables(named if benchmarks else suites, results, incomplete=bool(benchmarks))),
        asked=frozenset(asked),
    )


def of_runs(runs: Sequence[tuple[Path, Result]], *, resamples: int = RESAMPLES, seed: int = 0) -> Board:
    """A board of given runs, partial ones included."""
    tables = group(runs, keep_partial=True)
    return Board(tuple(_judged(table, resamples, seed) for table in tables))


def _judged(table: BoardTable, resamples: int, seed: int) -> BoardTable:
    """The table with a comparison for every row: of an earlier board if all files are the same."""
    benchmark = benchmark_of(table)
    alone = sum(row.value("AP") is not None for row in table.rows) < 2
    key = None if alone or isinstance(benchmark, str) else comparison_key(table, benchmark, resamples, seed)
    if key is not None and (standings := remembered(key, len(table.rows))) is not None:
        return with_standings(table, standings, resamples, seed)
    made = compare_with_best(table, gather_evidence(table), resamples=resamples, seed=seed)
    if key is not None and not any(row.standing.reason for row in made.rows):
        remember(key, [row.standing for row in made.rows])
    return made


def gather_evidence(table: BoardTable) -> Evidence:
    """Annotations and predictions of a table, as far as they are on this machine."""
    predictions: dict[str, Callable[[], Predictions] | str] = {}
    for row in table.rows:
        there = manifest_path(row.folder).is_file()
        predictions[row.result.id] = (
            partial(read_run_predictions, row.folder) if there else "no predictions on this machine"
        )
    benchmark = benchmark_of(table)
    if isinstance(benchmark, str):
        return Evidence(benchmark, predictions)
    if any(row.result.partial for row in table.rows):
        return Evidence("partial runs are not compared", predictions)
    try:
        gt: GroundTruth | str = read_ground_truth(benchmark.annotations)
    except DataError as error:
        gt = str(error)
    return Evidence(gt, predictions)


def benchmark_of(table: BoardTable) -> Benchmark | str:
    """The benchmark of a table from the paths of one of its runs, or one line that says why it is missing."""
    reason = "no run has its predictions on this machine"
    for row in table.rows:
        if manifest_path(row.folder).is_file():
            try:
                place = read_manifest(row.folder).benchmark
                if place.annotations_sha256 == table.benchmark.annotations_sha256:
                    return place.benchmark()
                reason = "the predictions on this machine were made on other annotations"
            except DataError:
                reason = "the annotations are no longer on this machine"
    return reason


def _published(root: Path, benchmarks: Sequence[str]) -> Published | None:
    path = next((path for path in (root / PUBLISHED.name, PUBLISHED) if path.is_file()), None)
    if path is None:
        return None
    published = read_published(path)
    rows = [row for row in published.rows if not benchmarks or row.benchmark in benchmarks]
    return published.model_copy(update={"rows": rows})
