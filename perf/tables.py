"""A table that is printed with rich and written as Markdown."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from rich.console import Console
from rich.table import Table as RichTable


@dataclass(frozen=True)
class MarkdownTable:
    """Cells as text; the first column is left-aligned, the others contain numbers."""

    title: str
    header: tuple[str, ...]
    rows: Sequence[tuple[str, ...]]

    def show(self, console: Console) -> None:
        """Print it."""
        table = RichTable(title=self.title, title_justify="left")
        for index, name in enumerate(self.header):
            table.add_column(name, justify="right" if index else "left", no_wrap=index == 0)
        for row in self.rows:
            table.add_row(*row)
        console.print(table)

    def markdown(self) -> str:
        """Title as a heading, then the table."""
        align = ["---"] + ["---:"] * (len(self.header) - 1)
        lines = ["| " + " | ".join(cells) + " |" for cells in (self.header, align, *self.rows)]
        return "\n".join([f"## {self.title}", "", *lines, ""])
