"""Description of the machine of a timing."""

from __future__ import annotations

import os
import platform
from importlib.metadata import version

from ovd_bench.benchmarks.machine.environment import describe_environment


def describe_machine(distributions: list[str]) -> list[str]:
    """Lines on processor, memory, current load of the machine, and versions of the given distributions."""
    machine = describe_environment()
    load = ", ".join(f"{value:.2f}" for value in os.getloadavg())
    return [
        f"{machine.cpu}, {machine.cores} cores, {machine.ram_bytes / 2**30:.0f} GiB memory, {platform.system()}",
        f"load average at start {load} (1, 5, 15 minutes)",
        f"Python {platform.python_version()}, " + ", ".join(f"{name} {version(name)}" for name in distributions),
    ]
