"""Use of the GPUs according to ``nvidia-smi``, and whether others use the one in use."""

from __future__ import annotations

import os
import subprocess
import time
from dataclasses import dataclass
from typing import Literal

MOST_GPU_PERCENT = 5.0
_TIMEOUT_SECONDS = 20
#: How long an answer of ``nvidia-smi`` holds, which takes up to seconds itself.
_VALID_SECONDS = 30.0


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


@dataclass(frozen=True)
class GpuEvidence:
    """Use of the GPUs.

    Attributes:
        before: before the detector was loaded; None if unknown.
        after: after its last timed call.
        uuid: of the GPU in use; None = unknown, so all of them count.
        pid: of this process.
    """

    before: GpuUse | None
    after: GpuUse | None
    uuid: str | None
    pid: int

    def others(self) -> list[str] | None:
        """What others did on the GPU, a line each; None if it is not known."""
        if self.before is None or self.after is None:
            return None
        lines = [
            f"before: the graphics processor was {percent:.0f} % busy"
            for uuid, percent in self.before.utilisation.items()
            if self.uuid in (None, uuid) and percent > MOST_GPU_PERCENT
        ]
        there = {app for app in self.before.processes if self.uuid in (None, app[0])}
        came = {app for app in self.after.processes - self.before.processes if self.uuid in (None, app[0])}
        own = {app for app in came if app[1] == self.pid}
        if not own and len(came) == 1:
            own = came  # this process, with its id outside the container
        for when, apps in (("before", there), ("during", came - own)):
            lines += [
                f"{when}: {name} (process {number}) used the graphics processor" for _, number, name in sorted(apps)
            ]
        return lines


class GpuWatch:
    """Whether this process has its GPU to itself; made before the detector is loaded."""

    def __init__(self) -> None:
        self._before = look()
        self._state: Literal["alone", "shared", "unknown"] = "unknown"
        self._looked: float | None = None

    def state(self, uuid: str | None) -> Literal["alone", "shared", "unknown"]:
        """The state now, or up to half a minute ago; ``unknown`` where ``nvidia-smi`` does not tell.

        Args:
            uuid: of the GPU in use; None = unknown, so all of them count.
        """
        now = time.monotonic()
        if self._looked is None or now - self._looked > _VALID_SECONDS:
            others = GpuEvidence(self._before, look(), uuid, os.getpid()).others()
            self._state = "unknown" if others is None else "shared" if others else "alone"
            self._looked = now
        return self._state


def _cells(line: str, count: int) -> list[str]:
    return [cell.strip() for cell in line.split(",", count - 1)]


def _query(what: str) -> str | None:
    command = ("nvidia-smi", what, "--format=csv,noheader,nounits")
    try:
        return subprocess.run(
            command, capture_output=True, encoding="utf-8", errors="replace", check=True, timeout=_TIMEOUT_SECONDS
        ).stdout
    except (OSError, subprocess.SubprocessError):
        return None
