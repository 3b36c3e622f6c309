"""The board and the report as a single HTML file that needs no server and works without scripts."""

from __future__ import annotations

import base64
import hashlib
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import jinja2
from markupsafe import Markup

from ovd_bench.benchmarks.board.charts import SERIES, interval_bar, marker
from ovd_bench.benchmarks.board.collect import Board
from ovd_bench.benchmarks.board.columns import (
    COLUMNS,
    Column,
    contamination_notes,
    difference,
    shown_columns,
    spread,
    table_facts,
)
from ovd_bench.benchmarks.board.figures import Chart, Panel, Stack, charts, error_stacks, frequency_panels
from ovd_bench.benchmarks.board.measured_speed import speed_facts
from ovd_bench.benchmarks.board.per_class import ClassRow, read_per_class
from ovd_bench.benchmarks.board.rows import BoardTable, Row
from ovd_bench.benchmarks.board.text_formats import board_json
from ovd_bench.metrics.errors import DataError


@dataclass(frozen=True)
class Picture:
    """A picture of the gallery.

    Attributes:
        title: one line.
        data: PNG or JPEG.
        mime: such as ``image/jpeg``.
    """

    title: str
    data: bytes
    mime: str

    @property
    def uri(self) -> str:
        """The picture as a data URL."""
        return f"data:{self.mime};base64,{base64.b64encode(self.data).decode()}"


@dataclass(frozen=True)
class Gallery:
    """Pictures of one table, and notes on their selection or why there are none."""

    pictures: tuple[Picture, ...]
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class ClassTable:
    """AP per class of all rows: class, then AP in percent per row, None where undefined or not known."""

    names: tuple[str, ...]
    rows: tuple[tuple[ClassRow, tuple[float | None, ...]], ...]


@dataclass(frozen=True)
class Section:
    """One table with its charts."""

    table: BoardTable
    facts: str
    columns: tuple[Column, ...]
    whiskers: tuple[Markup, ...]
    marks: Mapping[str, Sequence[int]]
    footnotes: Sequence[str]
    panels: Sequence[Panel]
    stacks: Sequence[Stack]
    charts: Sequence[Chart]
    classes: ClassTable | None
    problems: Sequence[str]
    statistics: Sequence[tuple[str, Sequence[str]]]
    gallery: Gallery | None


#: Control characters, and those that turn the direction of text around: names could pretend to be others.
_UNSEEN = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u200e\u200f\u202a-\u202e\u2066-\u2069]")


def render(board: Board, *, title: str, galleries: Mapping[str, Gallery] | None = None, detailed: bool = False) -> str:
    """The page.

    Args:
        board: what it shows.
        title: title of the page.
        galleries: per slug of a table.
        detailed: also every statistic of every result, as in a report.
    """
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.globals |= {"spread": spread, "difference": difference, "marker": marker, "series_count": SERIES}
    environment.globals |= {"command_now": command_now, "speed_facts": speed_facts}
    script = environment.get_template("script.js.j2").render()
    document = board_json(board).encode()
    page = environment.get_template("page.html.j2").render(
        title=title,
        board=board,
        sections=[_section(table, (galleries or {}).get(table.slug), detailed) for table in board.shown],
        published=board.published.tables() if board.published else [],
        meanings=COLUMNS,
        script=Markup(script),  # the suite's own file: no values are inserted
        script_hash=base64.b64encode(hashlib.sha256(script.encode()).digest()).decode(),
        document="data:application/json;base64," + base64.b64encode(document).decode(),
    )
    return _UNSEEN.sub("\N{REPLACEMENT CHARACTER}", page)


def command_now(command: str) -> str:
    """A recorded command as it is called today: the script was ``bench.py`` before it was installed as ``bench``."""
    return command.replace("bench.py ", "bench ", 1) if command.startswith("bench.py ") else command


def _section(table: BoardTable, gallery: Gallery | None, detailed: bool) -> Section:
    rows = table.rows
    numbers, texts = contamination_notes(rows)
    classes, problems = _classes(rows)
    return Section(
        table=table,
        facts=table_facts(table),
        columns=tuple(shown_columns(rows)),
        whiskers=_whiskers(rows),
        marks=numbers,
        footnotes=texts,
        panels=frequency_panels(rows),
        stacks=error_stacks(rows),
        charts=charts(table, classes),
        classes=_class_table(rows, classes),
        problems=problems,
        statistics=_statistics(rows) if detailed else (),
        gallery=gallery,
    )


def _whiskers(rows: Sequence[Row]) -> tuple[Markup, ...]:
    ends = [
        end for row in rows if (value := row.value("AP")) is not None for end in (value, *(row.metric("AP").ci95 or ()))
    ]
    low, high = (min(ends), max(ends)) if ends else (0.0, 1.0)
    cells = []
    for series, row in enumerate(rows):
        value = row.value("AP")
        cells.append(Markup("") if value is None else interval_bar(value, row.metric("AP").ci95, low, high, series))
    return tuple(cells)


def _classes(rows: Sequence[Row]) -> tuple[list[list[ClassRow]], list[str]]:
    classes: list[list[ClassRow]] = []
    problems = []
    for row in rows:
        try:
            classes.append(read_per_class(row.folder, row.result))
        except DataError as error:
            classes.append([])
            problems.append(f"no AP per class of {row.name}: {error}")
    return classes, problems


def _class_table(rows: Sequence[Row], classes: Sequence[Sequence[ClassRow]]) -> ClassTable | None:
    by_row = [{member.category_id: member.ap for member in members} for members in classes]
    first = next((members for members in classes if members), None)
    if first is None:
        return None
    body = []
    for member in first:
        found = [aps.get(member.category_id) for aps in by_row]
        body.append((member, tuple(None if ap is None else 100 * ap for ap in found)))
    return ClassTable(tuple(row.name for row in rows), tuple(body))


def _statistics(rows: Sequence[Row]) -> list[tuple[str, list[str]]]:
    """Every metric of the results, unchanged, with its interval."""
    names = list(dict.fromkeys(name for row in rows for name in row.result.metrics))
    return [(name, [_number(row, name) for row in rows]) for name in names]


def _number(row: Row, name: str) -> str:
    metric = row.metric(name)
    if metric.value is None:
        return "–"
    text = (
        f"{metric.value:,.0f}" if metric.value == int(metric.value) and abs(metric.value) > 1 else f"{metric.value:.4f}"
    )
    if metric.ci95 is not None:
        text += f" ± {(metric.ci95[1] - metric.ci95[0]) / 2:.4f}"
    return text
