"""``python -m ovd_bench.kernels.probe``: what Jittor finds on this machine, as JSON.

It runs in a separate process, so that a broken framework does not affect the caller.
"""

from __future__ import annotations

import ctypes
import json
import os
import re
import shutil
import subprocess
from importlib import metadata
from pathlib import Path
from typing import Any

from ovd_bench.kernels import cuda_toolkit, jittor_core, jittor_cuda, jittor_import, onednn, runtime


def facts() -> dict[str, Any]:
    """All that ``bench doctor`` shows on Jittor. Compiles nothing; multiplies two matrices if the core is compiled."""
    found: dict[str, Any] = {
        "version": _version("jittor"),
        "problem": runtime.problem(),
        "compiler": _compiler(),
        "onednn": onednn.installed(),
        "onednn_exists": onednn.supported(),
        "cache": str(jittor_import.cache()),
        "cache_bytes": _size(jittor_import.cache()),
        "threads": _threads(),
        "driver_problem": jittor_cuda.device_problem(),
        "toolkit": cuda_toolkit.explain(),
        "toolkit_found": cuda_toolkit.find_toolkit() is not None,
        "cudnn": jittor_cuda.cudnn_version(),
        "core_built": False,
        "computes": None,
        "cuda_problem": None,
        "cuda_built": False,
    }
    if found["problem"] is None:
        build = jittor_import.Build()
        found["core_built"] = jittor_core.is_built(build)
        found["cuda_problem"] = jittor_cuda.toolkit_problem() or jittor_cuda.unknown_file(build.source.parent)
        if found["cuda_problem"] is None and found["driver_problem"] is None:
            found["cuda_built"] = jittor_core.is_built(jittor_cuda.cuda_build())
    if found["core_built"]:
        found["computes"] = _computes()
    return found


def _version(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def _compiler() -> str | None:
    path = shutil.which("g++")
    if path is None:
        return None
    said = subprocess.run(
        [path, "-dumpfullversion"], capture_output=True, encoding="utf-8", errors="replace", check=False
    ).stdout.strip()
    return f"g++ {said} ({path})" if re.fullmatch(r"[\d.]+", said) else f"{path}, which does not say its version"


def _size(folder: Path) -> int:
    return sum(os.lstat(Path(place) / name).st_size for place, _, names in os.walk(folder) for name in names)


def _threads() -> int | None:
    """Threads that OpenMP starts: ``OMP_NUM_THREADS``, or one per core."""
    try:
        return int(ctypes.CDLL("libgomp.so.1").omp_get_max_threads())
    except OSError:
        return None


def _computes() -> str:
    """``ok``, or what went wrong."""
    import numpy as np

    x = np.arange(12, dtype=np.float32).reshape(3, 4)
    try:
        jt = runtime.jittor()
        product = jt.matmul(jt.array(x), jt.array(x.T)).numpy()
    except Exception as error:  # noqa: BLE001 - any error is shown to the reader
        return (str(error).strip().splitlines() or [type(error).__name__])[0]
    return "ok" if np.array_equal(product, x @ x.T) else "a matrix product is wrong"


if __name__ == "__main__":
    print("\n" + json.dumps(facts()))
