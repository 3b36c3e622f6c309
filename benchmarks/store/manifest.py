"""Files of a run: the manifest with recipe and shards, and a record per complete shard.

``predictions/`` of a run has ``manifest.json``, and per shard an Arrow file and a record. The record is written after
the Arrow file and contains its sha256: a shard without a matching record does not count. When a run is killed, its
current shard is therefore either missing or complete.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal, Self, TypeVar

import numpy as np
from pydantic import Field, SerializerFunctionWrapHandler, ValidationError, model_serializer, model_validator

from ovd_bench.benchmarks.data.catalog.benchmark import Benchmark
from ovd_bench.benchmarks.data.files.atomic import atomic_write, file_sha256
from ovd_bench.benchmarks.data.files.documents import first_problem, read_document
from ovd_bench.benchmarks.data.match import ImageMatch
from ovd_bench.benchmarks.data.strict_model import Count, Name, Seconds, Sha256, StrictModel
from ovd_bench.benchmarks.machine.cpu_load import Busy
from ovd_bench.benchmarks.machine.environment import EnvironmentInfo
from ovd_bench.benchmarks.store.describe import plan_fits
from ovd_bench.benchmarks.store.folders import MANIFEST, PREDICTIONS, RESULT, manifest_path
from ovd_bench.benchmarks.store.schema import MAX_BYTES, DetectorInfo, FailedImage, ProtocolInfo
from ovd_bench.detectors.hub_names import commit_of
from ovd_bench.metrics.errors import DataError


class Recipe(StrictModel):
    """Everything that determines the bytes of the predictions; all shards of a run have the same recipe.

    The machine matters too (CPU, versions of packages), but a run may be spread over several machines, so it is in the
    record of each shard instead.
    """

    detector: Name
    weights_sha256: Sha256
    source_sha256: Sha256 | None = Field(description="of the Python file of a detector given as path.py:Name")
    annotations_sha256: Sha256
    images_sha256: Sha256 = Field(description="of the image ids in order")
    protocol_sha256: Sha256
    shards: Count
    device: str = Field(description="cpu or cuda")
    dtype: str
    batch: Count
    seed: int
    weights_revision: str | None = Field(default=None, description="commit of weights from the hub")
    weights_key: str | None = Field(default=None, description="entry of a training checkpoint, if given")
    chunk_batch: Count | None = Field(default=None, description="chunks of classes read at once, if given")
    nms_iou: float | None = Field(default=None, description="of the suppression within a class, if given")
    adapter_version: Count | None = Field(default=None, description="see DetectorCard; null = made before it was kept")
    suppression_version: Count | None = Field(default=None, description="see DetectorCard; null = nothing suppressed")
    probe_sha256: Sha256 | None = Field(
        default=None, description="pixels of a few images; see benchmarks.data.pixel_hashes"
    )

    @property
    def sha256(self) -> str:
        """Hash of all fields; optional ones that are None are left out, so hashes of older manifests stay valid."""
        optional = (
            *("weights_revision", "weights_key", "chunk_batch", "nms_iou"),
            *("adapter_version", "suppression_version", "probe_sha256"),
        )
        left_out = {name for name in optional if getattr(self, name) is None}
        document = self.model_dump(mode="json", exclude=left_out)
        return hashlib.sha256(json.dumps(document, sort_keys=True).encode()).hexdigest()

    def differences(self, wanted: Recipe) -> list[str]:
        """Differences from the expected recipe, in words. A commit counts if both know theirs."""
        apart = {"probe_sha256"} | ({"weights_revision"} if self._one_commit(wanted) else set())
        ours, theirs = self.model_dump(exclude=apart), wanted.model_dump(exclude=apart)
        words = [f"{name} {ours[name]}, not {theirs[name]}" for name in ours if ours[name] != theirs[name]]
        if self.probe_sha256 != wanted.probe_sha256:
            probes = [probe[:8] if probe else "not kept" for probe in (self.probe_sha256, wanted.probe_sha256)]
            words.append(f"images that decode to other pixels (probe {probes[0]}, not {probes[1]})")
        return words

    def _one_commit(self, wanted: Recipe) -> bool:
        """Whether one of the two does not know its commit: made before it was kept, or not loaded yet."""
        return self.weights_revision is None or wanted.weights_revision is None


class ShardRange(StrictModel):
    """Images of one shard: consecutive in the sorted ids."""

    first_id: int
    last_id: int
    images: Count
    ids_sha256: Sha256


class BenchmarkPlace(StrictModel):
    """The benchmark and its paths on the machine that made the run; see ``benchmarks.data.catalog.Benchmark``."""

    name: Name
    dataset: str
    split: str
    annotations: str
    annotations_sha256: Sha256
    images: str
    protocol: str
    image_sources: list[str]
    train_sources: list[str]
    tables: str | None
    match: ImageMatch = "path"

    @model_serializer(mode="wrap")
    def _written(self, write: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """The usual way to find images is left out, so that manifests keep the bytes that they have always had."""
        content: dict[str, Any] = write(self)
        if self.match == "path":
            del content["match"]
        return content

    @staticmethod
    def of(benchmark: Benchmark, annotations_sha256: str) -> BenchmarkPlace:
        """From an open benchmark."""
        return BenchmarkPlace(
            name=benchmark.name,
            dataset=benchmark.dataset,
            split=benchmark.split,
            annotations=str(benchmark.annotations.resolve()),
            annotations_sha256=annotations_sha256,
            images=str(benchmark.images.resolve()),
            protocol=benchmark.protocol,
            image_sources=list(benchmark.image_sources),
            train_sources=list(benchmark.train_sources),
            tables=None if benchmark.tables is None else str(benchmark.tables.resolve()),
            match=benchmark.match,
        )

    def benchmark(self, annotations: Path | None = None) -> Benchmark:
        """The benchmark, with its annotations at the given or the recorded path.

        Raises:
            DataError: the recorded annotation file is missing or has changed.
        """
        if annotations is None:
            annotations = Path(self.annotations)
            there = annotations.is_file()
            if not there or file_sha256(annotations) != self.annotations_sha256:
                what = "has changed since the run" if there else "no longer exists"
                raise DataError(
                    f"{annotations}: {what}: give the annotations with -a FILE, or the benchmark with -b NAME"
                )
        return Benchmark(
            name=self.name,
            dataset=self.dataset,
            split=self.split,
            annotations=annotations,
            images=Path(self.images),
            protocol=self.protocol,
            image_sources=tuple(self.image_sources),
            train_sources=tuple(self.train_sources),
            tables=None if self.tables is None else Path(self.tables),
            match=self.match,
        )


class RunManifest(StrictModel):
    """``predictions/manifest.json``; the same run gives the same bytes."""

    schema_version: Literal[1] = Field(alias="schema")
    recipe: Recipe
    recipe_sha256: Sha256
    detector: DetectorInfo
    protocol: ProtocolInfo
    benchmark: BenchmarkPlace
    image_ids: list[int] | None = Field(description="of a partial run, sorted; null = all images of the benchmark")
    shards: list[ShardRange]
    content_sha256: Sha256 | None = Field(
        default=None, description="of all else in the file, set when it is written; null = written before that was kept"
    )

    @property
    def partial(self) -> bool:
        """Whether the run covers only a part of the images."""
        return self.image_ids is not None


class ShardSpeed(StrictModel):
    """Times of the calls of ``detect`` that made a shard, and who else used the machine meanwhile."""

    call_images: list[Annotated[int, Field(ge=1)]] = Field(description="images of each call, in order")
    call_seconds: list[Seconds] = Field(description="from pixels in memory to boxes")
    cold_calls: Count = Field(description="how many of them, from the first, may have compiled kernels")
    threads: Count = Field(description="see machine.environment.threads_allowed")
    busy: Busy
    other_workers: Count = Field(description="worker processes of the suite on the machine besides this one")
    gpu: Literal["alone", "shared", "unknown"] | None = Field(description="null = no GPU in use")

    @model_validator(mode="after")
    def _one_time_per_call(self) -> Self:
        if not self.cold_calls <= len(self.call_images) == len(self.call_seconds):
            raise ValueError("call_images and call_seconds need one entry per call")
        return self


class ShardRecord(StrictModel):
    """Record of a complete shard."""

    schema_version: Literal[1] = Field(alias="schema")
    recipe_sha256: Sha256
    shard: Count
    arrow_sha256: Sha256
    detections: Count
    images: Count
    images_failed: list[FailedImage]
    pixels: dict[int, str] | None = Field(
        default=None, description="image id -> sha256 of its decoded pixels; null = made before they were hashed"
    )
    started: str
    seconds: Seconds = Field(description="wall time of this shard")
    load_seconds: Seconds = Field(description="imports, weights and text of the process that made it")
    smallest_batch: Count
    peak_memory_bytes: Count
    peak_gpu_bytes: Count | None
    env: EnvironmentInfo
    speed: ShardSpeed | None = Field(default=None, description="null = made before calls were timed")


_Document = TypeVar("_Document", RunManifest, ShardRecord)


@dataclass(frozen=True)
class RunFiles:
    """Paths of the files of a run.

    Attributes:
        folder: folder of the run.
        shards: number of shards.
    """

    folder: Path
    shards: int

    def arrow(self, shard: int) -> Path:
        """Predictions of a shard."""
        return self.folder / PREDICTIONS / f"shard-{shard:05}-of-{self.shards:05}.arrow"

    def record(self, shard: int) -> Path:
        """Record of a shard."""
        return self.arrow(shard).with_suffix(".json")


def run_of(path: Path) -> Path | None:
    """The run folder for a path: the folder itself or its ``result.json``; None for anything else.

    Raises:
        DataError: a result file without its predictions, or a folder that is not a run.
    """
    folder = path.parent if path.name == RESULT else path
    if not folder.is_dir():
        return None
    if manifest_path(folder).is_file():
        return folder
    if path.name == RESULT and not path.is_file():
        return None
    raise DataError(f"{path}: the predictions of the run are not here ({PREDICTIONS}/{MANIFEST} is missing)")


def read_manifest(folder: Path) -> RunManifest:
    """The manifest of a run.

    Raises:
        DataError: there is none, or it is damaged; one line.
    """
    path = manifest_path(folder)
    manifest = _read(path, RunManifest)
    if changed := _changed_by_hand(path, manifest):
        raise DataError(f"{path}: {changed} was changed by hand: run again with --overwrite always")
    return manifest


def _changed_by_hand(path: Path, manifest: RunManifest) -> str:
    """What does not fit the hashes; empty if all does.

    The recipe is what predictions are bound to. What a row shows beside it is compared with it, and the whole content
    with its own hash, which older files do not have.
    """
    recipe, protocol, detector = manifest.recipe, manifest.protocol, manifest.detector
    image_ids = manifest.image_ids
    fits = {
        "recipe": recipe.sha256 == manifest.recipe_sha256,
        "protocol": protocol.sha256 == recipe.protocol_sha256 and plan_fits(protocol),
        "detector": (detector.name, detector.weights_sha256) == (recipe.detector, recipe.weights_sha256)
        and recipe.weights_revision in (None, commit_of(detector.weights)),
        "benchmark": manifest.benchmark.annotations_sha256 == recipe.annotations_sha256,
        "image_ids": image_ids is None or ids_sha256(image_ids) == recipe.images_sha256,
        "shards": len(manifest.shards) == recipe.shards,
    }
    if wrong := [name for name, good in fits.items() if not good]:
        return wrong[0]
    whole = manifest.content_sha256
    return "" if whole is None or whole == _content_sha256(json.loads(path.read_bytes())) else "the content"


def _content_sha256(content: dict[str, Any]) -> str:
    """Hash of a manifest's JSON but for the hash itself."""
    rest = {key: value for key, value in content.items() if key != "content_sha256"}
    return hashlib.sha256(json.dumps(rest, sort_keys=True).encode()).hexdigest()


