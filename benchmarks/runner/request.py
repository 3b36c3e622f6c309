"""Request of a run: everything that a worker process needs, as one JSON file."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Literal

from pydantic import Field, ValidationError

from ovd_bench.benchmarks.data.catalog.benchmark import Benchmark, vocabulary_of
from ovd_bench.benchmarks.data.files.atomic import file_sha256
from ovd_bench.benchmarks.data.files.documents import first_problem
from ovd_bench.benchmarks.data.files.queries import is_query_file
from ovd_bench.benchmarks.data.match import ImageMatch
from ovd_bench.benchmarks.data.strict_model import StrictModel
from ovd_bench.benchmarks.store.manifest import ids_sha256
from ovd_bench.benchmarks.store.protocols import Reading, RunProtocol, VocabularyMode
from ovd_bench.detectors.interface import DType
from ovd_bench.detectors.prompts import PLANS, PromptPlan, default_plan
from ovd_bench.metrics.errors import DataError
from ovd_bench.metrics.types import Categories

#: ``missing``: make the missing shards; ``always``: make all again; ``never``: keep a scored run as it is.
Overwrite = Literal["missing", "always", "never"]

#: Images per shard if no number of shards is requested; a killed run loses at most these.
IMAGES_PER_SHARD = 256


class RunRequest(StrictModel):
    """One detector on one benchmark under one protocol.

    Attributes:
        detector: name, or ``path.py:Name``.
        weights: local path or hub id; None = the card's.
        weights_key: see ``DetectorSettings``.
        benchmark: what ``open_benchmark`` takes: a name or an annotation file.
        data_root: folder of the data sets.
        images: folder of the images; None = the benchmark's.
        match: how images are found in their folder.
        name: of a benchmark that is given as a path; None = after its file or folder.
        detector_name: of the detector in the results; None = that of its card.
        ap: kind of AP; None = the benchmark's usual one.
        plan: see ``RunProtocol``; None = the usual one for the benchmark's names (``default_plan``).
        vocabulary, image_size, top_k: see ``RunProtocol``; the vocabulary of a file of queries is ``queries``.
        reading: see ``RunProtocol``; None = ``annotated`` for a file of queries.
        device: ``auto`` is a GPU if the framework sees one.
        dtype: of the network.
        batch: images per call of the detector.
        chunk_batch, nms_iou: see ``DetectorSettings``; None = the detector's own choice.
        seed: of everything random in the worker.
        detect_timeout: seconds that the worker may be silent, while it loads or between images; None = for ever.
        shards: number of parts that the images are split into; None = that of an existing run, else by size.
        limit: only this many images, those with the lowest ids.
        image_ids: only these images.
        out: folder of the results.
        overwrite: what happens to existing shards.
    """

    detector: str
    weights: str | None = None
    weights_key: str | None = Field(default=None, min_length=1)
    benchmark: str
    data_root: Path
    images: Path | None = None
    match: ImageMatch = "path"
    name: str | None = None
    detector_name: str | None = Field(default=None, pattern=r"^[A-Za-z0-9][A-Za-z0-9._+-]{0,127}$")
    ap: str | None = None
    plan: PromptPlan | None = None
    vocabulary: VocabularyMode = "full"
    image_size: int | None = Field(default=None, ge=1)
    top_k: int | None = Field(default=None, ge=1)
    reading: Reading | None = None
    device: str = Field(default="auto", pattern=r"^(auto|cpu|cuda(:\d+)?)$")
    dtype: DType = "float32"
    batch: int = Field(default=1, ge=1)
    chunk_batch: int | None = Field(default=None, ge=1)
    nms_iou: float | None = Field(default=None, gt=0, le=1)
    seed: int = Field(default=0, ge=0, lt=2**32)
    detect_timeout: float | None = Field(default=None, gt=0, allow_inf_nan=False)
    shards: int | None = Field(default=None, ge=1)
    limit: int | None = Field(default=None, ge=1)
    image_ids: tuple[int, ...] | None = None
    out: Path
    overwrite: Overwrite = "missing"

    @staticmethod
    def read(path: Path) -> RunRequest:
        """From its JSON file.

        Raises:
            DataError: not a request; one line.
        """
        try:
            return RunRequest.model_validate_json(path.read_bytes())
        except OSError as error:
            raise DataError(f"{path}: cannot be read: {error.strerror}") from error
        except ValidationError as error:
            raise DataError(f"{path}: {first_problem(error)}") from None

    def open_benchmark(self, progress: Callable[[int], None] | None = None) -> Benchmark:
        """Open the benchmark.

        Args:
            progress: called with numbers of images where a data set is rendered first.

        Raises:
            DataError: unknown, or its files are not on this machine.
        """
        from ovd_bench.benchmarks.data.catalog.registry import open_benchmark

        return open_benchmark(
            self.benchmark,
            self.data_root,
            images=self.images,
            protocol=self.ap,
            match=self.match,
            name=self.name,
            progress=progress,
        )

    def protocol(self, benchmark: Benchmark, categories: Categories) -> RunProtocol:
        """The protocol of the run.

        Args:
            benchmark: of the run.
            categories: of the benchmark.

        Raises:
            DataError: settings that exclude each other.
        """
        ap = self.ap or benchmark.protocol
        if is_query_file(benchmark.annotations) != (ap == "queries"):
            raise DataError(f"{benchmark.annotations}: protocol '{ap}': a file of queries has the protocol 'queries'")
        if ap == "queries" and self.vocabulary == "full":
            plan = PLANS["raw"] if self.plan is None else self.plan
            reading = self.reading or "annotated"
            return RunProtocol.of(ap, plan, "queries", self.image_size, self.top_k, None, reading)
        plan = default_plan(vocabulary_of(categories)) if self.plan is None else self.plan
        tables = None if benchmark.tables is None else file_sha256(benchmark.tables)
        return RunProtocol.of(ap, plan, self.vocabulary, self.image_size, self.top_k, tables, self.reading)

    @property
    def partial(self) -> str:
        """Suffix of the folder of a run on a part of the images; empty for all images."""
        if self.image_ids is not None:
            return f"ids-{ids_sha256(sorted(self.image_ids))[:8]}"
        return "" if self.limit is None else str(self.limit)

    def choose(self, image_ids: list[int]) -> list[int]:
        """Ids of the images to run on, sorted, out of all ids of the benchmark (sorted).

        Raises:
            DataError: an unknown id, a repeated id, or no id.
        """
        if self.image_ids is None:
            return image_ids[: self.limit]
        chosen = sorted(self.image_ids)
        known = set(image_ids)
        if not chosen:
            raise DataError("--image-ids names no image")
        for image, following in zip(chosen, [*chosen[1:], None], strict=True):
            if image not in known or image == following:
                what = "occurs twice" if image in known else f"is not in benchmark '{self.benchmark}'"
                raise DataError(f"--image-ids: image {image} {what}")
        return chosen

    def shard_count(self, images: int) -> int:
        """Number of shards for a given number of images if no run exists yet.

        Raises:
            DataError: more shards than images.
        """
        if self.shards is not None and self.shards > images:
            raise DataError(f"{self.shards:,} shards of {images:,} images: at most one shard per image")
        return self.shards or math.ceil(images / IMAGES_PER_SHARD)
