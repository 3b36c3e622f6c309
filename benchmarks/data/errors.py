"""Errors of detectors and libraries as one line."""

from __future__ import annotations

from ovd_bench.detectors.third_party import described
from ovd_bench.detectors.types import DetectorError
from ovd_bench.metrics.errors import DataError


def one_line(error: BaseException) -> str:
    """One line: the message of an error of the suite, or type, message and location of any other error."""
    words = " ".join(str(error).split())[:500]
    if isinstance(error, DataError | DetectorError | OSError) and words:
        return words
    return described(error)
