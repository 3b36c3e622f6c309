"""Request and events of a worker: one JSON file in, JSON lines out."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, TypeAdapter

from ovd_bench.benchmarks.data.strict_model import StrictModel
from ovd_bench.benchmarks.runner.events import Fault
from ovd_bench.benchmarks.speed.record import Measured
from ovd_bench.detectors.interface import DType
from ovd_bench.detectors.prompts import PromptPlan
from ovd_bench.detectors.types import Vocabulary

#: Files in the folder of a worker.
REQUEST, PIXELS = "request.json", "pixels.npz"


class SpeedRequest(StrictModel):
    """One detector.

    Attributes:
        detector: name, or ``path.py:Name``.
        weights: local path or hub id; None = the card's.
        device: ``auto`` is a GPU if the framework sees one.
        dtype: of the network.
        plan: how names become text.
        vocabulary: classes to find.
        batches: images per call; one measurement for each.
        warm_up: calls before the timed ones, for each batch size.
        iterations: timed calls for each batch size.
        seed: of everything random.
        idle_seconds: duration of the measurement of the idle machine before the start.
    """

    detector: str
    weights: str | None = None
    device: str = Field(default="auto", pattern=r"^(auto|cpu|cuda(:\d+)?)$")
    dtype: DType = "float32"
    plan: PromptPlan = PromptPlan()
    vocabulary: Vocabulary
    batches: tuple[Annotated[int, Field(ge=1)], ...] = Field(default=(1,), min_length=1)
    warm_up: int = Field(default=5, ge=0)
    iterations: int = Field(default=20, ge=1)
    seed: int = Field(default=0, ge=0, lt=2**32)
    idle_seconds: float = Field(default=1.0, gt=0)


class Stage(StrictModel):
    """The next stage."""

    event: Literal["stage"] = "stage"
    words: str


class Done(StrictModel):
    """The result; the last event."""

    event: Literal["done"] = "done"
    measured: Measured


Event = Stage | Done | Fault

_ADAPTER: TypeAdapter[Event] = TypeAdapter(Annotated[Event, Field(discriminator="event")])


def parse_event(line: bytes) -> Event:
    """Parse the line of an event."""
    return _ADAPTER.validate_json(line)
