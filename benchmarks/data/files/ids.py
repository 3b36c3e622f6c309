"""Ids of the records of an annotation file."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from ovd_bench.metrics.errors import DataError


def sorted_unique(section: str, ids: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    """Record numbers in the order of their ids.

    Raises:
        DataError: an id occurs twice, or the section is empty, which only annotations may be.
    """
    if len(ids) == 0 and section != "annotations":
        raise DataError(f"section '{section}' is empty")
    order = np.argsort(ids, kind="stable")
    repeats = order[1:][np.diff(ids[order]) == 0]
    if len(repeats):
        record = int(repeats.min())
        first = int(np.argmax(ids == ids[record]))
        raise DataError(f"{section} record {record}: id {int(ids[record])} is that of record {first} too")
    return order
