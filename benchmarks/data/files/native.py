"""Loads the native JSON readers and wraps their columns as numpy arrays without copying."""

from __future__ import annotations

import ctypes
import os
from collections.abc import Callable, Iterable
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from ovd_bench.metrics.errors import DataError
from ovd_bench.metrics.native import load

#: Bytes that a worker parses at a time; they fit into the L2 cache.
BLOCK_BYTES = 1 << 20

_SOURCES = tuple(Path(__file__).parent / name for name in ("results.cc", "annotations.cc"))


class _Mapping(ctypes.Structure):
    _fields_ = (("data", ctypes.c_void_p), ("bytes", ctypes.c_int64))


class _Report(ctypes.Structure):
    _fields_ = (("rows", ctypes.c_int64), ("single", ctypes.c_int32), ("problem", ctypes.c_char * 500))


class _Owner:
    """Owner of one memory mapping; the arrays over it keep a reference to it."""

    def __init__(self, mapping: _Mapping) -> None:
        self._data, self._bytes = mapping.data, mapping.bytes
        self.__array_interface__ = {
            "version": 3,
            "data": (self._data, False),
            "shape": (self._bytes,),
            "typestr": "|u1",
        }

    def __del__(self) -> None:
        library().release_column(self._data, self._bytes)


class Columns:
    """Columns of one read, taken in the order in which the native reader wrote them.

    Attributes:
        rows: records read.
        single: the float columns are float32, because every number of the file is exactly a float32.
    """

    def __init__(self, mappings: Iterable[_Mapping], report: _Report) -> None:
        self.rows: int = report.rows
        self.single = bool(report.single)
        # every mapping gets its owner at once, so none leaks if a reader stops half-way
        self._columns = iter([np.asarray(_Owner(m)) if m.bytes else np.empty(0, np.uint8) for m in mappings])

    def take(self, dtype: npt.DTypeLike) -> npt.NDArray[Any]:
        """The next column."""
        return next(self._columns).view(dtype)


def read_columns(function: str, columns: int, path: Path, threads: int, block_bytes: int) -> Columns:
    """Call the native reader ``function`` on a file.

    Args:
        function: ``read_results`` or ``read_annotations``.
        columns: how many columns it writes.
        path: a regular file.
        threads: 0 = all processors this process may use.
        block_bytes: bytes a worker parses at a time.

    Raises:
        DataError: the file is invalid; one line with file, record and field.
    """
    mappings = (_Mapping * columns)()
    report = _Report()
    with path.open("rb") as file:
        size = os.fstat(file.fileno()).st_size
        workers = threads or len(os.sched_getaffinity(0))
        call: Callable[..., None] = getattr(library(), function)
        call(file.fileno(), size, workers, block_bytes, mappings, ctypes.byref(report))
    if report.problem:
        raise DataError(f"{path}: {report.problem.decode(errors='replace')}")
    return Columns(mappings, report)


@cache
def library() -> ctypes.CDLL:
    """The native readers, built on first use."""
    loaded = load("json_columns", _SOURCES)
    for reader in (loaded.read_results, loaded.read_annotations):
        reader.argtypes = (
            ctypes.c_int,
            ctypes.c_int64,
            ctypes.c_int32,
            ctypes.c_int64,
            ctypes.c_void_p,
            ctypes.c_void_p,
        )
        reader.restype = None
    loaded.release_column.argtypes = (ctypes.c_void_p, ctypes.c_int64)
    loaded.release_column.restype = None
    return loaded
