"""Rows of a table that are not significantly worse than the best one."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

from ovd_bench.benchmarks.board.rows import BoardTable, Row, Standing
from ovd_bench.metrics.departure import is_protocol, protocol_named
from ovd_bench.metrics.errors import DataError
from ovd_bench.metrics.evaluate import Evaluation, evaluate
from ovd_bench.metrics.types import GroundTruth, Predictions

#: Resamples of the paired bootstrap.
RESAMPLES = 1000

#: Another numpy may sum in another order; other predictions differ by much more.
_SAME_AP = 1e-9


@dataclass(frozen=True)
class Evidence:
    """Input of a paired comparison of the rows of one table.

    Attributes:
        gt: the annotations of the table, or one line that says why they are not available.
        predictions: per result id a reader, or one line that says why there are no predictions. A reader raises
            DataError.
    """

    gt: GroundTruth | str
    predictions: Mapping[str, Callable[[], Predictions] | str]


def compare_with_best(
    table: BoardTable, evidence: Evidence, *, resamples: int = RESAMPLES, seed: int = 0
) -> BoardTable:
    """The table with a comparison for every row.

    The star belongs to the best row and to every row whose difference to it is not significant: zero lies in the 95 %
    interval of the paired bootstrap over the images. Without the predictions of both, rows whose own intervals overlap
    get a star. This gives more stars, since shared noise (hard images) does not cancel. A row that cannot be judged in
    either way gets none.
    """
    if sum(row.value("AP") is not None for row in table.rows) < 2:
        return table  # nothing to compare
    best = table.rows[0]
    leader: Evaluation | str | None = None
    rows = [replace(best, standing=Standing(True, "best", 0.0))]
    for row in table.rows[1:]:
        if row.value("AP") is None:
            rows.append(row)
            continue
        if leader is None:
            leader = _evaluation(best, evidence)
        rows.append(replace(row, standing=_standing(best, row, leader, evidence, resamples, seed)))
    return with_standings(table, [row.standing for row in rows], resamples, seed)


def with_standings(table: BoardTable, standings: Sequence[Standing], resamples: int, seed: int) -> BoardTable:
    """The table with given comparisons, one per row, and notes on how they were made."""
    rows = [replace(row, standing=standing) for row, standing in zip(table.rows, standings, strict=True)]
    return replace(table, rows=tuple(rows), notes=(*table.notes, *_notes(rows, resamples, seed)))


def _standing(best: Row, row: Row, leader: Evaluation | str, evidence: Evidence, resamples: int, seed: int) -> Standing:
    ap, top = row.value("AP"), best.value("AP")
    assert ap is not None
    assert top is not None
    other = leader if isinstance(leader, str) else _evaluation(row, evidence)
    if not isinstance(leader, str) and not isinstance(other, str):
        from ovd_bench.metrics.comparison import compare  # needs scipy, which takes time to import

        assert isinstance(evidence.gt, GroundTruth)
        difference = compare(evidence.gt, leader, other, resamples=resamples, seed=seed).differences["AP"]
        if difference.ci95 is not None:
            low, high = difference.ci95
            return Standing(low <= 0 <= high, "paired", difference.delta, difference.ci95)
        other = "the difference has no interval"
    assert isinstance(other, str)
    mine, theirs = row.metric("AP").ci95, best.metric("AP").ci95
    if mine is None or theirs is None:
        return Standing(False, None, ap - top, reason=other)
    return Standing(mine[1] >= theirs[0], "intervals", ap - top, reason=other)


def _evaluation(row: Row, evidence: Evidence) -> Evaluation | str:
    """The run scored again with records, or why this is not possible."""
    if isinstance(evidence.gt, str):
        return evidence.gt
    reader = evidence.predictions.get(row.result.id, "no predictions")
    if not is_protocol(row.result.protocol.name):
        return f"no paired comparison under '{row.result.protocol.name}'"
    if isinstance(reader, str):
        return f"{reader} for {row.name}"
    try:
        protocol = protocol_named(row.result.protocol.name)
        evaluation = evaluate(evidence.gt, reader(), protocol, keep_records=True)
    except DataError as error:
        return f"{row.name}: {error}"
    again, recorded = evaluation.metrics["AP"], row.value("AP")
    if again is None or recorded is None or abs(again - recorded) > _SAME_AP:
        return f"predictions of {row.name} do not give the AP of its result file"
    return evaluation


def _notes(rows: list[Row], resamples: int, seed: int) -> list[str]:
    by_basis = {
        basis: [row.name for row in rows if row.standing.basis == basis] for basis in ("paired", "intervals", None)
    }
    notes = []
    if by_basis["paired"]:
        notes.append(
            "★ best, or not significantly worse by the paired bootstrap over images "
            f"({resamples:,} resamples, seed {seed}, 95 % interval)"
        )
    if by_basis["intervals"]:
        names = ", ".join(by_basis["intervals"])
        reasons = _reasons([row for row in rows if row.standing.basis == "intervals"])
        notes.append(f"judged only by whether the intervals overlap, a weaker test: {names} ({reasons})")
    unjudged = [row for row in rows if row.standing.basis is None and row.value("AP") is not None]
    if unjudged:
        names = ", ".join(row.name for row in unjudged)
        notes.append(f"not judged, without an interval: {names} ({_reasons(unjudged)})")
    return notes


def _reasons(rows: list[Row]) -> str:
    return "; ".join(dict.fromkeys(row.standing.reason for row in rows))
