"""Whether other processes used the machine during a measurement, which makes it unreliable."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from ovd_bench.benchmarks.machine.cpu_load import Busy
from ovd_bench.benchmarks.machine.gpus import GpuUse
from ovd_bench.benchmarks.speed.record import ExclusiveUse

#: Others may use a tenth of one processor, or two percent of all: about the load of an idle system.
MOST_PROCESSORS = 0.1
MOST_SHARE = 0.02
#: Precision of the system's counters; it matters only for short times.
_COUNTER_SECONDS = 0.05
MOST_GPU_PERCENT = 5.0


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


def exclusive_use(
    before: Busy,
    during: Mapping[str, Busy],
    cores: int,
    gpu: GpuEvidence | None,
) -> ExclusiveUse:
    """Decide from the measured load whether the detector had the machine for itself.

    The load average is recorded but does not count: it covers a minute, and so also the previous detector of this
    command.

    Args:
        before: while this process was idle.
        during: load during each measurement, by its name.
        cores: processors that this process may use.
        gpu: None if the detector uses no GPU.
    """
    against: list[str] = []
    unknown: list[str] = []
    for when, busy in {"before": before, **during}.items():
        if busy.other_processors is None or busy.stolen_processors is None:
            unknown.append(f"{when}: the system does not tell what its processors do")
            continue
        for share, what in (
            (busy.other_processors, "other processes used"),
            (busy.stolen_processors, "the host of this virtual machine took away"),
        ):
            if share - _COUNTER_SECONDS / busy.seconds > max(MOST_PROCESSORS, MOST_SHARE * cores):
                names = f" ({busy.busiest[0]})" if busy.busiest and what.startswith("other") else ""
                against.append(f"{when}: {what} {share:.2f} of {cores} processors{names}")
    if gpu is not None:
        _weigh_gpu(gpu, against, unknown)
    return ExclusiveUse(
        exclusive=False if against else None if unknown else True, reasons=[*against, *unknown], before=before
    )


def _weigh_gpu(gpu: GpuEvidence, against: list[str], unknown: list[str]) -> None:
    if gpu.before is None or gpu.after is None:
        unknown.append("graphics processor: nvidia-smi does not tell who uses it")
        return
    for uuid, percent in gpu.before.utilisation.items():
        if gpu.uuid in (None, uuid) and percent > MOST_GPU_PERCENT:
            against.append(f"before: the graphics processor was {percent:.0f} % busy")
    there = {app for app in gpu.before.processes if gpu.uuid in (None, app[0])}
    came = {app for app in gpu.after.processes - gpu.before.processes if gpu.uuid in (None, app[0])}
    own = {app for app in came if app[1] == gpu.pid}
    if not own and len(came) == 1:
        own = came  # this process, with its id outside the container
    for when, apps in (("before", there), ("during", came - own)):
        against += [
            f"{when}: {name} (process {number}) used the graphics processor" for _, number, name in sorted(apps)
        ]
