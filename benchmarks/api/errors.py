"""Errors of the front door: always one line, always of the suite's two kinds."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from ovd_bench.benchmarks.data.errors import one_line
from ovd_bench.detectors.types import DetectorError
from ovd_bench.metrics.errors import DataError


class RunError(DataError, DetectorError):
    """A run that did not come to its end. The same call makes what is missing.

    The worker process tells its reason as one line, not whether data or detector are to blame. So this is both.
    """


@contextmanager
def file_errors() -> Iterator[None]:
    """Turn errors of the operating system into ``DataError``. Also a decorator."""
    try:
        yield
    except OSError as error:
        raise DataError(one_line(error)) from error


def check_number(name: str, value: int, least: int, most: int) -> None:
    """Refuse a number out of range.

    Raises:
        DataError: naming the parameter.
    """
    if not least <= value <= most:
        raise DataError(f"{name} is {value}: expected {least:,} to {most:,}")


def check_scoring(bootstrap: int, seed: int, threads: int, *, least: int = 0) -> None:
    """Refuse numbers of resamples, seeds and threads that the command line refuses.

    Args:
        bootstrap: resamples.
        seed: of the bootstrap.
        threads: of the scoring.
        least: number of resamples that is needed.

    Raises:
        DataError: naming the parameter.
    """
    check_number("bootstrap", bootstrap, least, 100_000)
    check_number("seed", seed, 0, 2**63 - 1)
    check_number("threads", threads, 0, 256)
