"""Errors of detectors and libraries as one line."""

from __future__ import annotations

import traceback
from pathlib import Path

from ovd_bench.detectors.types import DetectorError
from ovd_bench.metrics.errors import DataError


def one_line(error: BaseException) -> str:
    """One line: the message of an error of the suite, or type, message and location of any other error."""
    words = " ".join(str(error).split())[:500]
    if isinstance(error, DataError | DetectorError | OSError) and words:
        return words
    frames = traceback.extract_tb(error.__traceback__)
    place = f" ({Path(frames[-1].filename).name}:{frames[-1].lineno})" if frames else ""
    return f"{type(error).__name__}: {words}{place}"
