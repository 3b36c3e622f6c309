"""Several processes that train one network. No framework."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

Arrays = Callable[[npt.NDArray[Any]], npt.NDArray[Any]]


def _alone(array: npt.NDArray[Any]) -> npt.NDArray[Any]:
    return np.array(array)


@dataclass(frozen=True)
class Processes:
    """The processes that train together; each has an equal part of every batch.

    Attributes:
        count, rank: number of processes, and rank of this one; 0 leads.
        add, most: sums and maxima of arrays over all processes, the same in each.
    """

    count: int = 1
    rank: int = 0
    add: Arrays = _alone
    most: Arrays = _alone
