"""Compiles Jittor's own C++ code once per machine and environment, in a child process with visible progress.

A child process is needed because Jittor ends its process with exit code 0, and without finishing, when its compiler
helper has changed. The second start succeeds.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import platform
import re
import select
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path

from ovd_bench.kernels import onednn
from ovd_bench.kernels.jittor_import import READY, Build, RuntimeUnavailable, cache

#: Seconds after which a silent child is assumed to be compiling; an import takes two.
_PATIENCE = 4.0
_STARTS = 3
_STEP = re.compile(r"Compiling (\w+)[^(]*\((\d+)/(\d+)\)")


def is_built(build: Build) -> bool:
    """Whether everything that an import needs is compiled."""
    try:
        files = json.loads(_record(build).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return False
    return bool(files) and all(Path(file).exists() for file in files)


def forget(build: Build) -> None:
    """Make the next process check again whether everything is compiled."""
    _record(build).unlink(missing_ok=True)


def ensure_built(build: Build, minutes: str) -> None:
    """Compile what is missing; only one process compiles at a time, others wait.

    Args:
        build: which compiled Jittor.
        minutes: expected duration, for the progress line.

    Raises:
        RuntimeUnavailable: the compiler failed; the message names the log.
    """
    if is_built(build):
        return
    record = _record(build)
    record.parent.mkdir(parents=True, exist_ok=True)
    progress = _Progress(f"Jittor: compiling its core for {build.device.upper()}, once, {minutes}")
    with _locked(record.with_suffix(".lock")):
        if is_built(build):
            return
        files = _run(build, record.with_suffix(".log"), progress)
        scratch = record.with_name(f"{record.name}.{os.getpid()}")
        scratch.write_text(json.dumps(files), encoding="utf-8")
        scratch.replace(record)
    progress.done()


def _record(build: Build) -> Path:
    """File that lists the compiled files; one per compiler, interpreter, processor, system and package."""
    compiler = Path(shutil.which("g++") or "g++").resolve()
    stat = compiler.stat() if compiler.exists() else None
    facts = (
        asdict(build),
        build.source,
        sys.version,
        sys.executable,
        compiler,
        stat and (stat.st_size, stat.st_mtime_ns),
        os.uname(),
        os.confstr("CS_GNU_LIBC_VERSION"),
        _processor(),
        onednn.supported(),
    )
    key = hashlib.sha256(repr(facts).encode()).hexdigest()[:16]
    return cache() / "ovd-bench" / f"{key}.json"


def _processor() -> str:
    """What ``-march=native`` depends on."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.machine()
    return "\n".join(next((line for line in lines if line.startswith(key)), "") for key in ("model name", "flags"))


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    with path.open("w", encoding="utf-8") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _run(build: Build, log: Path, progress: _Progress) -> list[str]:
    """Start child processes until one has imported Jittor; returns the files that it loaded from the cache."""
    settings = json.dumps(asdict(build), default=str)
    # Under mpirun the child must not start as a rank of its own.
    inherited = {name: value for name, value in os.environ.items() if not name.startswith(("OMPI_", "PMIX_"))}
    environment = {**inherited, "PYTHONUNBUFFERED": "1"}
    with log.open("wb") as sink:
        for _ in range(_STARTS):
            command = [sys.executable, "-m", "ovd_bench.kernels.jittor_import", settings]
            with subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, env=environment
            ) as child:
                output = _follow(child, sink.write, progress)
            ready = [line for line in output.splitlines() if line.startswith(READY)]
            if ready:
                return list(json.loads(ready[-1][len(READY) :]))
            if child.returncode:
                break
    lines = [line for line in output.splitlines() if line.strip()]
    reason = re.sub(r"\x1b\[[0-9;]*m", "", lines[-1]).strip() if lines else f"exit code {child.returncode}"
    raise RuntimeUnavailable(f"Jittor could not be compiled: {reason[:200]} (full log: {log})")


def _follow(child: subprocess.Popen[bytes], write: Callable[[bytes], object], progress: _Progress) -> str:
    """Read a child's output to its end and show progress; returns the last part of the output."""
    assert child.stdout is not None
    tail, started = b"", time.monotonic()
    while True:
        readable, _, _ = select.select([child.stdout], [], [], 1.0)
        if readable:
            chunk = os.read(child.stdout.fileno(), 1 << 16)
            if not chunk:
                return tail.decode(errors="replace")
            write(chunk)
            tail = (tail + chunk)[-(1 << 16) :]
        steps = _STEP.findall(tail[-400:].decode(errors="replace"))
        if steps or time.monotonic() - started > _PATIENCE:
            progress.show(*(steps[-1] if steps else ("", "", "")))


class _Progress:
    """A progress line on stderr; on a terminal it counts the compiled files."""

    def __init__(self, title: str) -> None:
        self._title, self._started, self._shown = title, time.monotonic(), False

    def show(self, part: str, number: str, total: str) -> None:
        counted = sys.stderr.isatty() and part
        if not self._shown:
            print(self._title, file=sys.stderr, flush=True)
        if counted:
            print(f"\r\x1b[K  {part} {number}/{total}", end="", file=sys.stderr, flush=True)
        self._shown = True

    def done(self) -> None:
        if self._shown:
            clear = "\r\x1b[K" if sys.stderr.isatty() else ""
            print(f"{clear}Jittor: ready after {time.monotonic() - self._started:.0f} s", file=sys.stderr, flush=True)
