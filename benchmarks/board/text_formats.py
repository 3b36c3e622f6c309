"""The board as JSON, CSV and Markdown."""

from __future__ import annotations

import json
from typing import Any

from ovd_bench.benchmarks.board.collect import Board
from ovd_bench.benchmarks.board.columns import COLUMNS, contamination_notes, shown_columns, spread, table_facts
from ovd_bench.benchmarks.board.measured_speed import measured_alone, speed_method
from ovd_bench.benchmarks.board.published import PublishedTable
from ovd_bench.benchmarks.board.rows import BoardTable, Row
from ovd_bench.benchmarks.board.suites import SuiteTable
from ovd_bench.benchmarks.data.csv_text import csv_text
from ovd_bench.benchmarks.data.text import printable


def board_document(board: Board) -> dict[str, Any]:
    """One JSON object; numbers are raw fractions, undefined ones null."""
    suites = {"suites": [_suite_document(table) for table in board.suites]} if board.suites else {}
    return {
        "schema": 1,
        "tables": [_table_document(table) for table in board.tables],
        **suites,
        "published": None if board.published is None else board.published.model_dump(mode="json", by_alias=True),
        "partial_runs": board.partial,
        "problems": list(board.problems),
    }


def board_json(board: Board) -> str:
    """``board_document`` as text; the same board gives the same bytes."""
    return json.dumps(board_document(board), indent=1, ensure_ascii=False, allow_nan=False) + "\n"


def _suite_document(table: SuiteTable) -> dict[str, Any]:
    rows = []
    for row in table.rows:
        mean = row.mean
        sets = {
            name: {"result_id": result.id, **mean.metric(name).model_dump(mode="json")}
            for name in table.suite.names
            if (result := mean.results.get(name))
        }
        number = {"mean_AP": mean.mean.value, "ci95": mean.mean.ci95}
        rows.append({"rank": row.rank, "name": row.name, **number, "complete": mean.complete, "sets": sets})
    return {"suite": table.suite.name, "sets": list(table.suite.names), "rows": rows, "notes": list(table.notes)}


def _table_document(table: BoardTable) -> dict[str, Any]:
    return {
        "benchmark": table.benchmark.model_dump(mode="json"),
        "protocol": table.protocol.model_dump(mode="json"),
        "rows": [_row_document(row) for row in table.rows],
        "notes": list(table.notes),
    }


def _row_document(row: Row) -> dict[str, Any]:
    standing, result = row.standing, row.result
    return {
        "rank": row.rank,
        "name": row.name,
        "detector": result.detector.name,
        "weights_sha256": result.detector.weights_sha256,
        "result_id": result.id,
        "adapter_version": result.run.adapter_version,
        "suppression_version": result.run.suppression_version,
        "pixels_sha256": result.run.pixels_sha256,
        "starred": standing.starred,
        "star_basis": standing.basis,
        "delta_to_best": standing.delta,
        "delta_ci95": standing.ci95,
        **{column.key: column.raw(row) for column in COLUMNS},
        "speed_method": speed_method(result),
        "measured_alone": measured_alone(result),
        "ci95": {column.key: row.metric(column.metric).ci95 for column in COLUMNS if column.metric},
        "contamination": [entry.model_dump(mode="json") for entry in result.contamination],
        "notes": list(result.notes),
    }


def board_csv(board: Board) -> str:
    """One line per row of all tables, with the hashes that say which rows may be compared."""
    rows = []
    header = ["benchmark", "split", "annotations_sha256", "protocol", "plan", "protocol_sha256", "rank", "name"]
    header += ["weights_sha256", "result_id", "starred", "star_basis"]
    header += [column.key for column in COLUMNS] + ["AP_ci95_low", "AP_ci95_high", "contamination"]
    header += ["speed_method", "measured_alone"]
    for table in board.tables:
        benchmark, protocol = table.benchmark, table.protocol
        for row in table.rows:
            low, high = row.metric("AP").ci95 or (None, None)
            cells: list[object] = [benchmark.name, benchmark.split, benchmark.annotations_sha256, protocol.name]
            cells += [protocol.plan.name, protocol.sha256, row.rank, row.name, row.result.detector.weights_sha256]
            cells += [row.result.id, int(row.standing.starred), row.standing.basis]
            cells += [column.raw(row) for column in COLUMNS] + [low, high]
            cells.append(" ".join(sorted({f"{c.dataset}:{c.level}" for c in row.result.contamination})))
            alone = measured_alone(row.result)
            cells += [speed_method(row.result), None if alone is None else int(alone)]
            rows.append(cells)
    return csv_text(header, rows)


