"""Carries out a study: every cell that is not finished is trained and scored, whatever becomes of the others."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Protocol

from rich.console import Console

from ovd_bench.benchmarks.data.files.atomic import atomic_write
from ovd_bench.benchmarks.data.text import printable
from ovd_bench.benchmarks.runner.locks import held
from ovd_bench.benchmarks.studies.cells import STUDY, Cell
from ovd_bench.benchmarks.studies.definition import Probe
from ovd_bench.benchmarks.studies.process import Processes
from ovd_bench.metrics.errors import DataError

#: Seconds to wait for a cell that another command holds: the processes of one that was just killed take a moment.
_PATIENCE = 3.0


class Steps(Protocol):
    """Command lines of a cell's steps; see ``benchmarks.studies.process.Commands``."""

    def train(self, cell: Cell) -> list[str]:
        """Leaves the weights."""
        ...

    def score(self, cell: Cell, probe: Probe | None = None) -> list[str]:
        """Leaves the result, or that of a probe."""
        ...

    def speed(self, cell: Cell) -> list[str]:
        """Leaves the speed."""
        ...


@dataclass(frozen=True)
class _Step:
    """One command of a cell.

    Attributes:
        name: for people.
        kind: ``train`` or ``score``.
        done: whether what it leaves is there.
        command: program and arguments.
    """

    name: str
    kind: str
    done: Callable[[], bool]
    command: list[str]


@dataclass(frozen=True)
class CellReport:
    """What became of a cell.

    Attributes:
        cell: which.
        train_seconds, score_seconds: wall time of its steps; 0 for one that was done already.
        problem: what went wrong, one line; empty if nothing did.
    """

    cell: Cell
    train_seconds: float = 0.0
    score_seconds: float = 0.0
    problem: str = ""


@dataclass(frozen=True)
class StudyRun:
    """How a study is carried out.

    Attributes:
        out: folder of the study.
        definition: content of the study's file, kept beside the cells.
        steps: what is done for a cell.
        console: for progress.
        parallel: cells at once.
        threads: of each.
    """

    out: Path
    definition: bytes
    steps: Steps
    console: Console
    parallel: int = 1
    threads: int = 1

    def run(self, cells: Sequence[Cell]) -> list[CellReport]:
        """Finish the cells.

        Args:
            cells: of the study.

        Returns:
            The cells that were not finished before, and what became of them.

        Raises:
            DataError: a cell holds something else; nothing was begun then.
        """
        todo = [cell for cell in cells if not cell.finished()]
        self.out.mkdir(parents=True, exist_ok=True)
        with atomic_write(self.out / STUDY) as file:
            file.write(self.definition)
        self._say(f"{len(cells)} cells, {len(cells) - len(todo)} finished already; each has its log in {self.out}")
        processes = Processes(self.threads)
        reports: list[CellReport] = []
        began = time.monotonic()
        with ThreadPoolExecutor(self.parallel) as pool:
            try:
                futures = [pool.submit(self._finish, cell, processes) for cell in todo]
                with self._status(f"{len(todo)} cells to go"):
                    for future in as_completed(futures):
                        reports.append(future.result())
                        left = _left(time.monotonic() - began, len(reports), len(todo))
                        self._say(f"{_line(reports[-1])} · {len(reports)} of {len(todo)}{left}")
            except BaseException:
                processes.stop()
                pool.shutdown(wait=True, cancel_futures=True)
                raise
        return reports + self._speeds(cells, {report.cell.label for report in reports if report.problem})

    def _speeds(self, cells: Sequence[Cell], failed: Collection[str]) -> list[CellReport]:
        """Measure what is not measured yet, one cell at a time and when all others are done: it wants the machine.

        Returns:
            The cells where that failed.
        """
        reports = []
        processes = Processes(self.threads)
        for cell in cells:
            if not cell.timed or cell.label in failed:
                continue
            try:
                if cell.speed() is not None:
                    continue
                with self._status(f"{cell.label}: speed"), self._hold(cell):
                    problem = processes.run(self.steps.speed(cell), cell.log)
                if not problem and cell.speed() is None:
                    problem = "wrote no result"
            except (DataError, OSError) as error:
                problem = printable(str(error))
            except BaseException:
                processes.stop()
                raise
            if problem:
                reports.append(CellReport(cell, problem=f"speed: {problem}"))
            self._say(f"{cell.label}: {f'FAILED: speed: {problem}' if problem else 'speed measured'}")
        return reports

    def _hold(self, cell: Cell) -> AbstractContextManager[None]:
        """Keep other commands from the cell."""
        return held(cell.folder / ".lock", f"{cell.folder}: the cell", patience=_PATIENCE)

    def _finish(self, cell: Cell, processes: Processes) -> CellReport:
        """Do what a cell lacks."""
        try:
            cell.folder.mkdir(parents=True, exist_ok=True)
            with self._hold(cell):
                return self._steps(cell, processes)
        except (DataError, OSError) as error:
            return CellReport(cell, problem=printable(str(error)))

    def _steps(self, cell: Cell, processes: Processes) -> CellReport:
        cell.begin()
        seconds = {"train": 0.0, "score": 0.0}
        steps = [_Step("train", "train", cell.trained, self.steps.train(cell))]
        for probe in (None, *cell.probes):
            done = partial(lambda one: cell.result(one) is not None, probe)
            name = "score" if probe is None else f"probe {probe.name}"
            steps.append(_Step(name, "score", done, self.steps.score(cell, probe)))
        for step in steps:
            if step.done():
                continue
            began = time.monotonic()
            problem = processes.run(step.command, cell.log)
            seconds[step.kind] += time.monotonic() - began
            if not problem and not step.done():
                problem = "wrote no result"
            if problem:
                return CellReport(cell, seconds["train"], seconds["score"], f"{step.name}: {problem}")
        return CellReport(cell, seconds["train"], seconds["score"])

    def _say(self, line: str) -> None:
        self.console.print(printable(line), highlight=False, markup=False, soft_wrap=True)

    def _status(self, what: str) -> AbstractContextManager[object]:
        return self.console.status(what, spinner="line") if self.console.is_terminal else nullcontext()


def _line(report: CellReport) -> str:
    if report.problem:
        return f"{report.cell.label}: FAILED: {report.problem}"
    found = report.cell.result()
    ap = found[1].metrics["AP"].value if found else None
    shown = "AP undefined" if ap is None else f"AP {100 * ap:.1f}"
    return (
        f"{report.cell.label}: {shown}, trained in {_clock(report.train_seconds)}, "
        f"scored in {_clock(report.score_seconds)}"
    )


def _left(seconds: float, done: int, all_of_them: int) -> str:
    """Expected time to the end, from the cells so far."""
    return f", about {_clock(seconds / done * (all_of_them - done))} left" if done < all_of_them else ""


def _clock(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"
