"""A table of a report, for Markdown and for a terminal, and how numbers are written in it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from rich import box
from rich.console import RenderableType
from rich.table import Table
from rich.text import Text

from ovd_bench.benchmarks.data.text import printable
from ovd_bench.benchmarks.studies.statistics import Spread

_FEW = 2
#: Blanks beside every column of a terminal's table.
_BLANKS = 3


@dataclass(frozen=True)
class TextTable:
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

    def fitting(self, width: int) -> TextTable:
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
            notes=(*self.notes, f"hidden, terminal too narrow: {', '.join(dropped)}"),
        )

    def as_markdown(self) -> list[str]:
        """The lines of the table in a Markdown file, its title and notes included."""
        return [
            "",
            f"## {self.title}",
            "",
            _row(self.head),
            _row(["---" if n < self.words else "---:" for n in range(len(self.head))]),
            *(_row([escaped(cell) for cell in row]) for row in self.rows),
            "",
            *(f"{escaped(note)}  " for note in self.notes),
        ]

    def as_rich(self) -> list[RenderableType]:
        """The table for a terminal, and its notes."""
        table = Table(title=self.title, box=box.SIMPLE_HEAD, title_justify="left", title_style="bold")
        for number, heading in enumerate(self.head):
            words = number < self.words
            table.add_column(heading, justify="left" if words else "right", overflow="fold", no_wrap=number == 0)
        for row in self.rows:
            table.add_row(*(Text(printable(cell)) for cell in row))
        return [table, *(Text(printable(note), style="dim") for note in self.notes)]


def escaped(text: str) -> str:
    """Text that Markdown shows as it is in a cell."""
    return printable(text).replace("|", "\\|").replace("<", "&lt;")


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


def _row(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"
