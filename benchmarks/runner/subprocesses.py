"""A Python module in a process of its own, which talks in lines on stdout."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import IO

_GRACE_SECONDS = 5.0


@dataclass(frozen=True)
class Child:
    """A running child."""

    process: subprocess.Popen[bytes]
    noise: IO[bytes]
    verbose: bool

    def lines(self) -> Iterator[bytes]:
        """What it says, as it comes, until it ends."""
        assert self.process.stdout is not None
        yield from self.process.stdout

    def death(self) -> str:
        """How it ended, for one that should not have ended: exit code or signal, and the last line on stderr."""
        code = self.process.wait()
        return _death(code, "" if self.verbose else _last_line(self.noise))


@contextmanager
def running_child(module: str, *arguments: str, verbose: bool) -> Iterator[Child]:
    """Start ``python -m module arguments``; it is ended with the block at the latest.

    Args:
        module: of the suite.
        arguments: of its command line; the id of this process is added as ``--parent``.
        verbose: show what it prints on stderr.
    """
    with tempfile.TemporaryFile() as noise:
        # -P: the folder that people stand in is no place to import from
        process = subprocess.Popen(
            [sys.executable, "-P", "-m", module, *arguments, "--parent", str(os.getpid())],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=None if verbose else noise,
            start_new_session=True,  # Ctrl-C is for the parent, which ends the worker
        )
        try:
            yield Child(process, noise, verbose)
        finally:
            _end(process)


def _end(process: subprocess.Popen[bytes]) -> None:
    """End the worker if it is still there; what it has in work is lost, nothing else."""
    if process.poll() is None:
        process.terminate()
        try:
            process.wait(_GRACE_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
    if process.stdout is not None:
        process.stdout.close()


def _death(code: int, last_words: str) -> str:
    """How a process ended that should not have ended."""
    if code >= 0:
        how = f"ended with exit code {code}"
    else:
        how = f"was killed by signal {-code} ({signal.Signals(-code).name})"
    hint = ", as the system does when memory runs out" if code == -signal.SIGKILL else ""
    return f"the worker process {how}{hint}" + (f": {last_words}" if last_words else "")


def _last_line(noise: IO[bytes]) -> str:
    """The last line a worker printed on stderr."""
    size = noise.seek(0, os.SEEK_END)
    noise.seek(max(0, size - 4096))
    lines = noise.read().decode(errors="replace").split("\n")
    return next((" ".join(line.split())[:300] for line in reversed(lines) if line.strip()), "")
