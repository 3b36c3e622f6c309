"""The worker's end of the pipe to its parent."""

from __future__ import annotations

import time
from typing import TextIO

from ovd_bench.benchmarks.runner.events import Event, Images

_SECONDS = 0.2


class Channel:
    """Sends events; counts of images are gathered for a moment."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self._images = 0
        self._told = time.monotonic()

    def tell(self, event: Event) -> None:
        """Send an event, after the images that came before it."""
        images, self._images = self._images, 0
        for one in ([Images(count=images)] if images else []) + [event]:
            self._stream.write(one.model_dump_json() + "\n")
        self._stream.flush()
        self._told = time.monotonic()

    def images(self, count: int) -> None:
        """Count images."""
        self._images += count
        if time.monotonic() - self._told > _SECONDS:
            count, self._images = self._images, 0
            self.tell(Images(count=count))
