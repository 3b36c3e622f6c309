"""What tests run in processes of their own: another process can import it by name."""

from __future__ import annotations

import os

from ovd_bench.benchmarks.data.odvg.index import OdvgFile


def one_name(file: OdvgFile, number: int) -> tuple[int, str]:
    """The process, and the file name of a record."""
    return os.getpid(), file[number].filename
