"""One measured run in a fresh process: the child times itself and prints one JSON line, which the parent reads."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass

from ovd_bench.benchmarks.machine.memory import peak_resident_bytes

Metrics = dict[str, float | None]


@dataclass(frozen=True)
class Run:
    """What one child measured.

    Attributes:
        seconds: wall time of the timed part.
        peak_rss: peak memory of the process in bytes, including imports and warm-up.
        metrics: the resulting statistics.
    """

    seconds: float
    peak_rss: int
    metrics: Metrics


def time_and_report(work: Callable[[], Metrics]) -> None:
    """Time ``work`` in this process and print the ``Run`` as the last line of stdout."""
    start = time.perf_counter()
    metrics = work()
    seconds = time.perf_counter() - start
    print()  # a library may have printed an unfinished line
    print(json.dumps(asdict(Run(seconds, peak_resident_bytes(), metrics))), flush=True)


def run_child(module: str, *arguments: str) -> Run:
    """Run ``python -m module arguments`` and return its report.

    Raises:
        RuntimeError: the child failed; the message has the end of its error output.
    """
    command = [sys.executable, "-m", module, *arguments]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    if result.returncode != 0:
        raise RuntimeError(f"{module} {' '.join(arguments)} failed: {result.stderr.strip()[-500:]}")
    return Run(**json.loads(result.stdout.splitlines()[-1]))
