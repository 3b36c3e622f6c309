"""The board's files under the folder of the results."""

from __future__ import annotations

from pathlib import Path

from ovd_bench.benchmarks.board.collect import Board
from ovd_bench.benchmarks.board.page import render
from ovd_bench.benchmarks.board.text_formats import board_json, board_markdown
from ovd_bench.benchmarks.data.files.atomic import atomic_write

TITLE = "Leaderboard of open-vocabulary detectors"


def board_html(board: Board) -> str:
    """The board as a page."""
    return render(board, title=TITLE)


def write_board(root: Path, board: Board) -> list[Path]:
    """Write ``board.json``, ``board.md`` and ``board.html``; the same board gives the same bytes."""
    made = (("board.json", board_json), ("board.md", board_markdown), ("board.html", board_html))
    paths = []
    for name, make in made:
        write_text(root / name, make(board))
        paths.append(root / name)
    return paths


def write_text(path: Path, text: str) -> None:
    """Write a text file atomically.

    Raises:
        DataError: its folder does not exist.
    """
    with atomic_write(path) as file:
        file.write(text.encode())
