"""Locks: no two processes make the same shard and no two commands the same run at the same time."""

from __future__ import annotations

import json
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

from filelock import FileLock, Timeout

from ovd_bench.benchmarks.data.files.atomic import atomic_write
from ovd_bench.benchmarks.store.folders import PREDICTIONS
from ovd_bench.metrics.errors import DataError

#: Folder of the lock files, inside the folder of the predictions.
LOCKS = ".locks"

#: Seconds to wait for a run; the processes of a command that was just killed may need a moment to end.
_RUN_PATIENCE = 3.0


@contextmanager
def held(path: Path, what: str, *, patience: float) -> Iterator[None]:
    """Hold a lock file. The system releases it when the process ends for any reason.

    Args:
        path: the lock file; it stays, empty. A file beside it names the holder.
        what: name of the locked thing, for the message.
        patience: seconds to wait, since a process that was just killed may need a moment to end.

    Raises:
        DataError: another process holds it; says which.
    """
    path.parent.mkdir(exist_ok=True)
    lock = FileLock(path)
    try:
        lock.acquire(timeout=patience)
    except Timeout:
        raise DataError(f"{what} is in use by {_holder(path)}: wait for it, or end that process") from None
    try:
        remove_leftovers(_holder_path(path))
        holder = {"pid": os.getpid(), "host": socket.gethostname(), "since": datetime.now(UTC).isoformat()[:19]}
        with atomic_write(_holder_path(path)) as file:
            file.write(json.dumps(holder).encode())
        yield
    finally:
        _holder_path(path).unlink(missing_ok=True)
        lock.release()


@contextmanager
def run_held(folder: Path) -> Iterator[None]:
    """Hold a whole run while one command predicts it, and while its result is written.

    Raises:
        DataError: another process holds it.
    """
    with held(folder / PREDICTIONS / LOCKS / "run", f"{folder}: the run", patience=_RUN_PATIENCE):
        yield


def remove_leftovers(path: Path) -> None:
    """Remove temporary files that ``atomic_write`` left when its process was killed. The caller must hold the lock."""
    for leftover in path.parent.glob(f".{path.name}.*.tmp"):
        leftover.unlink(missing_ok=True)


def _holder_path(path: Path) -> Path:
    return path.with_name(f"{path.name}.holder")


def _holder(path: Path) -> str:
    try:
        holder = json.loads(_holder_path(path).read_text(encoding="utf-8"))
        return f"process {holder['pid']} on {holder['host']} since {holder['since']} UTC"
    except (OSError, ValueError, LookupError, TypeError):  # the holder has not written it yet or has removed it already
        return "another process"
