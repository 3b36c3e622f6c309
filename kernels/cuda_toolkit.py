"""Finds the CUDA compiler: named by the environment, installed by pip, on the path or in the usual place."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sysconfig
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

#: Compute capabilities that the kernels are compiled for: A100, RTX 30, RTX 40 / L4, H100 / H200.
ARCHITECTURES = (80, 86, 89, 90)


class ToolkitError(RuntimeError):
    """There is no usable CUDA compiler, or it could not compile a source."""


@dataclass(frozen=True)
class Toolkit:
    """A CUDA toolkit on this machine."""

    home: Path
    nvcc: Path
    include: Path
    lib: Path
    version: tuple[int, int]

    def compile(self, source: Path, target: Path, architectures: Sequence[int] = ARCHITECTURES) -> None:
        """Compile a ``.cu`` file to a shared library; its ``extern "C"`` functions can be called through ctypes.

        The CUDA runtime is linked statically, so the library needs only a driver and works beside any framework in the
        process.

        Raises:
            ToolkitError: the compilation failed; contains the compiler's messages.
        """
        codes = [f"-gencode=arch=compute_{number},code=sm_{number}" for number in architectures]
        flags = ["-O3", "-std=c++17", "--expt-relaxed-constexpr", "-lineinfo", "-shared", "-Xcompiler", "-fPIC"]
        command = [str(self.nvcc), *flags, *codes, str(source), "-o", str(target)]
        done = subprocess.run(command, capture_output=True, encoding="utf-8", errors="replace", check=False)
        if done.returncode:
            raise ToolkitError(f"nvcc could not compile {source.name}:\n{done.stdout}{done.stderr}".rstrip())


@cache
def find_toolkit() -> Toolkit | None:
    """The first complete toolkit, or None; `explain` says why."""
    for home in _homes():
        if not _missing(home):
            lib = next((home / name for name in ("lib64", "lib") if (home / name).is_dir()), home / "lib")
            nvcc = home / "bin" / "nvcc"
            return Toolkit(home, nvcc, home / "include", lib, _version(nvcc))
    return None


def explain() -> str:
    """One line: which toolkit is used, or what is missing and what to do."""
    toolkit = find_toolkit()
    if toolkit:
        return f"CUDA {toolkit.version[0]}.{toolkit.version[1]} in {toolkit.home}"
    half = next((f"{home} lacks {', '.join(_missing(home))}" for home in _homes() if (home / "bin/nvcc").exists()), "")
    return f"no CUDA compiler ({half or 'no nvcc found'}): pip install 'ovd-bench[cuda]' or set CUDA_HOME"


def _homes() -> Iterator[Path]:
    for name in ("CUDA_HOME", "CUDA_PATH"):
        if os.environ.get(name):
            yield Path(os.environ[name])
    yield from sorted((Path(sysconfig.get_path("purelib")) / "nvidia").glob("cu[0-9]*"), reverse=True)
    on_path = shutil.which("nvcc")
    if on_path:
        yield Path(on_path).resolve().parent.parent
    yield Path("/usr/local/cuda")


def _missing(home: Path) -> list[str]:
    """Missing parts of a toolkit; pip spreads them over four packages."""
    return [part for part in ("bin/nvcc", "nvvm/bin/cicc", "include/cuda_runtime.h") if not (home / part).exists()]


def _version(nvcc: Path) -> tuple[int, int]:
    text = subprocess.run(
        [str(nvcc), "--version"], capture_output=True, encoding="utf-8", errors="replace", check=False
    ).stdout
    found = re.search(r"release (\d+)\.(\d+)", text)
    return (int(found[1]), int(found[2])) if found else (0, 0)
