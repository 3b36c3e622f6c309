"""What ``bench speed`` found out, schema version 1: typed, unknown keys refused, not rounded, unknown = null."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Literal

from pydantic import Field, ValidationError

from ovd_bench.benchmarks.data.files.atomic import atomic_write
from ovd_bench.benchmarks.data.files.documents import first_problem, read_document
from ovd_bench.benchmarks.data.strict_model import Count, Number, Seconds, Sha256, StrictModel
from ovd_bench.benchmarks.machine.cpu_load import Busy
from ovd_bench.benchmarks.machine.environment import EnvironmentInfo
from ovd_bench.benchmarks.store.schema import DetectorInfo
from ovd_bench.metrics.errors import DataError

MAX_BYTES = 64 * 2**20


class Timing(StrictModel):
    """Wall time of equal calls of ``detect``, device synchronised before and after each.

    Percentiles are those of ``numpy.percentile`` with method ``linear``. Times per image are those of the call divided
    by the images in it: of a batch, no single image is ready sooner than the whole call.
    """

    call_seconds: list[Seconds] = Field(min_length=1, description="of each timed call, in order")
    warm_up_seconds: list[Seconds] = Field(description="of each call before these, in order")
    percentile_method: Literal["linear"] = "linear"
    p50_ms: Number = Field(description="milliseconds per image, median over the timed calls")
    p95_ms: Number = Field(description="milliseconds per image, 95th percentile over the timed calls")
    min_ms: Number
    max_ms: Number
    mean_ms: Number
    sd_ms: Number | None = Field(description="sample standard deviation of the calls; null with a single call")
    images_per_second: Number = Field(description="images of all timed calls by their summed time")


class Batch(StrictModel):
    """Calls with so many images."""

    batch: int = Field(ge=1, description="images per call")
    timing: Timing | None = Field(description="null where it failed")
    peak_memory_bytes: Count | None = Field(description="largest resident set during these calls; null = not known")
    peak_gpu_bytes: Count | None
    busy: Busy | None = Field(description="during the timed calls")
    problem: str | None = Field(description="why it failed, one line")


class Start(StrictModel):
    """From nothing to the first detection, each done once and not repeated; file caches as they were."""

    load_seconds: Seconds = Field(description="imports and weights")
    vocabulary_seconds: Seconds = Field(description="set_vocabulary")
    first_detection_seconds: Seconds = Field(description="first call of detect with one image; compiles kernels")
    total_seconds: Seconds = Field(description="sum of the three")
    busy: Busy


class Memory(StrictModel):
    """Memory of the worker process, which holds this detector and nothing else."""

    before_load_bytes: Count = Field(description="resident: Python, this suite and the pixels, before the detector")
    loaded_bytes: Count = Field(description="resident, after loading and set_vocabulary")
    peak_bytes: Count = Field(description="largest resident set from the start to the last timed call")
    peak_gpu_bytes: Count | None
    gpu_kind: Literal["allocated", "reserved"] | None = Field(
        description="allocated: torch.cuda.max_memory_allocated; reserved: size of Jittor's pools"
    )


class Flops(StrictModel):
    """Floating-point operations of ``detect`` with one image; a multiply-add counts as two. Text is not in it."""

    value: Count
    source: Literal["torch.utils.flop_counter", "detector"]
    counted: str = Field(description="what kinds of work are in the number")
    operators: dict[str, Count] = Field(description="operator -> operations counted")
    not_counted: dict[str, Count] = Field(
        description="operator -> calls, of those that compute something, have no formula and are not elementwise"
    )


class ExclusiveUse(StrictModel):
    """Whether the detector had the machine for itself."""

    exclusive: bool | None = Field(description="null where it cannot be told")
    reasons: list[str] = Field(description="what speaks against it, or why it cannot be told")
    before: Busy = Field(description="before the detector was loaded, this process idle")


class Measured(StrictModel):
    """One detector."""

    kind: Literal["measured"] = "measured"
    detector: DetectorInfo
    device: str
    device_name: str
    dtype: str
    threads: int | None = Field(description="of torch's operators; null for other frameworks")
    start: Start
    batches: list[Batch]
    memory: Memory
    flops: Flops | None
    machine: ExclusiveUse
    notes: list[str]


class FailedDetector(StrictModel):
    """A detector of which nothing is known."""

    kind: Literal["failed"] = "failed"
    detector: str
    problem: str


class Workload(StrictModel):
    """What the detectors were given."""

    source: str = Field(description="synthetic, file, or benchmark")
    images: Count
    sizes: list[tuple[int, int]] = Field(strict=False, description="width and height of each image, pixels")
    pixels_sha256: Sha256
    vocabulary: str
    classes: Count
    vocabulary_sha256: Sha256
    plan: str
    plan_sha256: Sha256


class SpeedReport(StrictModel):
    """All detectors of one command, one after the other on one machine."""

    schema_version: Literal[1] = Field(default=1, alias="schema")
    started: str = Field(description="UTC, ISO 8601")
    command: str
    warm_up: Count = Field(description="calls before the timed ones, per batch size")
    iterations: Count = Field(description="timed calls per batch size")
    seed: int
    workload: Workload
    detectors: list[Measured | FailedDetector]
    env: EnvironmentInfo


def write_report(path: Path, report: SpeedReport) -> None:
    """Write the file, whole or not at all."""
    document = report.model_dump(mode="json", by_alias=True)
    with atomic_write(path) as file:
        file.write((json.dumps(document, indent=1, ensure_ascii=False, allow_nan=False) + "\n").encode())


def read_report(path: Path) -> SpeedReport:
    """Read such a file.

    Raises:
        DataError: no such file, or not of this schema; one line.
    """
    try:
        return SpeedReport.model_validate_json(read_document(path, MAX_BYTES, "speed report"))
    except ValidationError as error:
        raise DataError(f"{path}: {first_problem(error)}") from None
