"""``map`` over a pool of processes."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from typing import Protocol, TypeVar

from ovd_bench.benchmarks.data.processes import FreshContext

T = TypeVar("T")
R = TypeVar("R")


class OrderedMap(Protocol):
    """The built-in ``map`` of one iterable."""

    def __call__(self, work: Callable[[T], R], items: Iterable[T], /) -> Iterator[R]:
        """Results in the order of the items."""


@contextmanager
def ordered_map(workers: int) -> Iterator[OrderedMap]:
    """``map`` in this process or over a pool; results come in order, an error cancels tasks that have not started.

    Args:
        workers: number of processes; up to 1 = this process.
    """
    if workers <= 1:
        yield map
        return
    with ProcessPoolExecutor(workers, mp_context=FreshContext()) as pool:
        try:
            yield pool.map
        finally:
            pool.shutdown(cancel_futures=True)
