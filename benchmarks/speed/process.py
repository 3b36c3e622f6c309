"""A measuring process seen from its parent."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path

from benchmarks.runner.process import _ROOT, _death, _end, _last_line, _python_path
from benchmarks.speed.inputs import save_pixels
from benchmarks.speed.record import Failed, Measured
from benchmarks.speed.request import PIXELS, REQUEST, Done, Fault, SpeedRequest, parse_event
from detectors.types import Image


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
    with tempfile.TemporaryDirectory(prefix="ovd-bench-") as name, tempfile.TemporaryFile() as noise:
        folder = Path(name)
        (folder / REQUEST).write_text(request.model_dump_json())
        save_pixels(folder / PIXELS, images)
        # -P: the folder that people stand in is no place to import from
        process = subprocess.Popen(
            [sys.executable, "-P", "-m", "benchmarks.speed.worker", name, "--parent", str(os.getpid())],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=None if verbose else noise,
            env=os.environ | {"PYTHONPATH": os.pathsep.join([str(_ROOT), *_python_path()])},
            start_new_session=True,  # Ctrl-C is for the parent, which ends the worker
        )
        try:
            assert process.stdout is not None
            for line in process.stdout:
                event = parse_event(line)
                if isinstance(event, Done):
                    return event.measured
                if isinstance(event, Fault):
                    return Failed(detector=request.detector, problem=event.reason)
                tell(f"{request.detector}: {event.words}")
            code = process.wait()
        finally:
            _end(process)
        return Failed(detector=request.detector, problem=_death(code, "" if verbose else _last_line(noise)))
