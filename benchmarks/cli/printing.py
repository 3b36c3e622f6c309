"""Output of verbs without their own table: lines, pairs, and a progress counter."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager

from rich.console import Console

from ovd_bench.benchmarks.data.text import printable


def say(out: Console, line: str = "", style: str | None = None, indent: int = 0) -> None:
    """Print a line; unprintable characters are replaced."""
    out.print(" " * indent + printable(line), style=style, highlight=False, markup=False, soft_wrap=True)


def pairs(out: Console, facts: Mapping[str, object]) -> None:
    """Print names and values, one pair per line."""
    for key, value in facts.items():
        text = f"{value:,}" if isinstance(value, int) else printable(str(value))
        out.print(f"{key.replace('_', ' '):18} {text}", highlight=False, markup=False, soft_wrap=True)


@contextmanager
def counter(what: str) -> Iterator[Callable[[int], None]]:
    """A counter on stderr that appears only when something is counted."""
    from rich.progress import MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

    columns = (TextColumn("{task.description}"), MofNCompleteColumn(), TimeElapsedColumn())
    screen = Console(stderr=True)
    progress = Progress(*columns, console=screen, transient=True, disable=not screen.is_terminal)
    task = progress.add_task(what, total=None)

    def advance(count: int) -> None:
        progress.start()
        progress.update(task, advance=count)

    try:
        yield advance
    finally:
        if progress.live.is_started:
            progress.stop()
