"""Worker process for one detector. An engine starts it, not a user.

``python -m ovd_bench.benchmarks.runner.worker REQUEST.json --shards all|none|0,3,5 --parent PID``; stdout
carries events (JSON lines), other output goes to stderr. ``none`` makes only the folder and reports what is missing.
"""

from __future__ import annotations

import functools
import time
from contextlib import ExitStack
from pathlib import Path
from typing import TextIO

from ovd_bench.benchmarks.machine.gpus import GpuWatch
from ovd_bench.benchmarks.runner.events import Channel, End, Loaded, Note
from ovd_bench.benchmarks.runner.loading import LoadedDetector
from ovd_bench.benchmarks.runner.locks import run_held
from ovd_bench.benchmarks.runner.plan import RunPlan, prepare_run
from ovd_bench.benchmarks.runner.request import RunRequest
from ovd_bench.benchmarks.runner.shards import ShardMaker
from ovd_bench.benchmarks.runner.subprocesses import child_parser, serve
from ovd_bench.benchmarks.store.folders import PREDICTIONS, RESULT
from ovd_bench.benchmarks.store.manifest import missing_shards
from ovd_bench.detectors.messages import listening
from ovd_bench.metrics.errors import DataError


def work(request: RunRequest, asked: list[int] | None, channel: Channel, started: float) -> None:
    """Make the requested shards that are missing; None = all of them, with the run locked.

    Raises:
        DataError, DetectorError, OSError: the run cannot start.
    """
    plan = RunPlan.of(request)
    watch = None if request.device == "cpu" else GpuWatch()
    with listening(lambda line: channel.tell(Note(text=line))):
        loaded = LoadedDetector.of(plan)
    folder = plan.folder(loaded.info.name, loaded.info.weights_sha256)
    if request.overwrite == "never" and (folder / RESULT).exists():
        channel.tell(Loaded(folder=str(folder), images=0, images_done=0, missing=[], kept=True))
        return
    with ExitStack() as locks:
        (folder / PREDICTIONS).mkdir(parents=True, exist_ok=True)
        if asked is None:
            locks.enter_context(run_held(folder))
        make = functools.partial(plan.manifest, loaded.info, loaded.device)
        manifest = prepare_run(folder, make, overwrite=request.overwrite, whole=not asked)
        shards = asked or list(range(len(manifest.shards)))
        if beyond := [shard for shard in shards if shard >= len(manifest.shards)]:
            raise DataError(f"--shard {beyond[0]}/{len(manifest.shards)}: shards are counted from 0")
        # if all are requested, "always" has removed them already
        missing = shards if request.overwrite == "always" else missing_shards(folder, manifest, shards)
        images = {shard: manifest.shards[shard].images for shard in shards}
        channel.tell(
            Loaded(
                folder=str(folder),
                images=sum(images.values()),
                images_done=sum(count for shard, count in images.items() if shard not in missing),
                missing=missing,
            )
        )
        if missing and asked != []:
            ShardMaker(plan, loaded, folder, manifest, channel, started, watch).make(missing)


def _shards(text: str) -> list[int] | None:
    if text == "all":
        return None
    return [] if text == "none" else [int(part) for part in text.split(",")]


def main() -> None:
    """Entry point of the process."""
    started = time.monotonic()
    parser = child_parser()
    parser.add_argument("request", type=Path)
    parser.add_argument("--shards", type=_shards, required=True)
    arguments = parser.parse_args()

    def events(stream: TextIO) -> None:
        channel = Channel(stream)
        try:
            work(RunRequest.read(arguments.request), arguments.shards, channel, started)
        finally:
            channel.flush()
        channel.tell(End())

    serve(arguments, events)


if __name__ == "__main__":
    main()
