"""Rows and tables of the board. Two rows share a table only if benchmark and protocol hashes agree."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from ovd_bench.benchmarks.board.measured_speed import speed_notes
from ovd_bench.benchmarks.board.provenance import provenance_notes
from ovd_bench.benchmarks.store.schema import BenchmarkInfo, Metric, ProtocolInfo, Result

#: Reason for a star: the row leads; its paired difference is not significant; the intervals overlap.
StarBasis = Literal["best", "paired", "intervals"]

_NOTHING = Metric(value=None)


@dataclass(frozen=True)
class Standing:
    """Comparison of a row with the leader of its table.

    Attributes:
        starred: best, or not distinguishable from the best.
        basis: reason for this; None if it could not be judged.
        delta: AP of the row minus AP of the leader.
        ci95: 95 % interval of the paired difference; None without a paired comparison.
        reason: why there was no paired comparison; empty if there was one.
    """

    starred: bool
    basis: StarBasis | None
    delta: float | None = None
    ci95: tuple[float, float] | None = None
    reason: str = ""


@dataclass(frozen=True)
class Row:
    """One run on the board.

    Attributes:
        rank: by AP, equal AP equal rank; None without AP.
        name: name of the detector; if it is not unique in the table, with weights, then with result id.
        result: the result file.
        folder: folder of the run, for predictions and AP per class.
        standing: against the leader.
    """

    rank: int | None
    name: str
    result: Result
    folder: Path
    standing: Standing

    def metric(self, name: str) -> Metric:
        """A number with its interval; the value is None if the result does not have it."""
        return self.result.metrics.get(name, _NOTHING)

    def value(self, name: str) -> float | None:
        """A number, None where it is undefined or missing."""
        return self.metric(name).value


@dataclass(frozen=True)
class BoardTable:
    """Runs on the same annotations under the same protocol, best first.

    Attributes:
        benchmark, protocol: those of all rows; the hashes agree.
        rows: by descending AP, those without AP last.
        notes: one-line notes on differences between the rows, and on the rules of intervals and stars.
    """

    benchmark: BenchmarkInfo
    protocol: ProtocolInfo
    rows: tuple[Row, ...]
    notes: tuple[str, ...] = ()

    @property
    def slug(self) -> str:
        """Short name, unique on a board."""
        protocol = self.protocol
        hashes = f"{self.benchmark.annotations_sha256[:8]}-{protocol.sha256[:8]}"
        return f"{self.benchmark.name}-{protocol.name}-{protocol.plan.name}-{hashes}"


def group(results: Sequence[tuple[Path, Result]], *, keep_partial: bool = False) -> list[BoardTable]:
    """Tables of the results, by name of the benchmark and protocol, without stars.

    Partial runs are left out by default; results with the same id are one row.

    Args:
        results: folder and content of every result file.
        keep_partial: for a report on given runs.
    """
    tables: dict[tuple[str, str], dict[str, tuple[Path, Result]]] = {}
    for folder, result in results:
        if not result.partial or keep_partial:
            key = (result.benchmark.annotations_sha256, result.protocol.sha256)
            tables.setdefault(key, {}).setdefault(result.id, (folder, result))
    grouped = [_table(list(members.values())) for members in tables.values()]
    return sorted(grouped, key=lambda table: (table.benchmark.name, table.protocol.name, table.slug))


def _table(members: list[tuple[Path, Result]]) -> BoardTable:
    members = sorted(members, key=lambda member: (-_ap(member[1]), member[1].detector.name, member[1].id))
    names = row_names([result for _, result in members])
    unjudged = Standing(False, None)
    rows = []
    for (folder, result), name in zip(members, names, strict=True):
        better = sum(_ap(other) > _ap(result) for _, other in members)
        rank = better + 1 if _ap(result) >= 0 else None
        rows.append(Row(rank, name, result, folder, unjudged))
    first = members[0][1]
    found = [result for _, result in members]
    notes = [*provenance_notes(first.protocol, names, found), *_warnings(rows), *_about_intervals(rows)]
    return BoardTable(first.benchmark, first.protocol, tuple(rows), (*notes, *speed_notes(names, found)))


def _warnings(rows: Sequence[Row]) -> list[str]:
    """Warnings of detectors, such as names with nearly equal vectors."""
    return [f"{row.name}: {note}" for row in rows for note in row.result.detector.notes if note.startswith("warning: ")]


def _about_intervals(rows: Sequence[Row]) -> tuple[str, ...]:
    """A note on rows whose intervals follow an older rule."""
    old = [row.name for row in rows if row.metric("AP").ci95 is not None and row.result.run.interval is None]
    if not old:
        return ()
    return (
        f"± by the old rule (1.96 bootstrap standard deviations, too narrow for classes in few images): "
        f"{', '.join(old)}; 'bench score RUN --save' recomputes it from the predictions",
    )


def row_names(results: Sequence[Result]) -> list[str]:
    """The shortest unique names of the results: detector, ``detector@weights8``, the same with the result id."""
    plain = [result.detector.name for result in results]
    exact = [f"{result.detector.name}@{result.detector.weights_sha256[:8]}" for result in results]
    count_plain, count_exact = Counter(plain), Counter(exact)
    names = []
    for result, short, long in zip(results, plain, exact, strict=True):
        if count_plain[short] == 1:
            names.append(short)
        elif count_exact[long] == 1:
            names.append(long)
        else:
            names.append(f"{long}#{result.id[:6]}")
    return names


def _ap(result: Result) -> float:
    """AP for sorting; -1 where undefined."""
    metric = result.metrics.get("AP", _NOTHING)
    return -1.0 if metric.value is None else metric.value
