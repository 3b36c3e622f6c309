"""Worker process for one detector; ``benchmarks.speed.command`` starts it, not a user.

``python -m ovd_bench.benchmarks.speed.worker FOLDER --parent PID``; see ``benchmarks.runner.subprocesses.serve``.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TextIO

from ovd_bench.benchmarks.runner.events import send
from ovd_bench.benchmarks.runner.subprocesses import serve
from ovd_bench.benchmarks.speed.inputs import load_pixels
from ovd_bench.benchmarks.speed.measure import measure
from ovd_bench.benchmarks.speed.request import PIXELS, REQUEST, Done, SpeedRequest, Stage


def main() -> None:
    """Entry point of the process."""
    parser = argparse.ArgumentParser()
    parser.add_argument("folder", type=Path)
    parser.add_argument("--parent", type=int, required=True)
    arguments = parser.parse_args()

    def events(stream: TextIO) -> None:
        request = SpeedRequest.model_validate_json((arguments.folder / REQUEST).read_bytes())
        images = load_pixels(arguments.folder / PIXELS)
        measured = measure(request, images, lambda words: send(stream, Stage(words=words)))
        send(stream, Done(measured=measured))

    serve(arguments.parent, events)


if __name__ == "__main__":
    main()
