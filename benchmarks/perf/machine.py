"""What a timing was taken on."""

from __future__ import annotations

import os
import platform
from importlib.metadata import version
from pathlib import Path


def describe_machine(distributions: list[str]) -> list[str]:
    """Lines on processor, memory, load of the machine now, and versions of the given distributions."""
    info = Path("/proc/cpuinfo").read_text().splitlines()
    model = next((line.split(":", 1)[1].strip() for line in info if line.startswith("model name")), "unknown processor")
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    load = ", ".join(f"{value:.2f}" for value in os.getloadavg())
    return [
        f"{model}, {len(os.sched_getaffinity(0))} cores, {memory:.0f} GiB memory, {platform.system()}",
        f"load average at start {load} (1, 5, 15 minutes)",
        f"Python {platform.python_version()}, " + ", ".join(f"{name} {version(name)}" for name in distributions),
    ]
