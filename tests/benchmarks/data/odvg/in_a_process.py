"""Functions that tests run in separate processes, which import them by name."""

from __future__ import annotations

import os

from ovd_bench.benchmarks.data.odvg.index import OdvgFile


def one_name(file: OdvgFile, number: int) -> tuple[int, str]:
    """The process, and the file name of a record."""
    return os.getpid(), file[number].filename
