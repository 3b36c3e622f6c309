"""Compiles the C++ sources of the scoring engine once per machine and loads them.

A shared library is built with the system's ``g++`` (``CXX`` overrides it) into the user's cache directory, under a name
that hashes sources, flags, compiler version and processor, so an update or another machine never loads a stale build.
``-ffp-contract=off`` keeps the compiler from fusing a multiply and an add: the official evaluators are not fused.
"""

from __future__ import annotations

import ctypes
import hashlib
import os
import platform
import shlex
import shutil
import subprocess
import tempfile
from collections.abc import Sequence
from functools import cache
from pathlib import Path

from platformdirs import user_cache_path

FLAGS = ("-std=c++17", "-O3", "-march=native", "-ffp-contract=off", "-fPIC", "-shared", "-pthread", "-Wno-psabi")


class CompilerError(RuntimeError):
    """The C++ compiler is missing or could not compile the sources."""


@cache
def load(name: str, sources: Sequence[Path]) -> ctypes.CDLL:
    """Load the shared library made of ``sources`` (``.cc`` files, with headers in the same folder); build it if needed.

    Raises:
        CompilerError: no compiler, or the build failed; the message is one line, the compiler's output its cause.
    """
    return ctypes.CDLL(str(build(name, sources)))


def build(name: str, sources: Sequence[Path]) -> Path:
    """Path of the built library; builds it under a lock when the cache does not hold it."""
    compiler = shlex.split(os.environ.get("CXX", "g++"))
    if shutil.which(compiler[0]) is None:
        raise CompilerError(f"C++ compiler '{compiler[0]}' not found: install g++ 11 or newer, or set CXX")
    directory = user_cache_path("ovd-bench") / "native"
    target = directory / f"{name}-{_key(compiler, sources)}.so"
    if _is_intact(target):
        return target
    from filelock import FileLock  # imported here because it takes 30 ms and only a build needs it

    directory.mkdir(parents=True, exist_ok=True)
    with FileLock(str(target) + ".lock"):
        if not _is_intact(target):
            _compile(compiler, sources, target)
    return target


def _is_intact(target: Path) -> bool:
    """Whether the library is there and has the hash that was noted when it was built.

    Loading a cut one could kill the process, which leaves nothing to catch.
    """
    try:
        return hashlib.sha256(target.read_bytes()).hexdigest() == _noted(target).read_text(encoding="utf-8")
    except OSError:
        return False


def _noted(target: Path) -> Path:
    return target.with_suffix(".sha256")


def _key(compiler: list[str], sources: Sequence[Path]) -> str:
    digest = hashlib.sha256(repr((compiler, FLAGS, _compiler_version(tuple(compiler)), _processor())).encode())
    headers = {header for source in sources for header in source.parent.glob("*.h")}
    for path in [*sources, *sorted(headers)]:
        digest.update(path.name.encode() + b"\0" + path.read_bytes())
    return digest.hexdigest()[:16]


@cache
def _compiler_version(compiler: tuple[str, ...]) -> str:
    """Identity of the compiler file. Running the compiler instead would add 10 ms to every start."""
    path = Path(shutil.which(compiler[0]) or compiler[0]).resolve()
    return f"{path} {path.stat().st_size} {path.stat().st_mtime_ns}"


def _processor() -> str:
    """What ``-march=native`` depends on."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    return "\n".join(next((line for line in lines if line.startswith(key)), "") for key in ("model name", "flags"))


def _compile(compiler: list[str], sources: Sequence[Path], target: Path) -> None:
    scratch_name = f"{target.stem}-build-"
    for leftover in target.parent.glob(f"{scratch_name}*"):  # of a build that was killed: this one holds the lock
        shutil.rmtree(leftover, ignore_errors=True)
    with tempfile.TemporaryDirectory(prefix=scratch_name, dir=target.parent) as scratch:
        output = Path(scratch) / target.name
        command = [*compiler, *FLAGS, *map(str, sources), "-o", str(output)]
        result = subprocess.run(command, capture_output=True, encoding="utf-8", errors="replace", check=False)
        if result.returncode != 0:
            cause = RuntimeError(result.stderr)
            raise CompilerError(f"{compiler[0]} could not build {target.name}; -v shows its output") from cause
        sha256 = hashlib.sha256(output.read_bytes()).hexdigest()
        output.replace(target)
        note = Path(scratch) / "sha256"
        note.write_text(sha256, encoding="utf-8")
        note.replace(_noted(target))
