"""Description of machine and software for results."""

from __future__ import annotations

import hashlib
import importlib.metadata
import os
import platform
import subprocess
import sys
from functools import cache
from pathlib import Path

from ovd_bench.benchmarks.data.strict_model import Count, Sha256, StrictModel

_ROOT = Path(__file__).resolve().parents[2]

#: Distributions that affect predictions or scores.
_PACKAGES = (
    "jittor",
    "numpy",
    "open-clip-torch",
    "ovd-bench",
    "pillow",
    "pyarrow",
    "ray",
    "safetensors",
    "scipy",
    "tokenizers",
    "torch",
    "torchvision",
    "transformers",
)


class EnvironmentInfo(StrictModel):
    """The machine and the software."""

    git_commit: str | None
    git_dirty: bool | None
    python: str
    platform: str
    packages: dict[str, str]
    lock_sha256: Sha256 | None
    cpu: str
    cores: Count
    ram_bytes: Count
    gpus: list[str]
    driver: str | None
    cuda: str | None


@cache
def describe_environment() -> EnvironmentInfo:
    """Facts on this process, its machine and the suite's checkout; unknown ones are None or empty.

    GPUs are those visible to torch if it is loaded, otherwise all that ``nvidia-smi`` lists.
    """
    commit, dirty = _git()
    gpus, driver = _nvidia()
    torch = sys.modules.get("torch")
    if torch is not None and torch.cuda.is_available():
        gpus = [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())]
    lock = _ROOT / "requirements.lock"
    return EnvironmentInfo(
        git_commit=commit,
        git_dirty=dirty,
        python=platform.python_version(),
        platform=platform.platform(),
        packages=_versions(),
        lock_sha256=hashlib.sha256(lock.read_bytes()).hexdigest() if lock.is_file() else None,
        cpu=_cpu(),
        cores=len(os.sched_getaffinity(0)),
        ram_bytes=os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"),
        gpus=gpus,
        driver=driver,
        cuda=torch.version.cuda if torch is not None and gpus else None,
    )


def threads_allowed() -> int:
    """Threads that a framework may start in this process: ``OMP_NUM_THREADS``, else one per processor it may use.

    Frameworks may start fewer of their own accord (torch: one per physical core).
    """
    limit = os.environ.get("OMP_NUM_THREADS", "").partition(",")[0].strip()
    return int(limit) if limit.isdecimal() and int(limit) > 0 else len(os.sched_getaffinity(0))


def _versions() -> dict[str, str]:
    versions = {}
    for name in _PACKAGES:
        try:
            versions[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return versions


def _cpu() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        lines = []
    return next((line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), platform.machine())


def _git() -> tuple[str | None, bool | None]:
    """Commit of the suite's checkout and whether it was changed; results and data do not count as changes."""
    if not (_ROOT / ".git").exists():  # installed inside another checkout
        return None, None
    commit = _output("git", "-C", str(_ROOT), "rev-parse", "HEAD")
    state = _output("git", "-C", str(_ROOT), "status", "--porcelain", "--", ".", ":!results", ":!data")
    return commit, None if state is None else bool(state)


def _nvidia() -> tuple[list[str], str | None]:
    """Names of all GPUs, and the driver."""
    lines = (_output("nvidia-smi", "--query-gpu=name,driver_version", "--format=csv,noheader") or "").splitlines()
    rows = [[cell.strip() for cell in line.rsplit(",", 1)] for line in lines if "," in line]
    return [name for name, _ in rows], rows[0][1] if rows else None


def _output(*command: str) -> str | None:
    """Output of a command; None if it is missing, fails or hangs."""
    try:
        result = subprocess.run(
            command, capture_output=True, encoding="utf-8", errors="replace", check=True, timeout=20
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return result.stdout.strip()
