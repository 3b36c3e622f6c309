"""Imports Jittor without its side effects: ``jt = runtime.jittor()``.

Jittor uses oneDNN from the installed package, no network, and no CUDA compiler that happens to be on the path. It
prints only the progress of a first compilation and leaves the process unchanged. Its kernels follow IEEE comparisons.
docs/jittor.md has the details.
"""

from __future__ import annotations

import importlib.util
import shutil
import sys
import sysconfig
from functools import cache
from pathlib import Path
from typing import Any, Literal

from ovd_bench.kernels import jittor_core, jittor_import, onednn
from ovd_bench.kernels.jittor_cuda import cuda_build, device_problem, toolkit_problem
from ovd_bench.kernels.jittor_import import Build, RuntimeUnavailable

__all__ = ["Device", "RuntimeUnavailable", "jittor", "prepare", "problem", "select"]

Device = Literal["cpu", "cuda"]

_MINUTES = {"cpu": "about 2 to 4 minutes on two cores", "cuda": "about 6 to 10 minutes on two cores"}
_selected: Device = "cpu"


def select(device: Device) -> None:
    """Choose Jittor's device in this process (default ``cpu``). Call it before importing anything that uses Jittor.

    Raises:
        RuntimeUnavailable: the device cannot be used, or Jittor is already loaded without CUDA.
    """
    global _selected
    loaded = sys.modules.get("jittor")
    if loaded is not None and loaded.has_cuda:
        loaded.flags.use_cuda = int(device == "cuda")
    elif device == "cuda":
        if loaded is not None:
            raise RuntimeUnavailable("Jittor is already loaded for the CPU in this process and cannot switch to CUDA")
        found = problem("cuda")
        if found:
            raise RuntimeUnavailable(found)
    _selected = device


@cache
def jittor() -> Any:
    """The module ``jittor``. Compiles Jittor's core first if needed.

    Raises:
        RuntimeUnavailable: Jittor cannot be used here; one line says why and what to do.
    """
    build = prepare(_selected)
    try:
        module = jittor_import.import_jittor(build)
    except RuntimeUnavailable:
        jittor_core.forget(build)
        raise
    module.flags.use_cuda = int(build.device == "cuda")
    return module


def prepare(device: Device = "cpu") -> Build:
    """Compile Jittor's core if needed, without importing it into this process.

    Raises:
        RuntimeUnavailable: as `jittor`.
    """
    found = problem(device)
    if found:
        raise RuntimeUnavailable(found)
    try:
        if onednn.supported():
            onednn.place(jittor_import.cache())
        build = cuda_build() if device == "cuda" else Build()
        jittor_core.ensure_built(build, _MINUTES[device])
    except OSError as error:
        raise RuntimeUnavailable(f"Jittor's cache {jittor_import.cache()}: {error}") from error
    return build


def problem(device: Device = "cpu") -> str | None:
    """One line: what is missing for Jittor on this machine and what to do; None if nothing is."""
    if not sys.platform.startswith("linux"):
        return f"Jittor is supported on Linux, this is {sys.platform}"
    if importlib.util.find_spec("jittor") is None:
        return "Jittor is not installed: pip install 'ovd-bench[jittor]'"
    if shutil.which("g++") is None:
        return "g++ not found, Jittor compiles with it: apt-get install g++"
    headers = Path(sysconfig.get_path("platinclude")) / "Python.h"
    if not headers.is_file() and not (Path(sysconfig.get_config_var("INCLUDEPY") or "") / "Python.h").is_file():
        return f"{headers} not found: apt-get install python3.{sys.version_info.minor}-dev"
    if onednn.supported() and onednn.installed() is None:
        return "oneDNN is not installed: pip install onednn-devel-cpu-gomp==2021.2.0"
    return (device_problem() or toolkit_problem()) if device == "cuda" else None


def _main() -> None:
    """``python -m ovd_bench.kernels.runtime``: compile in advance what this machine can use."""
    try:
        prepare()
        if device_problem() is None:
            prepare("cuda")
    except RuntimeUnavailable as error:
        sys.exit(str(error))


if __name__ == "__main__":
    _main()
