"""One pass over an ODVG file that checks every line and collects the columns of the index."""

from __future__ import annotations

import hashlib
import os
from array import array
from collections.abc import Callable
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass, fields
from functools import partial
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import numpy.typing as npt

from ovd_bench.benchmarks.data.odvg.records import MAX_LINE_BYTES, OdvgRecord, parse_record
from ovd_bench.benchmarks.data.odvg.spans import with_spans
from ovd_bench.benchmarks.data.process_pool import ordered_map
from ovd_bench.metrics.errors import DataError

#: Bytes that a process reads at a time.
BLOCK_BYTES = 16 << 20
#: Files with fewer blocks are read by this process, because starting others takes half a second.
_MIN_BLOCKS = 4


@dataclass(frozen=True)
class IndexColumns:
    """Columns of N records in the order of the file, with M labels in total.

    Attributes:
        begin: int64 (N,), byte at which the line begins.
        length: int32 (N,), bytes of the line.
        line: int64 (N,), its number from 1; blank lines count.
        size: int32 (N, 2), width and height of the image in pixels.
        grounding: bool (N,), a caption and phrases; otherwise a detection record.
        boxes: int32 (N,), number of boxes.
        label_end: int64 (N,), where the record's part of ``labels`` ends.
        labels: int32 (M,), labels present in each detection record, each once and increasing.
    """

    begin: npt.NDArray[np.int64]
    length: npt.NDArray[np.int32]
    line: npt.NDArray[np.int64]
    size: npt.NDArray[np.int32]
    grounding: npt.NDArray[np.bool_]
    boxes: npt.NDArray[np.int32]
    label_end: npt.NDArray[np.int64]
    labels: npt.NDArray[np.int32]


@dataclass(frozen=True)
class _Block:
    """Columns of the lines that begin in a block; ``line`` and ``label_end`` count from the block's beginning.

    Attributes:
        columns: columns of its records.
        lines: how many lines begin in it.
        problem: line, from 1, and message of the first invalid line.
    """

    columns: IndexColumns
    lines: int
    problem: tuple[int, str] | None


def scan(path: Path, processes: int = 0, progress: Callable[[int], None] | None = None) -> tuple[IndexColumns, str]:
    """Check all lines of a file and return their columns and the sha256 of the file.

    Args:
        path: the file.
        processes: 0 = as many as there are processors, and this one alone for a small file.
        progress: called with numbers of bytes done.

    Raises:
        DataError: the file is unreadable or has no record; a line is not a record, or its phrases are not in its
            caption. One line with the number of the first bad line.
    """
    try:
        size = path.stat().st_size
        blocks = [(begin, min(begin + BLOCK_BYTES, size)) for begin in range(0, size, BLOCK_BYTES)]
        digest, done, lines, labels = hashlib.sha256(), list[IndexColumns](), 0, 0
        with path.open("rb") as file, ordered_map(_workers(processes, len(blocks))) as mapped:
            for (begin, end), block in zip(blocks, mapped(partial(_scan_block, path), blocks), strict=True):
                if block.problem is not None:
                    raise DataError(f"{path}: line {lines + block.problem[0]}: {block.problem[1]}")
                np.add(block.columns.line, lines, out=block.columns.line)
                np.add(block.columns.label_end, labels, out=block.columns.label_end)
                done.append(block.columns)
                lines += block.lines
                labels += len(block.columns.labels)
                digest.update(file.read(end - begin))  # here, while the block is in the page cache
                if progress is not None:
                    progress(end - begin)
    except OSError as error:
        raise DataError(f"{path}: cannot be read: {error.strerror}") from error
    except BrokenProcessPool as error:
        raise DataError(f"{path}: a process that read it was killed, possibly for lack of memory") from error
    if not sum(len(columns.begin) for columns in done):
        raise DataError(f"{path}: holds no record")
    names = [field.name for field in fields(IndexColumns)]
    return IndexColumns(*(np.concatenate([getattr(c, name) for c in done]) for name in names)), digest.hexdigest()


def _workers(processes: int, blocks: int) -> int:
    wanted = processes or (len(os.sched_getaffinity(0)) if blocks >= _MIN_BLOCKS else 1)
    return min(wanted, blocks)


def _scan_block(path: Path, block: tuple[int, int]) -> _Block:
    begin, end = block
    rows = _Rows()
    number, position, problem = 0, begin, None
    with path.open("rb") as file:
        if begin:
            file.seek(begin - 1)
            position = begin - 1 + _skip_line(file, end - begin + 1)
        while position < end and (line := file.readline(MAX_LINE_BYTES + 1)):
            number += 1
            try:
                if len(line) > MAX_LINE_BYTES:
                    raise DataError(f"is longer than {MAX_LINE_BYTES} bytes, that is not an ODVG record")
                if line.strip():
                    rows.add(position, len(line), number, with_spans(parse_record(line)))
            except DataError as error:
                problem = number, str(error)
                break
            position += len(line)
    return _Block(rows.columns(), number, problem)


def _skip_line(file: BinaryIO, limit: int) -> int:
    """Skip the rest of a line, up to a limit of bytes; returns the number of skipped bytes."""
    passed = 0
    while passed < limit:
        part = file.readline(limit - passed)
        passed += len(part)
        if not part or part.endswith(b"\n"):
            break
    return passed


class _Rows:
    """Growing columns; arrays store numbers without an object for each."""

    def __init__(self) -> None:
        self._begin, self._line, self._label_end = array("q"), array("q"), array("q")
        self._length, self._size, self._boxes, self._labels = array("i"), array("i"), array("i"), array("i")
        self._grounding = array("b")

    def add(self, begin: int, length: int, line: int, record: OdvgRecord) -> None:
        if record.detection is not None:
            labels = sorted({instance.label for instance in record.detection.instances})
            self._labels.extend(labels)
            boxes = len(record.detection.instances)
        else:
            boxes = sum(len(region.bbox) for region in record.grounding.regions) if record.grounding else 0
        self._begin.append(begin)
        self._length.append(length)
        self._line.append(line)
        self._size.extend((record.width, record.height))
        self._grounding.append(record.grounding is not None)
        self._boxes.append(boxes)
        self._label_end.append(len(self._labels))

    def columns(self) -> IndexColumns:
        def column(values: array[int], dtype: type[Any]) -> npt.NDArray[Any]:
            return np.frombuffer(values, dtype).copy() if values else np.empty(0, dtype)

        return IndexColumns(
            begin=column(self._begin, np.int64),
            length=column(self._length, np.int32),
            line=column(self._line, np.int64),
            size=column(self._size, np.int32).reshape(-1, 2),
            grounding=column(self._grounding, np.bool_),
            boxes=column(self._boxes, np.int32),
            label_end=column(self._label_end, np.int64),
            labels=column(self._labels, np.int32),
        )
