"""Lines for the user from the loader of a detector, such as on a download. On stderr, unless somebody listens."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager

_listeners: list[Callable[[str], None]] = []


def tell(line: str) -> None:
    """Say a line to the user."""
    if _listeners:
        _listeners[-1](line)
    else:
        print(line, file=sys.stderr, flush=True)


@contextmanager
def listening(listener: Callable[[str], None]) -> Iterator[None]:
    """Lines of the block go to ``listener``, from all threads."""
    _listeners.append(listener)
    try:
        yield
    finally:
        _listeners.remove(listener)
