"""Measure detectors one after the other, each in its own process, and make the report."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path

from ovd_bench.benchmarks.machine.environment import describe_environment
from ovd_bench.benchmarks.runner.events import Fault
from ovd_bench.benchmarks.runner.subprocesses import child_events
from ovd_bench.benchmarks.speed.inputs import Inputs, save_pixels
from ovd_bench.benchmarks.speed.record import FailedDetector, Measured, SpeedReport
from ovd_bench.benchmarks.speed.request import PIXELS, REQUEST, Done, SpeedRequest, Stage, parse_event
from ovd_bench.detectors.types import Image


def measure_all(
    requests: Sequence[SpeedRequest],
    inputs: Inputs,
    command: str,
    tell: Callable[[str], None],
    *,
    verbose: bool = False,
) -> tuple[SpeedReport, bool]:
    """Measure detectors under equal conditions.

    Args:
        requests: at least one; all with the same plan, batches and calls.
        inputs: images and vocabulary.
        command: command line, for the report.
        tell: called with a line at each stage.
        verbose: show the output of libraries.

    Returns:
        The report, and whether it was interrupted. Then the current detector counts as failed, and later ones are
        missing.
    """
    first = requests[0]
    started = datetime.now(UTC).isoformat(timespec="seconds")
    results: list[Measured | FailedDetector] = []
    interrupted = False
    for request in requests:
        try:
            result = measure_apart(request, inputs.images, tell, verbose=verbose)
        except KeyboardInterrupt:
            result, interrupted = FailedDetector(detector=request.detector, problem="interrupted"), True
        results.append(result)
        if interrupted:
            break
    report = SpeedReport(
        schema=1,
        started=started,
        command=command,
        warm_up=first.warm_up,
        iterations=first.iterations,
        seed=first.seed,
        workload=inputs.workload(first.plan),
        detectors=results,
        env=describe_environment(),
    )
    return report, interrupted


def measure_apart(
    request: SpeedRequest, images: Sequence[Image], tell: Callable[[str], None], *, verbose: bool = False
) -> Measured | FailedDetector:
    """Measure a detector in its own process, so that a crash does not affect this one.

    Args:
        request: what to measure.
        images: used in turns.
        tell: called with a line at each stage.
        verbose: show the output of libraries, and tracebacks.
    """
    module = "ovd_bench.benchmarks.speed.worker"
    with tempfile.TemporaryDirectory(prefix="ovd-bench-") as name:
        folder = Path(name)
        (folder / REQUEST).write_text(request.to_text(), encoding="utf-8")
        save_pixels(folder / PIXELS, images)
        result: Measured | FailedDetector | None = None

        def waiting(line: str) -> None:
            tell(f"{request.detector}: {line}")

        with child_events(module, name, parse=parse_event, last=Done, verbose=verbose, tell=waiting) as events:
            for event in events:
                if isinstance(event, Stage):
                    tell(f"{request.detector}: {event.words}")
                elif isinstance(event, Fault):
                    result = FailedDetector(detector=request.detector, problem=event.reason)
                else:
                    result = event.measured
        assert result is not None  # the last event is one of the two
        return result


def failed(report: SpeedReport) -> bool:
    """Whether a detector, or one of its batch sizes, could not be measured."""
    return any(
        isinstance(one, FailedDetector) or any(batch.problem is not None for batch in one.batches)
        for one in report.detectors
    )
