"""One detector in its own process. Started by ``benchmarks.speed.process``, never by hand.

``python -m ovd_bench.benchmarks.speed.worker FOLDER --parent PID``; stdout carries events (JSON lines),
whatever else the libraries print goes to stderr.
"""

from __future__ import annotations

import argparse
import os
import sys
import traceback
from pathlib import Path

from ovd_bench.benchmarks.data.errors import one_line
from ovd_bench.benchmarks.runner.parent import die_with
from ovd_bench.benchmarks.speed.inputs import load_pixels
from ovd_bench.benchmarks.speed.measure import measure
from ovd_bench.benchmarks.speed.request import PIXELS, REQUEST, Done, Event, Fault, SpeedRequest, Stage


def main() -> None:
    """Entry point of the process."""
    parser = argparse.ArgumentParser()
    parser.add_argument("folder", type=Path)
    parser.add_argument("--parent", type=int, required=True)
    arguments = parser.parse_args()
    die_with(arguments.parent)
    stream = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)  # what libraries print must not stand among the events

    def tell(event: Event) -> None:
        stream.write(event.model_dump_json() + "\n")
        stream.flush()

    try:
        request = SpeedRequest.model_validate_json((arguments.folder / REQUEST).read_bytes())
        images = load_pixels(arguments.folder / PIXELS)
        tell(Done(measured=measure(request, images, lambda words: tell(Stage(words=words)))))
    except Exception as error:  # noqa: BLE001 - a detector of others may raise anything, at loading too
        traceback.print_exc()
        tell(Fault(reason=one_line(error)))
    sys.stderr.flush()
    os._exit(0)  # frameworks may crash on their way out; everything is told


if __name__ == "__main__":
    main()
