"""The index of an ODVG file on disk: a header, then the columns, which are mapped into memory, not read.

It is in the user's cache folder under the sha256 of the ODVG file's path, since folders of data are often read-only.
"""

from __future__ import annotations

import hashlib
import logging
import os
import struct
import zlib
from dataclasses import fields
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from platformdirs import user_cache_path

from ovd_bench.benchmarks.data.files.atomic import atomic_write
from ovd_bench.benchmarks.data.odvg.scanning import IndexColumns
from ovd_bench.metrics.errors import DataError

#: Part of the file name; raise it when the layout or the set of valid records changes, so that old files are not used.
FORMAT_VERSION = 1

_MAGIC = b"OVD-ODVG"
#: Magic, size and time of the ODVG file, its sha256, records, labels, CRC-32 of header (without itself) and columns.
_HEADER = struct.Struct("<8sQq32sQQI")
_ALIGNMENT = 64
#: Type and numbers per record (0 = per label) of every column.
_COLUMNS = {
    "begin": (np.int64, 1),
    "length": (np.int32, 1),
    "line": (np.int64, 1),
    "size": (np.int32, 2),
    "grounding": (np.bool_, 1),
    "boxes": (np.int32, 1),
    "label_end": (np.int64, 1),
    "labels": (np.int32, 0),
}
assert list(_COLUMNS) == [field.name for field in fields(IndexColumns)]


def index_path(path: Path) -> Path:
    """Path of the index of an ODVG file, given by its absolute path."""
    name = hashlib.sha256(os.fsencode(path)).hexdigest()[:32]
    return user_cache_path("ovd-bench") / "odvg" / f"{name}-v{FORMAT_VERSION}.index"


def store_index(target: Path, status: os.stat_result, sha256: str, columns: IndexColumns) -> None:
    """Write an index.

    Args:
        target: its path.
        status: file status of the ODVG file.
        sha256: hash of the ODVG file.
        columns: its content.

    Raises:
        DataError: the folder cannot be written to; an ODVG file cannot be used without an index.
    """
    head = _HEADER.pack(*_identity(status, sha256, len(columns.begin), len(columns.labels)), 0)
    parts: list[Any] = []
    for name in _COLUMNS:
        data = np.ascontiguousarray(getattr(columns, name)).reshape(-1).view(np.uint8)
        parts += [data.data, bytes(-len(data) % _ALIGNMENT)]
    check = zlib.crc32(head)
    for part in parts:
        check = zlib.crc32(part, check)
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with atomic_write(target) as file:
            file.write(head[:-4] + struct.pack("<I", check))
            file.write(bytes(-_HEADER.size % _ALIGNMENT))
            for part in parts:
                file.write(part)
    except OSError as error:
        raise unwritable(target, error) from error


def load_index(source: Path, status: os.stat_result) -> tuple[IndexColumns, str] | None:
    """Columns and sha256 of an ODVG file with that status; None if there is no matching index."""
    try:
        data = np.memmap(source, np.uint8, "r")
    except FileNotFoundError:
        return None
    except (OSError, ValueError) as error:  # an empty file cannot be mapped
        return _damaged(source, str(error))
    if len(data) < _HEADER.size or bytes(data[: len(_MAGIC)]) != _MAGIC:
        return _damaged(source, "it is not an index")
    _, size, mtime_ns, digest, records, labels, check = _HEADER.unpack(bytes(data[: _HEADER.size]))
    if (size, mtime_ns) != (status.st_size, status.st_mtime_ns):
        return None
    counts = {name: (records * width if width else labels) for name, (_, width) in _COLUMNS.items()}
    begins, end = {}, _aligned(_HEADER.size)
    for name, (dtype, _) in _COLUMNS.items():
        begins[name] = end
        end = _aligned(end + counts[name] * np.dtype(dtype).itemsize)
    if end != len(data):
        return _damaged(source, "it is cut off")
    head = bytes(data[: _HEADER.size - 4]) + bytes(4)
    if zlib.crc32(data[_aligned(_HEADER.size) :].data, zlib.crc32(head)) != check:
        return _damaged(source, "its checksum is wrong")
    columns: dict[str, npt.NDArray[Any]] = {}
    for name, (dtype, width) in _COLUMNS.items():
        stop = begins[name] + counts[name] * np.dtype(dtype).itemsize
        column = data[begins[name] : stop].view(np.ndarray).view(dtype)
        columns[name] = column.reshape(-1, 2) if width == 2 else column
    return IndexColumns(**columns), digest.hex()


def unwritable(target: Path, error: OSError) -> DataError:
    """The error for a cache folder that cannot be written to."""
    return DataError(
        f"{target}: the index of a data file cannot be written: {error.strerror}; XDG_CACHE_HOME names another folder"
    )


def _identity(status: os.stat_result, sha256: str, records: int, labels: int) -> tuple[Any, ...]:
    return _MAGIC, status.st_size, status.st_mtime_ns, bytes.fromhex(sha256), records, labels


def _aligned(position: int) -> int:
    return position + -position % _ALIGNMENT


def _damaged(source: Path, reason: str) -> tuple[IndexColumns, str] | None:
    logging.getLogger(__name__).warning("%s: damaged, rebuilt: %s", source, reason)
    return None
