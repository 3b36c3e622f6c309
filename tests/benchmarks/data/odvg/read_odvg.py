"""The plain reader of ODVG files, line by line: what ``OdvgFile`` must agree with."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from ovd_bench.benchmarks.data.odvg.records import OdvgRecord, parse_record
from ovd_bench.metrics.errors import DataError


def read_odvg(path: Path) -> Iterator[OdvgRecord]:
    """Records of a file, one at a time; empty lines are skipped.

    Raises:
        DataError: an invalid line; one line with file, line number and field.
    """
    for number, line in enumerate(path.read_bytes().split(b"\n"), 1):
        if line.strip():
            try:
                yield parse_record(line)
            except DataError as error:
                raise DataError(f"{path}: line {number}: {error}") from None
