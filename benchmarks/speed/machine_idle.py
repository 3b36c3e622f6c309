"""Whether other processes used the machine during a measurement, which makes it unreliable."""

from __future__ import annotations

from collections.abc import Mapping

from ovd_bench.benchmarks.machine.cpu_load import Busy, disturbs
from ovd_bench.benchmarks.machine.gpus import GpuEvidence
from ovd_bench.benchmarks.speed.record import ExclusiveUse


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
            if disturbs(share, busy.seconds, cores):
                names = f" ({busy.busiest[0]})" if busy.busiest and what.startswith("other") else ""
                against.append(f"{when}: {what} {share:.2f} of {cores} processors{names}")
    if gpu is not None:
        others = gpu.others()
        if others is None:
            unknown.append("graphics processor: nvidia-smi does not tell who uses it")
        against += others or []
    return ExclusiveUse(
        exclusive=False if against else None if unknown else True, reasons=[*against, *unknown], before=before
    )
