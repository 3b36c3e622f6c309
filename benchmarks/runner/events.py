"""What a worker process tells its parent: JSON lines on a pipe."""

from __future__ import annotations

from typing import Annotated, Literal

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


class Failed(StrictModel):
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


Event = Loaded | Images | Halved | Failed | Fault | End

_ADAPTER: TypeAdapter[Event] = TypeAdapter(Annotated[Event, Field(discriminator="event")])


def parse_event(line: str) -> Event:
    """An event from its line."""
    return _ADAPTER.validate_json(line)
