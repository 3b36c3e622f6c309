"""What a worker process tells its parent: JSON lines on a pipe. Both ends of it."""

from __future__ import annotations

import time
from typing import Annotated, Literal, TextIO

from pydantic import Field, TypeAdapter

from ovd_bench.benchmarks.data.strict_model import StrictModel


class Loaded(StrictModel):
    """The detector is ready and the folder of the run is known."""

    event: Literal["loaded"] = "loaded"
    folder: str
    images: int = Field(description="of the shards asked for")
    images_done: int = Field(description="of these, in shards that are there already")
    missing: list[int] = Field(description="shards asked for that are not there")
    kept: bool = Field(default=False, description="nothing will be done: --overwrite never")


class Images(StrictModel):
    """So many more images have gone through the detector."""

    event: Literal["images"] = "images"
    count: int


class Halved(StrictModel):
    """Memory ran out: the batch is smaller from now on."""

    event: Literal["halved"] = "halved"
    batch: int


class ShardFailed(StrictModel):
    """A shard was given up."""

    event: Literal["failed"] = "failed"
    shard: int
    reason: str


class Fault(StrictModel):
    """Nothing can be done; the last event."""

    event: Literal["fault"] = "fault"
    reason: str


class End(StrictModel):
    """All shards asked for were tried; the last event."""

    event: Literal["end"] = "end"


Event = Loaded | Images | Halved | ShardFailed | Fault | End

#: Counts of images are gathered for so long.
_SECONDS = 0.2

_ADAPTER: TypeAdapter[Event] = TypeAdapter(Annotated[Event, Field(discriminator="event")])


def parse_event(line: str | bytes) -> Event:
    """An event from its line."""
    return _ADAPTER.validate_json(line)


def send(stream: TextIO, event: StrictModel) -> None:
    """Write an event as a line, and flush."""
    stream.write(event.model_dump_json() + "\n")
    stream.flush()


class Channel:
    """Sends events; counts of images are gathered for a moment.

    Args:
        stream: to the parent.
    """

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self._images = 0
        self._told = time.monotonic()

    def tell(self, event: Event) -> None:
        """Send an event, after the images that came before it."""
        self.flush()
        send(self._stream, event)

    def images(self, count: int) -> None:
        """Count images."""
        self._images += count
        if time.monotonic() - self._told > _SECONDS:
            self.flush()

    def flush(self) -> None:
        """Send the images that were gathered."""
        images, self._images = self._images, 0
        if images:
            send(self._stream, Images(count=images))
        self._told = time.monotonic()