def read_record(folder: Path, manifest: RunManifest, shard: int) -> ShardRecord | None:
    """The record of a shard if it is complete and has the manifest's recipe; None otherwise."""
    files = RunFiles(folder, len(manifest.shards))
    try:
        record = _read(files.record(shard), ShardRecord)
        fits = file_sha256(files.arrow(shard)) == record.arrow_sha256
    except (DataError, OSError):
        return None
    return record if fits and record.recipe_sha256 == manifest.recipe_sha256 and record.shard == shard else None


def missing_shards(folder: Path, manifest: RunManifest, shards: Sequence[int]) -> list[int]:
    """Those of the given shards that are missing."""
    return [shard for shard in shards if read_record(folder, manifest, shard) is None]


def read_records(folder: Path, manifest: RunManifest) -> list[ShardRecord]:
    """The records of all shards in order.

    Raises:
        DataError: a shard is missing or changed; says how many.
    """
    records = [read_record(folder, manifest, shard) for shard in range(len(manifest.shards))]
    if missing := [shard for shard, record in enumerate(records) if record is None]:
        file = RunFiles(folder, len(records)).arrow(missing[0]).name
        raise DataError(
            f"{folder}: {len(missing):,} of {len(records):,} shards are missing or changed, {file} is the first: "
            "repeat the command that made them, it resumes"
        )
    return [record for record in records if record is not None]