def board_markdown(board: Board) -> str:
    """A section per table, then the published rows."""
    parts = ["# Leaderboard\n"]
    parts += [_suite_markdown(table) for table in board.suites]
    parts += [_table_markdown(table) for table in board.shown]
    if not board.tables:
        parts.append("No complete runs yet.\n")
    if board.partial:
        parts.append(f"{board.partial} partial runs are not shown.\n")
    if board.problems:
        parts.append("\n".join(["Left out:\n", *(f"* {_md(problem)}" for problem in board.problems)]) + "\n")
    if board.published is not None and board.published.rows:
        parts.append(f"# Published numbers\n\n{_md(board.published.about)}\n")
        parts += [_published_markdown(table) for table in board.published.tables()]
    return "\n".join(parts)


def _table_markdown(table: BoardTable) -> str:
    columns = shown_columns(table.rows)
    numbers, texts = contamination_notes(table.rows)
    header = ["", "detector", *(column.heading for column in columns), "seen"]
    lines = [f"## {_md(table.benchmark.name)}, {_md(table.protocol.name)}\n", f"{_md(table_facts(table))}\n"]
    lines += [_md_row(header), _md_row(["---:", ":---", *("---:" for _ in columns), ":---"])]
    for row in table.rows:
        cells = [column.text(row) for column in columns]
        cells[0] = f"{cells[0]} {spread(row)}".strip()
        marks = " ".join(f"⚑{number}" for number in numbers.get(row.result.id, []))
        star = "★" if row.standing.starred else ""
        lines.append(_md_row([f"{row.rank or '–'}{star}", _md(row.name), *cells, marks]))
    lines.append("")
    lines += [f"* {_md(note)}" for note in table.notes]
    lines += [f"* ⚑{number} {_md(text)}" for number, text in enumerate(texts, 1)]
    return "\n".join(lines) + "\n"


def _suite_markdown(table: SuiteTable) -> str:
    lines = [f"## {_md(table.suite.name)}, mean over {len(table.suite.members)} sets\n", f"{_md(table.facts)}\n"]
    lines.append(_md_row(["", "detector", *map(_md, table.header)]))
    lines.append(_md_row(["---:", ":---", *("---:" for _ in table.header)]))
    lines += [_md_row([str(row.rank or "–"), _md(row.label), *table.cells(row)]) for row in table.rows]
    return "\n".join([*lines, "", *(f"* {_md(note)}" for note in table.notes)]) + "\n"


def _published_markdown(table: PublishedTable) -> str:
    header = ["detector", "setting", "training data", "AP", "APr", "APc", "APf", "source", "checked against"]
    lines = [
        f"## {_md(table.title)}, published\n",
        _md_row(header),
        _md_row([":---"] * 3 + ["---:"] * 4 + [":---"] * 2),
    ]
    for row in table.rows:
        data, checked = ", ".join(row.training_data), row.checked or "–"
        cells = [row.detector, row.setting, data, *row.numbers, row.origin, checked]
        lines.append(_md_row([_md(cell) for cell in cells]))
    return "\n".join(lines) + "\n"


def _md_row(cells: list[str]) -> str:
    return "| " + " | ".join(cells) + " |"


_MARKUP = str.maketrans({c: f"\\{c}" for c in r"\`*_[]|#"} | {"<": "&lt;", ">": "&gt;", "&": "&amp;"})


def _md(text: str) -> str:
    """Text from files as one line with all markup escaped."""
    return printable(text).translate(_MARKUP)
