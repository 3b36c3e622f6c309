"""Events that a worker process sends to its parent as JSON lines on a pipe; both ends of the pipe."""

from __future__ import annotations

import threading
import time
from typing import Annotated, Literal, TextIO

from pydantic import Field, TypeAdapter

from ovd_bench.benchmarks.data.strict_model import StrictModel
from ovd_bench.benchmarks.runner.hangs import spoke


class Loaded(StrictModel):
    """The detector is ready and the folder of the run is known."""

    event: Literal["loaded"] = "loaded"
    folder: str
    images: int = Field(description="in the requested shards")
    images_done: int = Field(description="of these, in shards that exist already")
    missing: list[int] = Field(description="requested shards that do not exist yet")
    kept: bool = Field(default=False, description="the run is kept as it is: --overwrite never")


class Images(StrictModel):
    """The detector has processed this many more images."""

    event: Literal["images"] = "images"
    count: int


class Note(StrictModel):
    """Something for the user to know, such as that weights are fetched; one line."""

    event: Literal["note"] = "note"
    text: str


class Halved(StrictModel):
    """Memory ran out; from now on the batch has this size."""

    event: Literal["halved"] = "halved"
    batch: int


class ShardFailed(StrictModel):
    """A shard failed and was skipped."""

    event: Literal["failed"] = "failed"
    shard: int
    reason: str


class Fault(StrictModel):
    """The run cannot go on. This is the last event."""

    event: Literal["fault"] = "fault"
    reason: str


class End(StrictModel):
    """All requested shards were tried. This is the last event."""

    event: Literal["end"] = "end"


Event = Loaded | Images | Note | Halved | ShardFailed | Fault | End

#: Seconds for which counts of images are collected before they are sent.
_SECONDS = 0.2

_ADAPTER: TypeAdapter[Event] = TypeAdapter(Annotated[Event, Field(discriminator="event")])


def parse_event(line: str | bytes) -> Event:
    """Parse the line of an event."""
    return _ADAPTER.validate_json(line)


def send(stream: TextIO, event: StrictModel) -> None:
    """Write an event as a line, and flush."""
    stream.write(event.model_dump_json() + "\n")
    stream.flush()
    spoke()


class Channel:
    """Sends events; counts of images are collected and sent a few times per second.

    Args:
        stream: to the parent.
    """

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self._lock = threading.RLock()  # notes come from threads
        self._images = 0
        self._told = time.monotonic()

    def tell(self, event: Event) -> None:
        """Send an event, after the images counted before it."""
        with self._lock:
            self.flush()
            send(self._stream, event)

    def images(self, count: int) -> None:
        """Count images."""
        self._images += count
        if time.monotonic() - self._told > _SECONDS:
            self.flush()

    def flush(self) -> None:
        """Send the images counted since the last time."""
        with self._lock:
            images, self._images = self._images, 0
            if images:
                send(self._stream, Images(count=images))
            self._told = time.monotonic()
