"""Make the shards of a run, one after the other."""

from __future__ import annotations

import time
import traceback
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

from ovd_bench.benchmarks.data.errors import one_line
from ovd_bench.benchmarks.data.files.atomic import file_sha256
from ovd_bench.benchmarks.data.files.predictions import write_predictions
from ovd_bench.benchmarks.machine.cpu_load import LoadMeter
from ovd_bench.benchmarks.machine.device import Device
from ovd_bench.benchmarks.machine.environment import describe_environment, threads_allowed
from ovd_bench.benchmarks.machine.gpus import GpuWatch
from ovd_bench.benchmarks.machine.memory import peak_gpu_bytes, peak_resident_bytes
from ovd_bench.benchmarks.runner.events import Channel, Halved, ShardFailed
from ovd_bench.benchmarks.runner.image_subset import Group
from ovd_bench.benchmarks.runner.loading import LoadedDetector, seed_everything
from ovd_bench.benchmarks.runner.locks import LOCKS, held, remove_leftovers
from ovd_bench.benchmarks.runner.plan import RunPlan
from ovd_bench.benchmarks.runner.predictor import Predictor, ShardPredictions
from ovd_bench.benchmarks.runner.query_predictor import QueryPredictor
from ovd_bench.benchmarks.runner.reader import Read, Reader, Wanted
from ovd_bench.benchmarks.runner.subprocesses import other_workers
from ovd_bench.benchmarks.store.folders import PREDICTIONS
from ovd_bench.benchmarks.store.manifest import (
    RunFiles,
    RunManifest,
    ShardRecord,
    ShardSpeed,
    shard_bounds,
    write_document,
)
from ovd_bench.detectors.interface import Detector

#: Seconds to wait for a shard; a process that was killed, or whose node left the cluster, may need a moment to end.
_PATIENCE = 15.0


class ShardMaker:
    """Predicts and writes shards of one run.

    Args:
        plan: what to run.
        loaded: its detector.
        folder: of the run.
        manifest: of the run.
        channel: to the parent.
        started: ``time.monotonic()`` at the start of the process.
        watch: of the GPU, from before the detector was loaded; None = no GPU is asked for.
    """

    def __init__(
        self,
        plan: RunPlan,
        loaded: LoadedDetector,
        folder: Path,
        manifest: RunManifest,
        channel: Channel,
        started: float,
        watch: GpuWatch | None,
    ) -> None:
        self._plan = plan
        self._folder = folder
        self._manifest = manifest
        self._channel = channel
        self._device = Device(loaded.device)
        self._watch = watch
        self._predictor = self._predictor_of(loaded.detector)
        self._load_seconds = time.monotonic() - started

    def _predictor_of(self, detector: Detector) -> Predictor | QueryPredictor:
        """What asks the detector; a vocabulary that all images share is set here, since this counts as loading."""
        protocol, run_images, channel = self._plan.protocol, self._plan.run_images, self._channel
        if run_images.questions is not None:
            assert protocol.reading is not None
            return QueryPredictor(
                detector, run_images, protocol.plan, protocol.reading, top_k=protocol.top_k, on_images=channel.images
            )
        predictor = Predictor(
            detector,
            run_images,
            protocol.plan,
            batch=self._plan.request.batch,
            top_k=protocol.top_k,
            on_images=channel.images,
            on_halved=lambda batch: channel.tell(Halved(batch=batch)),
        )
        if run_images.subsets is None:
            predictor.ask(None)
        return predictor

    def make(self, shards: list[int]) -> None:
        """Make the given shards; if one fails, it is reported and the next one starts."""
        run_images = self._plan.run_images
        bounds = shard_bounds(len(run_images.image_ids), len(self._manifest.shards))
        groups = {shard: run_images.groups(*bounds[shard]) for shard in shards}
        wanted = (
            Wanted(shard, run_images.image_ids[position], run_images.files[position], run_images.sizes[position])
            for shard in shards
            for group in groups[shard]
            for position in group.members
        )
        with Reader(self._plan.benchmark.images, wanted, ahead=self._plan.request.batch) as reader:
            images = iter(reader)
            for shard in shards:
                try:
                    self._shard(shard, groups[shard], images)
                except Exception as error:  # noqa: BLE001 - whatever a detector does, the other shards go on
                    reader.skip(shard)
                    traceback.print_exc()
                    self._channel.tell(ShardFailed(shard=shard, reason=one_line(error)))

    def _shard(self, shard: int, groups: list[Group], images: Iterator[Read]) -> None:
        lock = self._folder / PREDICTIONS / LOCKS / f"shard-{shard:05}"
        what = f"{self._folder}: shard {shard} of {len(self._manifest.shards)}"
        with held(lock, what, patience=_PATIENCE):
            started, clock = datetime.now(UTC), time.perf_counter()
            seed_everything(self._plan.request.seed)
            workers = other_workers()
            with LoadMeter() as meter:
                made = self._predictor.shard(groups, images)
            gpu = self._watch.state(self._device.uuid()) if self._watch and self._device.is_gpu else None
            speed = ShardSpeed(
                call_images=[call.images for call in made.calls],
                call_seconds=[call.seconds for call in made.calls],
                cold_calls=sum(call.cold for call in made.calls),
                threads=threads_allowed(),
                busy=meter.busy,
                other_workers=max(workers, other_workers()),
                gpu=gpu,
            )
            self._write(shard, made, speed, started, clock)

    def _write(self, shard: int, made: ShardPredictions, speed: ShardSpeed, started: datetime, clock: float) -> None:
        """Write the predictions, then the record that makes them valid."""
        files = RunFiles(self._folder, len(self._manifest.shards))
        path = files.arrow(shard)
        remove_leftovers(path)
        remove_leftovers(files.record(shard))
        write_predictions(path, made.predictions)
        record = ShardRecord(
            schema=1,
            recipe_sha256=self._manifest.recipe_sha256,
            shard=shard,
            arrow_sha256=file_sha256(path),
            detections=len(made.predictions),
            images=self._manifest.shards[shard].images,
            images_failed=made.failed,
            pixels=made.pixels,
            started=started.isoformat(timespec="seconds"),
            seconds=time.perf_counter() - clock,
            load_seconds=self._load_seconds,
            smallest_batch=made.smallest_batch,
            peak_memory_bytes=peak_resident_bytes(),
            peak_gpu_bytes=peak_gpu_bytes(),
            env=describe_environment(),
            speed=speed,
        )
        write_document(files.record(shard), record)
