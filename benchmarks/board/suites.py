"""Tables of suites: a row per detector, the mean of AP over all sets and AP on each."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ovd_bench.benchmarks.board.columns import percent
from ovd_bench.benchmarks.board.rows import row_names
from ovd_bench.benchmarks.data.catalog.suites import Suite
from ovd_bench.benchmarks.scoring.suite_mean import SuiteMean
from ovd_bench.benchmarks.store.schema import Metric, Result

#: Parts of a protocol that may differ between the sets of one row: hashes, tables of names, and the cleaning of names,
#: which is by default whatever leaves the names of a set apart (``detectors.prompts.default_plan``).
_PER_SET = ("sha256", "tables")
_PER_SET_OF_PLAN = ("name", "sha256", "cleaning", "collisions")

_NOTES = (
    "mean: of AP over all sets, each with the same weight; only detectors with all sets have one",
    "± of the mean: the sets are fixed and their errors independent; no ★, because runs are compared set by set",
)


@dataclass(frozen=True)
class SuiteRow:
    """One detector under one protocol.

    Attributes:
        rank: by the mean, equal means equal rank; None without a mean.
        name: of the detector; with weights, then with a result id, if it is not unique in the table.
        mean: its numbers.
    """

    rank: int | None
    name: str
    mean: SuiteMean

    @property
    def label(self) -> str:
        """The name, with the number of sets of an incomplete row."""
        return self.name if self.mean.complete else f"{self.name} ({self.mean.extent})"


@dataclass(frozen=True)
class SuiteTable:
    """Detectors on one suite; annotations and protocol of every set are the same in all rows.

    Attributes:
        suite: the suite.
        number: of the table among those of the suite, from 1.
        rows: by descending mean, incomplete ones last.
        notes: one line each.
    """

    suite: Suite
    number: int
    rows: tuple[SuiteRow, ...]
    notes: tuple[str, ...] = _NOTES

    @property
    def slug(self) -> str:
        """Short name, unique on a board."""
        return f"suite-{self.suite.name}-{self.number}"

    @property
    def facts(self) -> str:
        """The protocol, in one line."""
        protocol = next(iter(self.rows[0].mean.results.values())).protocol
        templates = " | ".join(protocol.plan.templates)
        size = "own image size" if protocol.image_size is None else f"image size {protocol.image_size}"
        parts = (
            f"{len(self.suite.members)} sets",
            protocol.name,
            f"vocabulary {protocol.vocabulary}",
            f"prompts {templates}",
        )
        return " · ".join((*parts, f"top {protocol.top_k:,}", size))

    @property
    def header(self) -> list[str]:
        """Headings after rank and detector."""
        return ["mean AP", *map(self.suite.short, self.suite.names)]

    def cells(self, row: SuiteRow) -> list[str]:
        """Numbers of a row in percent, under ``header``; the mean has its interval."""
        mean = row.mean.mean
        width = "" if mean.ci95 is None else f" ± {50 * (mean.ci95[1] - mean.ci95[0]):.2f}"
        return [_shown(mean) + width, *(_shown(row.mean.metric(name)) for name in self.suite.names)]


def _shown(metric: Metric) -> str:
    return "–" if metric.value is None else percent(metric.value)


def suite_tables(suites: Sequence[Suite], results: Sequence[Result], *, incomplete: bool = False) -> list[SuiteTable]:
    """Tables of the suites that have results, in the order of the suites.

    Args:
        suites: to look for.
        results: of all benchmarks; partial ones do not count.
        incomplete: also tables in which no detector has all sets.
    """
    tables = []
    for suite in suites:
        members = frozenset(suite.names)
        mine = [result for result in results if result.benchmark.name in members and not result.partial]
        number = 0
        for rows in _groups(suite, _contenders(suite, mine)):
            if incomplete or any(row.complete for row in rows):
                number += 1
                tables.append(SuiteTable(suite, number, _ranked(rows)))
    return tables


def _contenders(suite: Suite, results: Sequence[Result]) -> list[SuiteMean]:
    """One per detector and protocol."""
    found: dict[str, dict[str, list[Result]]] = {}
    for result in results:
        key = json.dumps([result.detector.name, result.detector.weights_sha256, _shared_settings(result)])
        found.setdefault(key, {}).setdefault(result.benchmark.name, []).append(result)
    return [SuiteMean(suite, chosen) for sets in found.values() for chosen in _choices(suite, sets)]


def _shared_settings(result: Result) -> dict[str, Any]:
    protocol = result.protocol.model_dump(mode="json")
    plan = {name: value for name, value in protocol["plan"].items() if name not in _PER_SET_OF_PLAN}
    return {name: value for name, value in protocol.items() if name not in _PER_SET} | {"plan": plan}


def _choices(suite: Suite, sets: Mapping[str, list[Result]]) -> list[dict[str, Result]]:
    """The ways to fill a row: each cleaning that has all sets, and the usual mixture of cleanings."""
    cleanings = sorted({result.protocol.plan.cleaning for results in sets.values() for result in results})
    choices = []
    for cleaning in cleanings:
        same = {
            name: max(fitting, key=_age)
            for name, results in sets.items()
            if (fitting := [result for result in results if result.protocol.plan.cleaning == cleaning])
        }
        if len(same) == len(suite.members):
            choices.append(same)
    # Where both were run, the usual one is that without cleaning: with it names would have changed.
    usual = {
        name: max(results, key=lambda result: (result.protocol.plan.cleaning == "none", *_age(result)))
        for name, results in sets.items()
    }
    return choices if usual in choices else [*choices, usual]


def _age(result: Result) -> tuple[str, str]:
    return result.run.started, result.id


def _groups(suite: Suite, contenders: Sequence[SuiteMean]) -> list[list[SuiteMean]]:
    """Rows that may stand in one table; the longest rows first, shorter ones where all of their sets agree."""
    groups: list[tuple[dict[str, tuple[str, str]], list[SuiteMean]]] = []
    for mean in sorted(contenders, key=lambda mean: (-len(mean.results), *_identity(mean))):
        own = {
            name: (result.benchmark.annotations_sha256, result.protocol.sha256) for name, result in mean.results.items()
        }
        for hashes, rows in groups:
            same = [name for name in own if name in hashes]
            if same and all(own[name] == hashes[name] for name in same):
                hashes |= own
                rows.append(mean)
                break
        else:
            groups.append((own, [mean]))
    return [rows for _, rows in groups]


def _identity(mean: SuiteMean) -> tuple[str, str]:
    first = next(iter(mean.results.values()))
    return first.detector.name, first.id


def _ranked(rows: Sequence[SuiteMean]) -> tuple[SuiteRow, ...]:
    ordered = sorted(rows, key=lambda mean: (-_value(mean), -mean.there, *_identity(mean)))
    names = row_names([next(iter(mean.results.values())) for mean in ordered])
    made = []
    for mean, name in zip(ordered, names, strict=True):
        rank = sum(_value(other) > _value(mean) for other in ordered) + 1 if mean.complete else None
        made.append(SuiteRow(rank, name, mean))
    return tuple(made)


def _value(mean: SuiteMean) -> float:
    value = mean.mean.value
    return -1.0 if value is None else value
