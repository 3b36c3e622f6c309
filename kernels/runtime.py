"""One call makes ``import jittor`` right: ``jt = runtime.jittor()``.

Right means: oneDNN from the installed package, no network, no CUDA compiler that happens to lie on the path, nothing
printed but the progress of a first compilation, the process otherwise as it was, kernels that keep to IEEE comparisons.
docs/jittor.md tells the whole story.
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
    """Choose where Jittor computes in this process; ``cpu`` if never called. To come before all that imports Jittor.

    Raises:
        RuntimeUnavailable: the device cannot be used, or Jittor is in the process without CUDA already.
    """
    global _selected
    loaded = sys.modules.get("jittor")
    if loaded is not None and loaded.has_cuda:
        loaded.flags.use_cuda = int(device == "cuda")
    elif device == "cuda":
        if loaded is not None:
            raise RuntimeUnavailable("Jittor is in this process for the CPU already, so it cannot use CUDA any more")
        found = problem("cuda")
        if found:
            raise RuntimeUnavailable(found)
    _selected = device


@cache
def jittor() -> Any:
    """The module ``jittor``. Compiles Jittor's core first where that has not been done.

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
    """Compile Jittor's core unless that has been done, without importing it into this process.

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
    """One line that says what Jittor lacks on this machine, and what to do; None if nothing."""
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
    """``python -m ovd_bench.kernels.runtime``: compile what this machine can use, so that nothing waits later."""
    try:
        prepare()
        if device_problem() is None:
            prepare("cuda")
    except RuntimeUnavailable as error:
        sys.exit(str(error))


if __name__ == "__main__":
    _main()
