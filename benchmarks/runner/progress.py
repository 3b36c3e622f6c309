"""One line per run while it is predicted: images, images per second, time left."""

from __future__ import annotations

import time
from types import TracebackType
from typing import Self

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, ProgressColumn, Task, TextColumn, TimeRemainingColumn
from rich.text import Text

from ovd_bench.benchmarks.data.text import printable

#: Without a terminal a line is printed at most this often.
_LINE_SECONDS = 30.0


class RunProgress:
    """Shows the progress: nothing if ``quiet``, a line now and then if the output is no terminal."""

    def __init__(self, label: str, console: Console, *, quiet: bool) -> None:
        self._label = printable(label)
        self._console = console
        self._shown = not quiet and console.is_terminal
        self._lines = not quiet and not console.is_terminal
        self._bar = Progress(
            TextColumn("{task.description}", markup=False),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("images"),
            _Rate(),
            TimeRemainingColumn(),
            console=console,
            disable=not self._shown,
        )
        self._task = self._bar.add_task(f"{self._label}: loading", total=None)
        self._done = self._total = self._begun_with = 0
        self._begun = self._said = time.monotonic()

    def __enter__(self) -> Self:
        if self._shown:
            self._bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self._shown:  # a bar that is not shown would still print an empty line
            self._bar.stop()
        if self._lines and self._total and kind is None:
            self._say()

    def begin(self, total: int, done: int) -> None:
        """The detector is ready; ``done`` of ``total`` images are from earlier runs."""
        self._total, self._done, self._begun_with = total, done, done
        self._begun = self._said = time.monotonic()
        self._bar.update(self._task, description=self._label, total=total, completed=done, begun=(self._begun, done))

    def images(self, count: int) -> None:
        """This many more images are done."""
        self._done += count
        self._bar.update(self._task, completed=self._done)
        if self._lines and time.monotonic() - self._said > _LINE_SECONDS:
            self._say()

    def note(self, text: str) -> None:
        """A note above the bar."""
        self._bar.console.print(f"{self._label}: {printable(text)}", markup=False, highlight=False, soft_wrap=True)

    def _say(self) -> None:
        self._said = time.monotonic()
        if self._done == self._begun_with:
            what = f"{self._done:,} of {self._total:,} images are done already" if self._done else "starts"
            self.note(f"{what}, {self._total - self._done:,} to do")
            return
        rate = (self._done - self._begun_with) / max(self._said - self._begun, 1e-9)
        left = f", {(self._total - self._done) / rate:,.0f} s left" if rate > 0 and self._done < self._total else ""
        self.note(f"{self._done:,} of {self._total:,} images, {rate:.1f} images/s{left}")


class _Rate(ProgressColumn):
    """Images per second since the detector was ready, without shards of earlier runs."""

    def render(self, task: Task) -> Text:
        begun, done = task.fields.get("begun", (0.0, 0))
        seconds = time.monotonic() - begun
        rate = (task.completed - done) / seconds if begun and seconds > 0 else 0
        return Text(f"{rate:.1f}/s" if rate else "", style="progress.data.speed")
