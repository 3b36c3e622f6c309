"""A table of a report, and how numbers are written in it."""

from __future__ import annotations

from dataclasses import dataclass, replace

from ovd_bench.benchmarks.studies.statistics import Spread

_FEW = 2
#: Blanks beside every column of a terminal's table.
_BLANKS = 3


@dataclass(frozen=True)
class Sheet:
    """A table.

    Attributes:
        title: above it.
        head: of the columns.
        rows: of cells.
        notes: below it.
        words: how many of the columns, from the left, are words and not numbers.
        spare: columns that give way where a terminal is narrow, in this order.
    """

    title: str
    head: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    notes: tuple[str, ...] = ()
    words: int = 1
    spare: tuple[str, ...] = ()

    def fitting(self, width: int) -> Sheet:
        """The table without spare columns that do not fit; a note says which."""
        kept = list(range(len(self.head)))
        widths = [_BLANKS + max(map(len, column)) for column in zip(self.head, *self.rows, strict=True)]
        for name in self.spare:
            if sum(widths[n] for n in kept) <= width:
                break
            kept = [n for n in kept if self.head[n] != name]
        if not (dropped := [name for n, name in enumerate(self.head) if n not in kept]):
            return self
        return replace(
            self,
            head=tuple(self.head[n] for n in kept),
            rows=tuple(tuple(row[n] for n in kept) for row in self.rows),
            notes=(*self.notes, f"not shown for want of width: {', '.join(dropped)}"),
        )


def spread_text(spread: Spread | None) -> str:
    """Mean and spread of shares, percent; see ``tables``."""
    if spread is None:
        return "–"
    mean = f"{100 * spread.mean:.1f}"
    if len(spread.values) == _FEW:
        return f"{mean} ± {50 * (max(spread.values) - min(spread.values)):.1f}"
    return mean if spread.sd is None else f"{mean} ± {100 * spread.sd:.1f}"


def number_text(value: float | None, digits: int = 1) -> str:
    """A number, or a dash where there is none."""
    return "–" if value is None else f"{value:,.{digits}f}"