def pixels_of(records: Sequence[ShardRecord]) -> dict[int, str] | None:
    """Image id -> hash of its pixels, of all shards; None if a shard was made before pixels were hashed."""
    pixels: dict[int, str] = {}
    for record in records:
        if record.pixels is None:
            return None
        pixels |= record.pixels
    return pixels


def write_document(path: Path, document: RunManifest | ShardRecord) -> None:
    """Write a manifest or record atomically."""
    content = document.model_dump(mode="json", by_alias=True)
    if isinstance(document, RunManifest):
        content["content_sha256"] = _content_sha256(content)
    with atomic_write(path) as file:
        file.write((json.dumps(content, indent=1, ensure_ascii=False, allow_nan=False) + "\n").encode())


def cut(image_ids: Sequence[int], shards: int) -> list[ShardRange]:
    """Cut sorted image ids into shards of consecutive ids whose sizes differ by at most one."""
    parts = [image_ids[slice(*bounds)] for bounds in shard_bounds(len(image_ids), shards)]
    return [ShardRange(first_id=ids[0], last_id=ids[-1], images=len(ids), ids_sha256=ids_sha256(ids)) for ids in parts]


def shard_bounds(images: int, shards: int) -> list[tuple[int, int]]:
    """Positions ``(begin, end)`` of the images of each shard."""
    return [(images * k // shards, images * (k + 1) // shards) for k in range(shards)]


def ids_sha256(image_ids: Sequence[int]) -> str:
    """Hash of image ids in their order."""
    return hashlib.sha256(np.asarray(image_ids, "<i8").tobytes()).hexdigest()


def _read(path: Path, kind: type[_Document]) -> _Document:
    text = read_document(path, MAX_BYTES, "file of a run")
    try:
        return kind.model_validate_json(text)
    except ValidationError as error:
        raise DataError(f"{path}: {first_problem(error)}") from None
