"""Requirements of the detectors on this machine, and how to fix what is missing.

Frameworks are tested in separate processes: a broken one is a line of the table and does not stop the command.
"""

from __future__ import annotations

import importlib.metadata
import importlib.util
import json
import os
import platform
import shutil
import subprocess
import sys
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import psutil
from packaging.requirements import Requirement

ROOT = Path(__file__).resolve().parents[2]

#: ``absent``: missing, but not needed for detectors on the CPU.
Status = Literal["ok", "failed", "absent"]

#: Timeout of a child process that tests a framework, seconds.
_PATIENCE = 180
_GIB = 1 << 30
#: Jittor's core, its kernels and a large model's weights.
_DISK, _RAM = 5 * _GIB, 4 * _GIB

_ASK_TORCH = """
import json, torch
there = torch.cuda.is_available()
names = [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())] if there else []
print(json.dumps({"version": torch.__version__, "cuda": torch.version.cuda, "devices": names}))
"""


@dataclass(frozen=True)
class Check:
    """One line of the table.

    Attributes:
        name: name of the part.
        status: verdict.
        found: what was found.
        advice: what to do, empty if nothing.
    """

    name: str
    status: Status
    found: str
    advice: str = ""


def examine() -> list[Check]:
    """Check everything."""
    with ThreadPoolExecutor(2) as pool:
        torch = pool.submit(_ask, ["-c", _ASK_TORCH])
        jittor = pool.submit(_ask, ["-m", "ovd_bench.kernels.probe"])
        checks = [_python(), _packages(), _ram()]
        return [*checks, *_jittor(*jittor.result()), *_cuda(*jittor.result()), _torch(*torch.result())]


def usable(checks: list[Check]) -> bool:
    """Whether detectors can run on the CPU."""
    return not any(check.status == "failed" for check in checks)


def _ask(arguments: list[str]) -> tuple[Mapping[str, Any], str]:
    """The JSON object that a child prints last, or why there is none."""
    try:
        done = subprocess.run(
            [sys.executable, *arguments],
            capture_output=True,
            encoding="utf-8",
            errors="replace",
            timeout=_PATIENCE,
            check=False,
        )
        return dict(json.loads(done.stdout.strip().splitlines()[-1])), ""
    except subprocess.TimeoutExpired:
        return {}, f"no answer in {_PATIENCE} s"
    except (OSError, ValueError, IndexError):
        said = done.stderr.strip().splitlines()
        return {}, said[-1] if said else f"ended with code {done.returncode}"


def _python() -> Check:
    fits = sys.version_info >= (3, 11)
    advice = "" if fits else "use Python 3.11 or newer"
    return Check("Python", "ok" if fits else "failed", f"{platform.python_version()} ({sys.executable})", advice)


def _packages() -> Check:
    lock = ROOT / "requirements.lock"
    if not lock.is_file():
        return Check("packages", "absent", "the suite has no requirements.lock", "make setup in a checkout")
    pinned = [
        Requirement(line.split("\\")[0]) for line in lock.read_text(encoding="utf-8").splitlines() if line[:1].isalnum()
    ]
    wrong = [problem for problem in map(_difference, pinned) if problem]
    if not wrong:
        return Check("packages", "ok", f"all {len(pinned)} of requirements.lock")
    return Check(
        "packages", "failed", f"{len(wrong)} differ from requirements.lock: {'; '.join(wrong[:3])}", "make setup"
    )


def _difference(pinned: Requirement) -> str | None:
    if pinned.marker is not None and not pinned.marker.evaluate():
        return None
    try:
        there = importlib.metadata.version(pinned.name)
    except importlib.metadata.PackageNotFoundError:
        return f"{pinned.name} is missing"
    return None if pinned.specifier.contains(there, prereleases=True) else f"{pinned.name} is {there}"


def _ram() -> Check:
    memory = psutil.virtual_memory()
    found = f"{memory.total / _GIB:.1f} GiB, {memory.available / _GIB:.1f} GiB of it free"
    enough = memory.available >= _RAM
    return Check("memory", "ok" if enough else "absent", found, "" if enough else "large detectors need 4 GiB")


