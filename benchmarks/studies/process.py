"""The steps of a cell, each a command of the suite in its own process."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from ovd_bench.benchmarks.data.text import printable
from ovd_bench.benchmarks.runner.subprocesses import end_processes, how_it_ended
from ovd_bench.benchmarks.studies.cells import CONFIG, Cell
from ovd_bench.benchmarks.studies.definition import Probe
from ovd_bench.benchmarks.training.registry import find_trainer

_TAIL_BYTES = 8192


@dataclass(frozen=True)
class Commands:
    """The command lines of a cell's steps.

    Attributes:
        data_root: folder of the data sets.
        threads: of the network.
        device: ``auto``, ``cpu`` or ``cuda``.
    """

    data_root: Path
    threads: int = 1
    device: str = "auto"

    def train(self, cell: Cell) -> list[str]:
        """Train, or continue from the last checkpoint."""
        place = ("--data-root", str(self.data_root.resolve()), "--device", self.device)
        folder = str(cell.folder.resolve())
        options = ("--out", folder, "--resume", "--threads", str(self.threads))
        return _bench("train", str(cell.folder.resolve() / CONFIG), *options, *place)

    def score(self, cell: Cell, probe: Probe | None = None) -> list[str]:
        """Predict and score, or continue with the missing shards; for a probe only AP is computed."""
        place = ("--data-root", str(self.data_root.resolve()), "--device", self.device)
        weights, results = cell.weights.resolve(), cell.results(probe).resolve()
        options = ("--weights", str(weights), "--out", str(results), "--threads", str(self.threads), "--quiet")
        limit = () if cell.limit is None else ("--limit", str(cell.limit))
        asked: tuple[str, ...] = () if cell.judge is None else ("--judge", str(cell.judge.resolve()))
        if probe is not None:
            asked = ("--prompts", probe.prompts, "--vocabulary", probe.vocabulary, "-m", "unseen")
        detector = find_trainer(cell.config.trainer).detector
        return _bench("run", "-d", detector, "-b", cell.benchmark, *options, *limit, *asked, *place)

    def speed(self, cell: Cell) -> list[str]:
        """Operations, time and memory, one image at a time."""
        detector, out = find_trainer(cell.config.trainer).detector, str(cell.speed_file.resolve())
        options = ("--weights", str(cell.weights.resolve()), "--batch", "1", "--out", out, "--quiet")
        place = ("--data-root", str(self.data_root.resolve()), "--device", self.device)
        return _bench("speed", "-d", detector, "-b", cell.benchmark, *options, *place)


@dataclass
class Processes:
    """Running steps; all of them end with this process, even if it is killed.

    Attributes:
        threads: of each step.
    """

    threads: int = 1
    _running: set[subprocess.Popen[bytes]] = field(default_factory=set)
    _lock: threading.Lock = field(default_factory=threading.Lock)
    _stopped: bool = False

    def run(self, command: Sequence[str], log: Path) -> str:
        """Run a command to its end, with its output in a log.

        Args:
            command: program and arguments.
            log: file to append to.

        Returns:
            The problem in one line; empty without one.
        """
        begin = log.stat().st_size if log.exists() else 0
        with log.open("ab") as file:
            tied = (sys.executable, "-P", "-m", "ovd_bench.benchmarks.runner.die_with_parent", str(os.getpid()))
            with self._lock:
                if self._stopped:
                    return "was not started"
                process = subprocess.Popen(
                    [*tied, *command],
                    stdin=subprocess.DEVNULL,
                    stdout=file,
                    stderr=subprocess.STDOUT,
                    env=_environment(self.threads),
                    start_new_session=True,  # Ctrl-C is for the parent, which ends the step
                )
                self._running.add(process)
            code = process.wait()
        with self._lock:
            self._running.discard(process)
        return "" if code == 0 else _reason(code, log, begin)

    def stop(self) -> None:
        """End all running steps and start no others."""
        with self._lock:
            self._stopped = True
            running = list(self._running)
        end_processes(running)


def _bench(*arguments: str) -> list[str]:
    return [sys.executable, "-P", "-m", "ovd_bench.bench", *arguments]


def _environment(threads: int) -> dict[str, str]:
    """The environment of a step, with the number of threads for all frameworks."""
    return os.environ | {"OMP_NUM_THREADS": str(threads), "COLUMNS": "120"}


def _reason(code: int, log: Path, begin: int) -> str:
    """Why a step failed: its last error line, else its last line, else its exit code."""
    with log.open("rb") as file:
        file.seek(max(begin, log.stat().st_size - _TAIL_BYTES))
        lines = [line for line in file.read().decode(errors="replace").splitlines() if line.strip()]
    errors = [line.removeprefix("error: ") for line in lines if line.startswith("error: ")]
    how = how_it_ended(code)
    if errors:
        return printable(errors[-1])[:300]
    return f"{how}: {printable(lines[-1])[:300]}" if lines else how
