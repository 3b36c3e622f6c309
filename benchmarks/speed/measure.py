"""Measure one detector in this process, which should do nothing else."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable, Sequence

import numpy as np

from ovd_bench.benchmarks.data.errors import one_line
from ovd_bench.benchmarks.machine import gpus
from ovd_bench.benchmarks.machine.cpu_load import Busy, LoadMeter
from ovd_bench.benchmarks.machine.device import Device
from ovd_bench.benchmarks.machine.environment import describe_environment
from ovd_bench.benchmarks.machine.memory import (
    free_memory,
    is_out_of_memory,
    peak_resident_bytes,
    resident_bytes,
    restart_peak,
)
from ovd_bench.benchmarks.runner.loading import choose_device, seed_everything
from ovd_bench.benchmarks.speed.flops import count_flops
from ovd_bench.benchmarks.speed.inputs import batches
from ovd_bench.benchmarks.speed.machine_idle import exclusive_use
from ovd_bench.benchmarks.speed.record import Batch, Flops, Measured, Memory, Start, Timing
from ovd_bench.benchmarks.speed.request import SpeedRequest
from ovd_bench.benchmarks.store.describe import detector_info
from ovd_bench.detectors.interface import Detector, DetectorSettings
from ovd_bench.detectors.registry import find_card, load_detector
from ovd_bench.detectors.types import Detections, DetectorError, Image


def measure(request: SpeedRequest, images: Sequence[Image], tell: Callable[[str], None]) -> Measured:
    """Load the detector and measure it for each batch size, smallest first.

    A batch size that does not fit into memory is recorded as a problem; larger ones are not tried.

    Args:
        request: what to measure.
        images: used in turns.
        tell: called with a few words at each stage.

    Raises:
        DetectorError: the detector cannot be loaded, or breaks its contract.
    """
    tell("checking whether the machine is idle")
    gpu_before = None if request.device == "cpu" else gpus.look()
    with LoadMeter() as idle:
        time.sleep(request.idle_seconds)
    session = _Session(request, images)
    tell("loading")
    session.start()
    for batch in sorted(set(request.batches)):
        if all(done.problem is None for done in session.batches):
            tell(f"batch of {batch}{session.patience(batch)}")
            session.time_batch(batch)
    device, gpu_evidence = session.device, None
    if device.is_gpu:
        gpu_evidence = gpus.GpuEvidence(gpu_before, gpus.look(), device.uuid(), os.getpid())
    tell("counting operations")
    flops, notes = session.flops()
    env = describe_environment()
    info = detector_info(session.detector.card, request.detector)
    torch = sys.modules.get("torch") if info.framework == "torch" else None
    model = (device.model() or ", ".join(env.gpus)) if device.is_gpu else env.cpu
    return Measured(
        detector=info,
        device=device.name,
        device_name=model,
        dtype=request.dtype,
        threads=None if torch is None else torch.get_num_threads(),
        start=session.begun,
        batches=session.batches,
        memory=session.memory(),
        flops=flops,
        machine=exclusive_use(idle.busy, session.watched(), env.cores, gpu_evidence),
        notes=notes,
    )


def seconds_of(call: Callable[[], object], device: Device) -> float:
    """Wall time of one call; the device is idle before and after it."""
    device.synchronize()
    start = time.perf_counter()
    call()
    device.synchronize()
    return time.perf_counter() - start


def summarize(warm_up: Sequence[float], calls: Sequence[float], batch: int) -> Timing:
    """Statistics of timed calls.

    Args:
        warm_up: seconds of the calls before the timed ones.
        calls: seconds of the timed calls, at least one.
        batch: images per call.
    """
    ms = np.array(calls) * 1000 / batch
    p50, p95 = np.percentile(ms, (50, 95), method="linear").tolist()
    return Timing(
        call_seconds=list(calls),
        warm_up_seconds=list(warm_up),
        p50_ms=p50,
        p95_ms=p95,
        min_ms=float(ms.min()),
        max_ms=float(ms.max()),
        mean_ms=float(ms.mean()),
        sd_ms=float(ms.std(ddof=1)) if len(ms) > 1 else None,
        images_per_second=batch * len(calls) / sum(calls),
    )


class _Session:
    """State of the measurement of a detector.

    Attributes:
        device, detector: set by ``start``.
        begun: times of the start.
        batches: measurements so far.
    """

    device: Device
    detector: Detector
    begun: Start

    def __init__(self, request: SpeedRequest, images: Sequence[Image]) -> None:
        self.batches: list[Batch] = []
        self._request, self._images = request, images
        self._before_load = resident_bytes()
        self._loaded = 0
        self._peaks: list[int] = []
        self._gpu_peaks: list[int | None] = []

    def start(self) -> None:
        """Load, set the vocabulary, detect once."""
        request = self._request
        with LoadMeter() as meter:
            load = self._load()
            text = seconds_of(lambda: self.detector.set_vocabulary(request.vocabulary, request.plan), self.device)
            self._loaded = resident_bytes()
            first = self._seconds(batches(self._images, 1, 1)[0])
        self.begun = Start(
            load_seconds=load,
            vocabulary_seconds=text,
            first_detection_seconds=first,
            total_seconds=load + text + first,
            busy=meter.busy,
        )
        self._note_peaks()

    def _load(self) -> float:
        """Seconds to a loaded detector, with the choice of the device, which imports the framework."""
        request, begin = self._request, time.perf_counter()
        self.device = Device(choose_device(request.device, find_card(request.detector).framework))
        seed_everything(request.seed)
        settings = DetectorSettings(weights=request.weights, device=self.device.name, dtype=request.dtype)
        self.detector = load_detector(request.detector, settings)
        self.device.synchronize()
        return time.perf_counter() - begin

    def patience(self, batch: int) -> str:
        """Expected duration, if it is long; else empty."""
        calls = self._request.warm_up + self._request.iterations
        minutes = self.begun.first_detection_seconds * batch * calls / 60
        return f", {calls} calls, up to {minutes:.0f} minutes" if minutes > 1 else ""

    def time_batch(self, batch: int) -> None:
        """Warm up, then time calls with this many images; lack of memory is recorded as this batch size's problem."""
        request = self._request
        calls = batches(self._images, batch, request.warm_up + request.iterations)
        restarted = restart_peak()
        self.device.restart_peak()
        timing, busy, problem = None, None, None
        try:
            warm_up = [self._seconds(call) for call in calls[: request.warm_up]]
            with LoadMeter() as meter:
                seconds = [self._seconds(call) for call in calls[request.warm_up :]]
            timing, busy = summarize(warm_up, seconds, batch), meter.busy
        except Exception as error:
            if not is_out_of_memory(error):
                raise
            problem = f"memory ran out: {one_line(error)}"
        if problem is not None:
            free_memory()  # after the except block: the error kept the frames that hold the tensors
        self._note_peaks()
        self.batches.append(
            Batch(
                batch=batch,
                timing=timing,
                peak_memory_bytes=self._peaks[-1] if restarted else None,
                peak_gpu_bytes=self._gpu_peaks[-1],
                busy=busy,
                problem=problem,
            )
        )

    def flops(self) -> tuple[Flops | None, list[str]]:
        """Operations of one image, or a note why they could not be counted."""
        try:
            return count_flops(self.detector, batches(self._images, 1, 1)[0][0]), []
        except Exception as error:  # noqa: BLE001 - counting looks into operators of others; the times are still good
            return None, [f"operations could not be counted: {one_line(error)}"]

    def memory(self) -> Memory:
        """Peak memory of all calls so far."""
        return Memory(
            before_load_bytes=self._before_load,
            loaded_bytes=self._loaded,
            peak_bytes=max(self._peaks),
            peak_gpu_bytes=max((peak for peak in self._gpu_peaks if peak is not None), default=None),
            gpu_kind=self.device.peak_bytes()[1],
        )

    def watched(self) -> dict[str, Busy]:
        """Load by others, by the name of the measurement."""
        timed = {f"batch of {one.batch}": one.busy for one in self.batches if one.busy is not None}
        return {"start": self.begun.busy} | timed

    def _note_peaks(self) -> None:
        self._peaks.append(peak_resident_bytes())
        self._gpu_peaks.append(self.device.peak_bytes()[0])

    def _seconds(self, images: list[Image]) -> float:
        return seconds_of(lambda: self._detect(images), self.device)

    def _detect(self, images: list[Image]) -> None:
        found = self.detector.detect(images)
        if not isinstance(found, list) or len(found) != len(images) or not isinstance(found[0], Detections):
            raise DetectorError("detect() must return a list of Detections, one per image: see 'bench check'")
