"""``result.json``, schema version 1: typed, unknown keys refused, floats unrounded, missing = null."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, ValidationError

from ovd_bench.benchmarks.data.files.atomic import atomic_write
from ovd_bench.benchmarks.data.files.documents import first_problem, read_document
from ovd_bench.benchmarks.data.strict_model import Count, Name, Number, Seconds, Sha256, StrictModel
from ovd_bench.benchmarks.machine.environment import EnvironmentInfo
from ovd_bench.metrics.errors import DataError

MAX_BYTES = 64 * 2**20


def _unknown(value: object) -> bool:
    """Whether a field is left out, as in files from before it existed."""
    return value is None


class TrainingDataInfo(StrictModel):
    """One training data set of a detector; see ``detectors.card.TrainingData``."""

    dataset: str
    images: list[str]
    role: str
    note: str
    rare_left_out: Annotated[bool, Field(exclude_if=lambda value: value is False)] = False


class DetectorInfo(StrictModel):
    """The detector as loaded; see ``detectors.card.DetectorCard``."""

    name: Name
    family: str
    framework: str
    weights: str
    weights_sha256: Sha256
    parameters: Count | None = Field(description="scalars; null = not known")
    backbone: str
    text_encoder: str
    training_data: list[TrainingDataInfo] | None
    licence: str
    url: str
    capabilities: list[str]
    notes: list[str]


class BenchmarkInfo(StrictModel):
    """The data the run was made on."""

    name: Name
    split: str
    annotations_sha256: Sha256
    images: Count
    classes: Count
    boxes: Count


class PlanInfo(StrictModel):
    """The prompt plan; see ``detectors.prompts.PromptPlan``."""

    name: str
    sha256: Sha256
    cleaning: str
    templates: list[str]
    ensemble: str
    chunk_classes: int | None
    token_budget: int
    order: str
    #: Left out at 0, as in files from before it existed.
    paraphrase: Annotated[
        int, Field(ge=0, exclude_if=lambda value: value == 0, description="which synonym stands for the name; 0 = none")
    ] = 0
    distractors: Annotated[
        list[str], Field(exclude_if=lambda names: not names, description="queried beside the classes, and dropped")
    ] = Field(default=[])
    collisions: dict[str, list[int]] = Field(description="prompts shared by several category ids")


class JudgeInfo(StrictModel):
    """The judge of wrong names; see ``metrics.semantic.SimilarityMatrix``."""

    name: str
    sha256: Sha256 = Field(description="of the similarity matrix with all that it was made from")


class ProtocolInfo(StrictModel):
    """Everything else that the number depends on; see ``benchmarks.store.protocols.RunProtocol``."""

    name: str = Field(description="kind of AP")
    sha256: Sha256
    plan: PlanInfo
    vocabulary: Literal["full", "present", "verified", "queries"]
    image_size: int | None
    top_k: Count
    chunk_top_k: int | None
    versions: Annotated[
        dict[str, Count] | None,
        Field(exclude_if=_unknown, description="of cleaning, selection and scorer; null = made before they were kept"),
    ] = None
    lookups: Annotated[
        dict[str, Sha256] | None, Field(exclude_if=_unknown, description="hashes of the suite's own tables of words")
    ] = None
    tables: Annotated[
        Sha256 | None, Field(exclude_if=_unknown, description="of the tables of class names; null = there are none")
    ] = None
    judge: Annotated[JudgeInfo | None, Field(exclude_if=_unknown, description="null = nothing was judged")] = None
    reading: Annotated[
        Literal["annotated", "own"] | None,
        Field(exclude_if=_unknown, description="of captions; null = classes were asked for"),
    ] = None


class Metric(StrictModel):
    """One number; ``value`` null where it is undefined."""

    value: Number | None
    ci95: tuple[Number, Number] | None = Field(default=None, strict=False, description="see RunInfo.interval")


class FailedImage(StrictModel):
    """An image that could not be read; it counts as an image without detections."""

    image_id: int
    reason: str


class RunInfo(StrictModel):
    """Facts about the run."""

    started: str = Field(description="UTC, ISO 8601")
    seconds: Seconds = Field(description="wall time of prediction, added up over shards and resumes")
    seed: int
    dtype: str
    device: str
    batch: Count = Field(description="images per batch, as requested")
    smallest_batch: Count = Field(description="after halving for lack of memory")
    shards: Count
    engine: str
    images: Count
    detections: Count
    images_failed: list[FailedImage]
    bootstrap: Count
    bootstrap_seed: int
    command: str
    adapter_version: Annotated[
        Count | None, Field(exclude_if=_unknown, description="see DetectorCard; null = made before it was kept")
    ] = None
    suppression_version: Annotated[
        Count | None, Field(exclude_if=_unknown, description="see DetectorCard; null = nothing suppressed")
    ] = None
    pixels_sha256: Annotated[
        Sha256 | None,
        Field(exclude_if=_unknown, description="of all images as decoded; null = made before they were hashed"),
    ] = None
    interval: Annotated[
        Literal["student"] | None,
        Field(
            exclude_if=_unknown,
            description="rule of every ci95: metrics.intervals; not there in older results: value ± 1.96 bootstrap sd",
        ),
    ] = None


class WarmSpeed(StrictModel):
    """Time of an image during the run, without loading and without the first call; see docs/speed.md."""

    image_seconds: Seconds | None = Field(
        description="median over the images of warm calls of detect, each the call's time by its images; null = none"
    )
    images: Count = Field(description="of the warm calls")
    first_call_seconds: Seconds | None = Field(
        description="slowest first call of a process, in which kernels are compiled; null = not known"
    )
    threads: Count = Field(description="see machine.environment.threads_allowed")
    alone: bool | None = Field(
        description="on one kind of machine, and nothing else ran on it; null where it cannot be told"
    )
    reasons: list[str] = Field(description="what speaks against it, or why it cannot be told")


class SpeedInfo(StrictModel):
    """Speed during the run; 'bench speed' measures it separately."""

    images_per_second: Number | None = Field(
        description="by warm.image_seconds; where that is not there, the old way: all images by the wall time"
    )
    load_seconds: Seconds = Field(description="imports, weights and text, before the first image")
    peak_memory_bytes: Count = Field(description="largest resident set of a worker process")
    peak_gpu_bytes: Count | None
    warm: Annotated[WarmSpeed | None, Field(exclude_if=_unknown, description="null = made before calls were timed")] = (
        None
    )


class NamesSeen(StrictModel):
    """Number of names of the benchmark in a label set; see ``benchmarks.store.names_seen``."""

    seen: Count
    names: Count = Field(description="of the benchmark")
    rare_seen: Count | None = Field(description="null = the benchmark has no rare names")
    rare: Count | None


class Contamination(StrictModel):
    """Overlap of the training data with the benchmark."""

    dataset: str = Field(description="of the training data; empty = all of it together")
    level: Literal["test-images", "train-split", "unknown", "names"]
    note: str
    names: Annotated[
        NamesSeen | None, Field(exclude_if=_unknown, description="for the level 'names'; null = not known")
    ] = None


class Result(StrictModel):
    """One row of the board with everything needed to trace and repeat it.

    ``id`` is the sha256 of the document without ``id``, so files with the same id have the same content.
    """

    schema_version: Literal[1] = Field(alias="schema")
    id: Sha256
    partial: bool = Field(description="made with --limit or --images: never on the board")
    detector: DetectorInfo
    benchmark: BenchmarkInfo
    protocol: ProtocolInfo
    metrics: dict[str, Metric]
    run: RunInfo
    env: EnvironmentInfo
    speed: SpeedInfo
    files: dict[str, Sha256] = Field(description="path relative to this file -> sha256")
    contamination: list[Contamination]
    notes: list[str]


def content_id(document: dict[str, Any]) -> str:
    """Hash of a result document without its ``id``."""
    content = {key: value for key, value in document.items() if key != "id"}
    text = json.dumps(content, sort_keys=True, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()


def new_result(**parts: Any) -> Result:
    """A result from its parts (models or plain values), with its id."""
    draft = Result.model_validate({"schema": 1, "id": "0" * 64, **parts})
    document = draft.model_dump(mode="json", by_alias=True)
    return draft.model_copy(update={"id": content_id(document)})


def write_result(path: Path, result: Result) -> None:
    """Write the file atomically; the same result gives the same bytes."""
    document = result.model_dump(mode="json", by_alias=True)
    with atomic_write(path) as file:
        file.write((json.dumps(document, indent=1, ensure_ascii=False, allow_nan=False) + "\n").encode())


def read_result(path: Path) -> Result:
    """Read a result file.

    Raises:
        DataError: no such file, not a result of a known schema, or changed since it was written; one line.
    """
    text = read_document(path, MAX_BYTES, "result file")
    try:
        result = Result.model_validate_json(text)
    except ValidationError as error:
        raise DataError(f"{path}: {first_problem(error)}") from None
    if content_id(json.loads(text)) != result.id:
        raise DataError(f"{path}: id does not fit the content: the file was changed by hand; run 'bench run' again")
    return result
