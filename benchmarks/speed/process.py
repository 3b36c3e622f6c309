"""A measuring process seen from its parent."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path

from ovd_bench.benchmarks.runner.subprocesses import running_child
from ovd_bench.benchmarks.speed.inputs import save_pixels
from ovd_bench.benchmarks.speed.record import Failed, Measured
from ovd_bench.benchmarks.speed.request import PIXELS, REQUEST, Done, Fault, SpeedRequest, parse_event
from ovd_bench.detectors.types import Image


def measure_apart(
    request: SpeedRequest, images: Sequence[Image], tell: Callable[[str], None], *, verbose: bool = False
) -> Measured | Failed:
    """Measure a detector in a process of its own; whatever becomes of it, this one goes on.

    Args:
        request: what to measure.
        images: that take turns.
        tell: gets a line at each stage.
        verbose: show what the libraries print, and tracebacks.
    """
    with tempfile.TemporaryDirectory(prefix="ovd-bench-") as name:
        folder = Path(name)
        (folder / REQUEST).write_text(request.model_dump_json())
        save_pixels(folder / PIXELS, images)
        with running_child("ovd_bench.benchmarks.speed.worker", name, verbose=verbose) as child:
            for line in child.lines():
                event = parse_event(line)
                if isinstance(event, Done):
                    return event.measured
                if isinstance(event, Fault):
                    return Failed(detector=request.detector, problem=event.reason)
                tell(f"{request.detector}: {event.words}")
            return Failed(detector=request.detector, problem=child.death())
