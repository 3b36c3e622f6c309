"""A thread that reads images ahead, so that decoding and detection overlap."""

from __future__ import annotations

import queue
import threading
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

from ovd_bench.benchmarks.data.images import ImageError, image_file, read_image
from ovd_bench.benchmarks.data.pixel_hashes import UNREADABLE, image_sha256
from ovd_bench.detectors.types import Image
from ovd_bench.metrics.errors import DataError


@dataclass(frozen=True)
class Wanted:
    """An image to read.

    Attributes:
        shard: its shard.
        image_id: of the data set.
        file: name in the annotations.
        size: annotated width and height; None = not known.
    """

    shard: int
    image_id: int
    file: str
    size: tuple[int, int] | None


@dataclass(frozen=True)
class Read:
    """An image, or the reason why it could not be read.

    Attributes:
        wanted: the requested image.
        image: None = it could not be read.
        reason: why not.
        sha256: of its decoded pixels, before a detector could change them.
    """

    wanted: Wanted
    image: Image | None
    reason: str = ""
    sha256: str = UNREADABLE


class Reader:
    """Reads images in order, at most ``ahead`` in advance. Use it as a context manager, which ends the thread."""

    def __init__(self, root: Path, wanted: Iterable[Wanted], ahead: int) -> None:
        self._root = root
        self._wanted = wanted
        self._queue: queue.Queue[Read | BaseException | None] = queue.Queue(ahead)
        self._skipped: set[int] = set()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._work, name="reader", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._stop.set()
        self._thread.join()

    def __iter__(self) -> Iterator[Read]:
        while (item := self._queue.get()) is not None:
            if isinstance(item, BaseException):
                raise item
            if item.wanted.shard not in self._skipped:
                yield item

    def skip(self, shard: int) -> None:
        """Skip the remaining images of a shard."""
        self._skipped.add(shard)

    def _work(self) -> None:
        try:
            for wanted in self._wanted:
                if wanted.shard not in self._skipped and not self._put(self._read(wanted)):
                    return
            self._put(None)
        except BaseException as error:  # noqa: BLE001 - raised again where the images are taken
            self._put(error)

    def _read(self, wanted: Wanted) -> Read:
        try:
            image = read_image(wanted.image_id, image_file(self._root, wanted.file), wanted.size)
            return Read(wanted, image, sha256=image_sha256(image.pixels))
        except ImageError as error:
            return Read(wanted, None, error.reason)
        except DataError as error:  # the name points out of the folder
            return Read(wanted, None, str(error))

    def _put(self, item: Read | BaseException | None) -> bool:
        """Wait for room; False if the reader was closed."""
        while not self._stop.is_set():
            try:
                self._queue.put(item, timeout=0.1)
            except queue.Full:
                continue
            return True
        return False
