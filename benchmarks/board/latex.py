"""The board as LaTeX tables, which need the package booktabs."""

from __future__ import annotations

import re
from collections.abc import Sequence

from ovd_bench.benchmarks.board.collect import Board
from ovd_bench.benchmarks.board.columns import contamination_notes, shown_columns, spread, table_facts
from ovd_bench.benchmarks.board.published import PublishedTable
from ovd_bench.benchmarks.board.rows import BoardTable
from ovd_bench.benchmarks.board.suites import SuiteTable
from ovd_bench.benchmarks.data.text import printable


def board_latex(board: Board) -> str:
    """A ``table`` environment per table, then those of the published rows. The protocol stands in the caption."""
    parts = ["% \\usepackage{booktabs}"]
    parts += [_suite(table) for table in board.suites]
    parts += [_table(table) for table in board.shown]
    if not board.tables:
        parts.append("% No complete runs yet.")
    if board.partial:
        parts.append(f"% {board.partial} partial runs are not shown.")
    parts += [f"% Left out: {printable(problem)}" for problem in board.problems]
    if board.published is not None:
        parts += [_published(table) for table in board.published.tables()]
    return "\n\n".join(parts) + "\n"


def _table(table: BoardTable) -> str:
    columns = shown_columns(table.rows)
    numbers, texts = contamination_notes(table.rows)
    rows = []
    for row in table.rows:
        cells = [_tex(column.text(row)) for column in columns]
        if width := spread(row):
            cells[0] += f" {{\\scriptsize {_tex(width)}}}"
        marks = [str(number) for number in numbers.get(row.result.id, [])]
        marks = [r"\star", *marks] if row.standing.starred else marks
        name = _tex(row.name) + (f"$^{{{','.join(marks)}}}$" if marks else "")
        rows.append([str(row.rank) if row.rank else "--", name, *cells])
    notes = [_tex(note) for note in table.notes]
    notes += [f"$^{{{number}}}$ {_tex(text)}" for number, text in enumerate(texts, 1)]
    title = f"{_tex(table.benchmark.name)}, {_tex(table.protocol.name)}: {_tex(table_facts(table))}."
    header = ["", "detector", *(_tex(column.heading) for column in columns)]
    return _environment(title, "rl" + "r" * len(columns), header, rows, notes)


def _suite(table: SuiteTable) -> str:
    rows = [[str(row.rank) if row.rank else "--", _tex(row.label), *map(_tex, table.cells(row))] for row in table.rows]
    header = ["", "detector", *map(_tex, table.header)]
    title = f"{_tex(table.suite.name)}: {_tex(table.facts)}."
    return _environment(title, "rl" + "r" * len(table.header), header, rows, [_tex(note) for note in table.notes])


def _published(table: PublishedTable) -> str:
    header = ["detector", "setting", "training data", "AP", "APr", "APc", "APf", "source"]
    rows = [
        [_tex(cell) for cell in (row.detector, row.setting, ", ".join(row.training_data), *row.numbers, row.origin)]
        for row in table.rows
    ]
    return _environment(f"{_tex(table.title)}, published.", "lllrrrrl", header, rows, [])


def _environment(
    caption: str, alignment: str, header: Sequence[str], rows: Sequence[Sequence[str]], notes: Sequence[str]
) -> str:
    lines = [r"\begin{table}", r"\centering", f"\\caption{{{caption}}}", f"\\begin{{tabular}}{{{alignment}}}"]
    lines += [r"\toprule", _row(header), r"\midrule", *(_row(row) for row in rows), r"\bottomrule", r"\end{tabular}"]
    lines += [f"\\par{{\\footnotesize {note}}}" for note in notes]
    return "\n".join([*lines, r"\end{table}"])


def _row(cells: Sequence[str]) -> str:
    return " & ".join(cells) + r" \\"


_COMMANDS = {
    **{character: f"\\{character}" for character in "&%$#_{}"},
    "\\": r"\textbackslash{}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "±": r"$\pm$",
    "★": r"$\star$",
    "†": r"\dag{}",
    "‡": r"\ddag{}",
    "·": r"$\cdot$",
    "−": "$-$",
    "–": "--",
    "…": r"\dots{}",
    "×": r"$\times$",
}
_SPECIAL = re.compile("|".join(map(re.escape, _COMMANDS)))


def _tex(text: str) -> str:
    """Text from files as one line in which nothing is a command."""
    return _SPECIAL.sub(lambda found: _COMMANDS[found[0]], printable(text))
