"""Worker process for one detector; ``benchmarks.speed.command`` starts it, not a user.

``python -m ovd_bench.benchmarks.speed.worker FOLDER --parent PID``; see ``benchmarks.runner.subprocesses.serve``.
"""

from __future__ import annotations

from pathlib import Path
from typing import TextIO

from ovd_bench.benchmarks.runner.events import send
from ovd_bench.benchmarks.runner.subprocesses import child_parser, serve
from ovd_bench.benchmarks.speed.inputs import load_pixels
from ovd_bench.benchmarks.speed.measure import measure
from ovd_bench.benchmarks.speed.request import PIXELS, REQUEST, Done, SpeedRequest, Stage


def main() -> None:
    """Entry point of the process."""
    parser = child_parser()
    parser.add_argument("folder", type=Path)
    arguments = parser.parse_args()

    def events(stream: TextIO) -> None:
        request = SpeedRequest.model_validate_json((arguments.folder / REQUEST).read_bytes())
        images = load_pixels(arguments.folder / PIXELS)
        measured = measure(request, images, lambda words: send(stream, Stage(words=words)))
        send(stream, Done(measured=measured))

    serve(arguments, events)


if __name__ == "__main__":
    main()