def _jittor(facts: Mapping[str, Any], trouble: str) -> list[Check]:
    if not facts:
        return [Check("Jittor", "failed", trouble, "make setup")]
    compiler, onednn = facts["compiler"], facts["onednn"]
    checks = [
        Check("compiler", *(("ok", compiler) if compiler else ("failed", "no g++", "apt-get install g++"))),
        Check("oneDNN", "ok", onednn) if onednn else _without_onednn(facts["onednn_exists"]),
    ]
    problem, _, advice = (facts["problem"] or "").partition(": ")
    checks.append(Check("Jittor", "failed" if problem else "ok", problem or facts["version"], advice))
    if not problem:
        checks.append(_core(facts))
    checks.append(_cache(Path(facts["cache"]), facts["cache_bytes"]))
    threads = "not known" if facts["threads"] is None else str(facts["threads"])
    named = os.environ.get("OMP_NUM_THREADS")
    return [*checks, Check("threads", "ok", f"{threads} ({'OMP_NUM_THREADS' if named else 'one for each core'})")]


def _without_onednn(exists: bool) -> Check:
    if exists:
        return Check("oneDNN", "failed", "not installed", "pip install onednn-devel-cpu-gomp==2021.2.0")
    return Check("oneDNN", "absent", f"no package for {platform.machine()}", "Jittor will be slow on the CPU")


def _core(facts: Mapping[str, Any]) -> Check:
    if not facts["core_built"]:
        return Check("Jittor's core", "absent", "not compiled yet", "make setup, or the first use (2 to 4 minutes)")
    if facts["computes"] == "ok":
        return Check("Jittor's core", "ok", "compiled, multiplies matrices")
    return Check("Jittor's core", "failed", str(facts["computes"]), "remove the cache, then make setup")


def _cache(folder: Path, size: int) -> Check:
    place = next(parent for parent in (folder, *folder.parents) if parent.exists())
    free = shutil.disk_usage(place).free
    found = f"{folder}, {size / _GIB:.2f} GiB; {free / _GIB:.0f} GiB free"
    if not os.access(place, os.W_OK):
        return Check("Jittor's cache", "failed", f"{found}; not writable", "set JITTOR_HOME to a folder of yours")
    advice = "" if free >= _DISK else "less than 5 GiB free: set JITTOR_HOME to another disk"
    return Check("Jittor's cache", "ok" if not advice else "absent", found, advice)


def _cuda(facts: Mapping[str, Any], trouble: str) -> list[Check]:
    if not facts:
        return []
    driver, problem = facts["driver_problem"], facts["cuda_problem"] or facts["problem"]
    toolkit, _, advice = facts["toolkit"].partition(": ")
    checks = [
        Check("NVIDIA driver", "absent" if driver else "ok", driver or "shows a device"),
        Check("nvcc", "ok" if facts["toolkit_found"] else "absent", toolkit, advice),
        Check("cuDNN", "ok", facts["cudnn"])
        if facts["cudnn"]
        else Check("cuDNN", "absent", "not found", "pip install nvidia-cudnn-cu13"),
    ]
    if problem:
        what, _, advice = problem.partition(": ")
        return [*checks, Check("Jittor for CUDA", "absent", what, advice)]
    if driver:
        return [*checks, Check("Jittor for CUDA", "absent", "could be compiled; there is no device")]
    if not facts["cuda_built"]:
        return [*checks, Check("Jittor for CUDA", "absent", "not compiled yet", "make setup, or the first use")]
    return [*checks, Check("Jittor for CUDA", "ok", "compiled from the changed copy")]


def _torch(facts: Mapping[str, Any], trouble: str) -> Check:
    if not facts:
        if importlib.util.find_spec("torch") is None:
            return Check("PyTorch", "absent", "not installed", "pip install 'ovd-bench[torch]'")
        return Check("PyTorch", "failed", trouble, "make setup")
    built = f"for CUDA {facts['cuda']}" if facts["cuda"] else "for the CPU"
    return Check("PyTorch", "ok", f"{facts['version']}, {built}; {', '.join(facts['devices']) or 'no device'}")
