"""Detectors one after the other, and the report on them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import UTC, datetime

from ovd_bench.benchmarks.machine.environment import describe_environment
from ovd_bench.benchmarks.speed.inputs import Inputs
from ovd_bench.benchmarks.speed.process import measure_apart
from ovd_bench.benchmarks.speed.record import Failed, Measured, SpeedReport
from ovd_bench.benchmarks.speed.request import SpeedRequest


def measure_all(
    requests: Sequence[SpeedRequest],
    inputs: Inputs,
    command: str,
    tell: Callable[[str], None],
    *,
    verbose: bool = False,
) -> tuple[SpeedReport, bool]:
    """Measure detectors that differ in nothing but themselves.

    Args:
        requests: at least one; all with the same plan, batches and calls.
        inputs: images and vocabulary.
        command: command line, for the report.
        tell: gets a line at each stage.
        verbose: show what the libraries print.

    Returns:
        The report, and whether it was interrupted; the detector in work then counts as failed and later ones are not in
        it.
    """
    first = requests[0]
    started = datetime.now(UTC).isoformat(timespec="seconds")
    results: list[Measured | Failed] = []
    interrupted = False
    for request in requests:
        try:
            result = measure_apart(request, inputs.images, tell, verbose=verbose)
        except KeyboardInterrupt:
            result, interrupted = Failed(detector=request.detector, problem="interrupted"), True
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


def failed(report: SpeedReport) -> bool:
    """Whether a detector, or one of its batch sizes, could not be measured."""
    return any(
        isinstance(one, Failed) or any(batch.problem is not None for batch in one.batches) for one in report.detectors
    )
