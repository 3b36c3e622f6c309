"""Use of the GPUs according to ``nvidia-smi``."""

from __future__ import annotations

import subprocess
from dataclasses import dataclass

_TIMEOUT_SECONDS = 20


@dataclass(frozen=True)
class GpuUse:
    """State of all GPUs.

    Attributes:
        utilisation: percent, by UUID; without those that do not report it (partitioned ones).
        processes: UUID, process id and name of each computing process. In a container the ids may be the host's.
    """

    utilisation: dict[str, float]
    processes: frozenset[tuple[str, int, str]]


def look() -> GpuUse | None:
    """Query ``nvidia-smi``; None if it is missing or fails."""
    utilisation = _query("--query-gpu=uuid,utilization.gpu")
    processes = _query("--query-compute-apps=gpu_uuid,pid,process_name")
    return None if utilisation is None or processes is None else parse(utilisation, processes)


def parse(utilisation: str, processes: str) -> GpuUse:
    """Parse both outputs, CSV without headings."""
    rows = [_cells(line, 2) for line in utilisation.splitlines()]
    apps = [_cells(line, 3) for line in processes.splitlines()]
    return GpuUse(
        {row[0]: float(row[1]) for row in rows if len(row) == 2 and row[1].isdigit()},
        frozenset((app[0], int(app[1]), app[2]) for app in apps if len(app) == 3 and app[1].isdigit()),
    )


def _cells(line: str, count: int) -> list[str]:
    return [cell.strip() for cell in line.split(",", count - 1)]


def _query(what: str) -> str | None:
    command = ("nvidia-smi", what, "--format=csv,noheader,nounits")
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True, timeout=_TIMEOUT_SECONDS).stdout
    except (OSError, subprocess.SubprocessError):
        return None
