"""An ODVG file of any length, with one record in memory at a time."""

from __future__ import annotations

import operator
import os
import stat
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from filelock import FileLock

from ovd_bench.benchmarks.data.odvg.index_file import index_path, load_index, store_index, unwritable
from ovd_bench.benchmarks.data.odvg.records import OdvgRecord, parse_record
from ovd_bench.benchmarks.data.odvg.scanning import IndexColumns, scan
from ovd_bench.metrics.errors import DataError
from ovd_bench.metrics.types import Ragged


class OdvgFile:
    """Records of an ODVG file by number, and columns of all records for samplers.

    The columns are mapped from the index, so processes share them; a copy sent to another process opens the file again.

    Attributes:
        path: the file, absolute.
        sha256: hash of the file.
        sizes: int32 (N, 2), width and height of the images in pixels.
        is_grounding: bool (N,), a caption and phrases; otherwise a detection record.
        boxes: int32 (N,), number of boxes.
        labels: the labels present in each record, each once and increasing; none in grounding records.
    """

    def __init__(self, path: Path, sha256: str, columns: IndexColumns) -> None:
        """Use :meth:`open`."""
        self.path = path
        self.sha256 = sha256
        self.sizes: npt.NDArray[np.int32] = columns.size
        self.is_grounding: npt.NDArray[np.bool_] = columns.grounding
        self.boxes: npt.NDArray[np.int32] = columns.boxes
        self.labels = Ragged(np.concatenate([np.zeros(1, np.int64), columns.label_end]), columns.labels)
        self._begin, self._length, self._line = columns.begin, columns.length, columns.line
        self._file = path.open("rb", buffering=0)

    @staticmethod
    def open(path: Path, *, processes: int = 0, progress: Callable[[int], None] | None = None) -> OdvgFile:
        """Open a file; the first time and after a change all lines are checked and an index is written.

        Args:
            path: the file.
            processes: that check it; 0 = as many as there are processors.
            progress: called with numbers of bytes checked.

        Raises:
            DataError: the file is unreadable, changed meanwhile or has no record; a line is not a record, or its
                phrases are not in its caption; or the index cannot be written. One line with the number of the first
                bad line.
        """
        path = path.resolve()
        target, status = index_path(path), _status(path)
        found = load_index(target, status)
        if found is None:
            with _locked(target):  # processes of one training open it at the same time
                found = load_index(target, status)
                if found is None:
                    columns, sha256 = scan(path, processes, progress)
                    _check_unchanged(path, status)
                    store_index(target, status, sha256, columns)
                    found = columns, sha256
        opened = OdvgFile(path, found[1], found[0])
        _check_unchanged(path, status)
        return opened

    def __len__(self) -> int:
        return len(self._begin)

    def __getitem__(self, index: int) -> OdvgRecord:
        """Record ``index`` as it is in the file: see ``benchmarks.data.odvg.spans.with_spans``.

        Raises:
            IndexError: there is no such record.
            DataError: the line is no longer a record.
        """
        number = operator.index(index)
        if not 0 <= number < len(self):
            raise IndexError(f"record {number} of {len(self)}")
        length = int(self._length[number])
        try:
            line = os.pread(self._file.fileno(), length, int(self._begin[number]))  # usable by threads
            if len(line) != length:
                raise DataError("the file has become shorter")
            return parse_record(line)
        except OSError as error:
            raise DataError(f"{self.path}: cannot be read: {error.strerror}") from error
        except DataError as error:
            raise DataError(f"{self.path}: line {int(self._line[number])}: {error}") from None

    def __iter__(self) -> Iterator[OdvgRecord]:
        return (self[number] for number in range(len(self)))

    def __reduce__(self) -> tuple[Any, ...]:
        return OdvgFile.open, (self.path,)


def _status(path: Path) -> os.stat_result:
    try:
        status = path.stat()
    except OSError as error:
        raise DataError(f"{path}: cannot be read: {error.strerror}") from error
    if not stat.S_ISREG(status.st_mode):
        raise DataError(f"{path}: is not a regular file")
    return status


def _check_unchanged(path: Path, before: os.stat_result) -> None:
    now = _status(path)
    if (now.st_size, now.st_mtime_ns) != (before.st_size, before.st_mtime_ns):
        raise DataError(f"{path}: was changed while it was read")


@contextmanager
def _locked(target: Path) -> Iterator[None]:
    lock = FileLock(target.with_suffix(".lock"))
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        lock.acquire()
    except OSError as error:
        raise unwritable(target, error) from error
    try:
        yield
    finally:
        lock.release()
