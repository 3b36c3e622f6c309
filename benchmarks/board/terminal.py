"""The board in a terminal."""

from __future__ import annotations

from rich import box
from rich.console import Group, RenderableType
from rich.table import Table as RichTable
from rich.text import Text

from ovd_bench.benchmarks.board.collect import Board
from ovd_bench.benchmarks.board.columns import Column, contamination_notes, shown_columns, spread, table_facts
from ovd_bench.benchmarks.board.published import PublishedTable
from ovd_bench.benchmarks.board.rows import BoardTable
from ovd_bench.benchmarks.board.suites import SuiteTable
from ovd_bench.benchmarks.data.text import printable

#: Columns that are dropped if the terminal is narrow, in this order; AP is always shown.
_GIVE_WAY = (
    *("peak_gpu_bytes", "parameters", "peak_memory_bytes", "images_per_second", "presence/auroc", "AP50"),
    *("ladder/semantic_gap", "unseen/APu", "APf", "APc", "APr"),
)

#: Blanks next to every column.
_BLANKS = 3


def board_tables(board: Board, *, published: bool = False, width: int = 120) -> RenderableType:
    """One table per benchmark and protocol, with notes below each.

    Args:
        board: to show.
        published: also show the published numbers.
        width: width of the terminal; columns that do not fit are left out and listed.
    """
    parts: list[RenderableType] = [_suite(table, width) for table in board.suites]
    parts += [_table(table, width) for table in board.shown]
    if not board.tables:
        parts.append(Text("no complete runs yet: 'bench run -d DETECTOR -b BENCHMARK' makes one"))
    if board.partial:
        parts.append(Text(f"{board.partial} partial runs are not shown", style="dim"))
    parts += [Text(f"left out: {printable(problem)}", style="yellow") for problem in board.problems]
    if board.published is not None and board.published.rows:
        groups = board.published.tables()
        if published:
            parts.append(Text(printable(board.published.about), style="dim"))
            parts += [_published(table) for table in groups]
        else:
            known = {table.benchmark.name for table in board.tables}
            there = [table for table in groups if table.benchmark in known]
            lines = [f"{len(table.rows)} published numbers on {table.title}" for table in there]
            parts += [Text(f"{line}: shown with --published", style="dim") for line in lines]
    return Group(*parts)


def _table(table: BoardTable, width: int) -> RenderableType:
    numbers, texts = contamination_notes(table.rows)
    columns, dropped = _fitting(table, width - (len("seen") + _BLANKS + 2 if texts else 0))
    title = Text(f"{printable(table.benchmark.name)} · {printable(table.protocol.name)}")
    shown = RichTable(title=title, box=box.SIMPLE_HEAD, title_justify="left", title_style="bold")
    shown.add_column("", justify="right", no_wrap=True)
    shown.add_column("detector", overflow="fold")
    for column in columns:
        shown.add_column(column.heading, justify="right", no_wrap=True)
        if column.key == "AP":
            shown.add_column("± 95 %", justify="right", no_wrap=True, style="dim")
    if texts:
        shown.add_column("seen", no_wrap=True)
    for row in table.rows:
        cells = [Text(f"{'★ ' if row.standing.starred else ''}{row.rank or '–'}"), Text(printable(row.name))]
        for column in columns:
            cells.append(Text(column.text(row)))
            if column.key == "AP":
                cells.append(Text(spread(row).removeprefix("± ")))
        if texts:
            cells.append(Text(" ".join(f"⚑{number}" for number in numbers.get(row.result.id, []))))
        shown.add_row(*cells, style="bold" if row.standing.starred else None)
    remarks = [Text(table_facts(table), style="dim")]
    if dropped:
        names = ", ".join(column.heading for column in dropped)
        remarks.append(Text(f"columns left out, the terminal is too narrow: {names}", style="dim"))
    remarks += [Text(printable(note), style="dim") for note in table.notes]
    remarks += [Text(f"⚑{number} {printable(text)}", style="yellow") for number, text in enumerate(texts, 1)]
    return Group(shown, *remarks, Text())


def _suite(table: SuiteTable, width: int) -> RenderableType:
    """Sets that do not fit into the terminal are left out and listed."""
    header, rows = table.header, [table.cells(row) for row in table.rows]
    need = [max(map(len, column)) + _BLANKS for column in zip(header, *rows, strict=True)]
    used = 4 + _BLANKS + max(len(row.label) for row in table.rows) + _BLANKS
    fitting = 1
    while fitting < len(header) and used + sum(need[: fitting + 1]) <= width:
        fitting += 1
    title = Text(printable(f"{table.suite.name} · mean over {len(table.suite.members)} sets"))
    shown = RichTable(title=title, box=box.SIMPLE_HEAD, title_justify="left", title_style="bold")
    shown.add_column("", justify="right", no_wrap=True)
    shown.add_column("detector", overflow="fold")
    for heading in header[:fitting]:
        shown.add_column(heading, justify="right", no_wrap=True)
    for row, cells in zip(table.rows, rows, strict=True):
        shown.add_row(Text(f"{row.rank or '–'}"), Text(printable(row.label)), *map(Text, cells[:fitting]))
    remarks = [Text(printable(table.facts), style="dim")]
    if fitting < len(header):
        left_out = f"{len(header) - fitting} sets left out, the terminal is too narrow: --format md has all"
        remarks.append(Text(left_out, style="dim"))
    remarks += [Text(note, style="dim") for note in table.notes]
    return Group(shown, *remarks, Text())


def _fitting(table: BoardTable, width: int) -> tuple[list[Column], list[Column]]:
    """Columns that fit next to rank and name, and those that do not."""
    columns, dropped = shown_columns(table.rows), []
    names = min(max([len("detector"), *(len(row.name) for row in table.rows)]), 28)
    used = 1 + (4 + _BLANKS) + (names + _BLANKS) + (len("± 95 %") + _BLANKS)  # rank with star, name, interval
    need = {c.key: _BLANKS + max([len(c.heading), *(len(c.text(row)) for row in table.rows)]) for c in columns}
    for key in _GIVE_WAY:
        if used + sum(need[column.key] for column in columns) <= width:
            break
        dropped += [column for column in columns if column.key == key]
        columns = [column for column in columns if column.key != key]
    return columns, dropped


def _published(table: PublishedTable) -> RichTable:
    title = Text(f"{table.title} · published")
    shown = RichTable(title=title, box=box.SIMPLE_HEAD, title_justify="left", title_style="bold")
    for heading in ("detector", "setting", "training data"):
        shown.add_column(heading, overflow="fold")
    for heading in ("AP", "APr", "APc", "APf"):
        shown.add_column(heading, justify="right")
    for heading in ("source", "checked against"):
        shown.add_column(heading, overflow="fold")
    for row in table.rows:
        data, checked = ", ".join(row.training_data), row.checked or "–"
        cells = (row.detector, row.setting, data, *row.numbers, row.source, checked)
        shown.add_row(*(Text(printable(cell)) for cell in cells))
    return shown
