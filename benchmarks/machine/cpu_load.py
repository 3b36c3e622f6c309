"""CPU load by other processes during a measurement."""

from __future__ import annotations

import os
import time
from dataclasses import dataclass
from types import TracebackType
from typing import Self

import psutil
from pydantic import Field

from ovd_bench.benchmarks.data.strict_model import Number, Seconds, StrictModel

#: Others may use a tenth of one processor, or two percent of all: about the load of an idle system.
MOST_PROCESSORS = 0.1
MOST_SHARE = 0.02
#: Precision of the system's counters; it matters only for short times.
_COUNTER_SECONDS = 0.05
#: A process that used less than this share of a CPU is not named.
_NAMED_FROM = 0.02
_NAMED_AT_MOST = 3
#: The system counts in steps of 10 ms, per CPU and process.
_STEP_SECONDS = 0.02

#: Process id and start time, since ids are reused: name and seconds of CPU time.
_Processes = dict[tuple[int, float], tuple[str, float]]


class Busy(StrictModel):
    """Load by others on the CPUs that this process may use, during some seconds."""

    seconds: Seconds
    other_processors: Number | None = Field(description="busy with other processes, on average; null = not known")
    stolen_processors: Number | None = Field(description="taken away by the host of a virtual machine, on average")
    load_average: Number = Field(description="of the last minute, at the end")
    busiest: list[str] = Field(description="other processes of this system that used most, for readers")


def disturbs(processors: float, seconds: float, cores: int) -> bool:
    """Whether so many processors taken by others make times unreliable.

    Args:
        processors: taken on average.
        seconds: measured for so long.
        cores: processors that this process may use.
    """
    return processors - _COUNTER_SECONDS / seconds > max(MOST_PROCESSORS, MOST_SHARE * cores)


@dataclass(frozen=True)
class _Reading:
    """Counters of the system, seconds.

    Attributes:
        wall: a clock.
        busy: time in which the CPUs of this process were busy, for any process.
        stolen: time taken by the host of a virtual machine.
        own: part of the busy time that was used by this process and its children.
    """

    wall: float
    busy: float
    stolen: float
    own: float

    @staticmethod
    def now() -> _Reading:
        ours = os.sched_getaffinity(0)
        mine = [times for number, times in enumerate(psutil.cpu_times(percpu=True)) if number in ours]
        # guest time is already included in user time
        busy = sum(times.user + times.nice + times.system + times.irq + times.softirq for times in mine)
        return _Reading(time.perf_counter(), busy, sum(times.steal for times in mine), _own_seconds())


class LoadMeter:
    """A context that measures the load by others; read ``busy`` afterwards.

    It compares counters of the whole system and not only those of processes: in a container other processes are not
    visible, and short-lived ones may start and end between two readings. Processes are listed outside the measured
    time, and only to name them.
    """

    def __init__(self) -> None:
        self._busy: Busy | None = None

    @property
    def busy(self) -> Busy:
        """Load by others. Available only after the context."""
        assert self._busy is not None
        return self._busy

    def __enter__(self) -> Self:
        self._processes = _other_processes()
        self._begin = _Reading.now()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        end = _Reading.now()
        seconds = max(end.wall - self._begin.wall, 1e-9)
        busy, own = end.busy - self._begin.busy, end.own - self._begin.own
        # Some sandboxes have constant counters, with which any machine would look idle.
        known = self._begin.busy > 0 and busy > own / 2 - _STEP_SECONDS
        self._busy = Busy(
            seconds=seconds,
            other_processors=max(0.0, busy - own) / seconds if known else None,
            stolen_processors=(end.stolen - self._begin.stolen) / seconds if known else None,
            load_average=os.getloadavg()[0],
            busiest=_busiest(self._processes, _other_processes(), seconds),
        )


def _busiest(before: _Processes, after: _Processes, seconds: float) -> list[str]:
    """Other processes by CPU time used in between, highest first."""
    used = [(total - before.get(process, (name, 0.0))[1], name, process[0]) for process, (name, total) in after.items()]
    named = sorted((row for row in used if row[0] / seconds >= _NAMED_FROM), reverse=True)[:_NAMED_AT_MOST]
    return [f"{name} (process {number}): {share / seconds:.2f} processors" for share, name, number in named]


def _own_seconds() -> float:
    """CPU time of this process and its descendants, including those that ended and were waited for."""
    total = 0.0
    me = psutil.Process()
    for process in (me, *me.children(recursive=True)):
        try:
            total += sum(process.cpu_times()[:4])  # user, system, and both of ended children
        except psutil.Error:  # it ended in the meantime
            continue
    return total


def _other_processes() -> _Processes:
    me = psutil.Process()
    own = {me.pid, *(child.pid for child in me.children(recursive=True))}
    return {
        (process.pid, process.info["create_time"]): (process.info["name"], sum(process.info["cpu_times"][:2]))
        for process in psutil.process_iter(["name", "create_time", "cpu_times"])
        if process.pid not in own and process.info["cpu_times"] is not None
    }
