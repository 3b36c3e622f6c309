"""Basic file operations: kind of content, sha256, atomic writing."""

from __future__ import annotations

import hashlib
import os
import secrets
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path
from typing import BinaryIO

from ovd_bench.benchmarks.data.output_paths import check_name
from ovd_bench.metrics.errors import DataError

#: Expected kind of content by file suffix.
SUFFIXES = {
    ".json": "JSON",
    ".arrow": "Arrow IPC",
    ".feather": "Arrow IPC",
    ".ipc": "Arrow IPC",
    ".parquet": "Parquet",
    ".pq": "Parquet",
}

_MAGIC = (
    (b"ARROW1", "Arrow IPC"),
    (b"PAR1", "Parquet"),
    (b"\xff\xff\xff\xff", "an Arrow IPC stream (write it in the file format instead)"),
    (b"\x1f\x8b", "gzip-compressed (unpack it first)"),
    (b"\x28\xb5\x2f\xfd", "zstd-compressed (unpack it first)"),
    (b"PK\x03\x04", "a zip archive (unpack it first)"),
    (b"\xef\xbb\xbf", "text with a byte order mark (save it as UTF-8 without one)"),
)


def content_kind(path: Path) -> str:
    """Kind of content of a file: ``JSON``, ``Arrow IPC`` or ``Parquet``.

    Raises:
        DataError: no such file, not a regular one, empty, of another kind, or not of the kind of its suffix.
    """
    try:
        mode = path.stat().st_mode
        if stat.S_ISDIR(mode):
            raise DataError(f"{path}: is a directory, a file is needed")
        if not stat.S_ISREG(mode):
            raise DataError(f"{path}: is not a regular file")
        with path.open("rb") as file:
            head = file.read(4096)
    except FileNotFoundError:
        raise DataError(f"{path}: no such file") from None
    except OSError as error:
        raise DataError(f"{path}: cannot be read: {error.strerror}") from error
    if not head:
        raise DataError(f"{path}: the file is empty")
    kind = next((name for magic, name in _MAGIC if head.startswith(magic)), None)
    if kind is None and (not head.strip(b" \t\r\n") or head.lstrip(b" \t\r\n")[:1] in b"[{"):
        kind = "JSON"
    promised = SUFFIXES.get(path.suffix.lower())
    if promised and kind != promised:
        raise DataError(f"{path}: the name says {promised}, but the content is {kind or 'not'}")
    if kind is None or kind not in SUFFIXES.values():
        raise DataError(f"{path}: the content is {kind or 'neither JSON nor Arrow IPC nor Parquet'}")
    return kind


def file_sha256(path: Path) -> str:
    """Hexadecimal sha256 of a file's content; cached as long as size and modification time are the same."""
    status = path.stat()
    return _sha256(path, status.st_ino, status.st_size, status.st_mtime_ns)


@lru_cache(maxsize=64)
def _sha256(path: Path, inode: int, size: int, mtime_ns: int) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


@contextmanager
def atomic_write(path: Path) -> Iterator[BinaryIO]:
    """A binary file that gets its name only when the block ends without an exception.

    Raises:
        DataError: the folder of the file does not exist, or the path is not that of a file.
    """
    check_name(path)
    temporary = path.with_name(f".{path.name}.{os.getpid()}-{secrets.token_hex(4)}.tmp")
    try:
        with temporary.open("xb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())  # else a crash of the machine could leave the name with an empty file
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)
