"""One detector in its own process. Started by an engine, never by hand.

``python -m ovd_bench.benchmarks.runner.worker REQUEST.json --shards all|none|0,3,5 --parent PID``; stdout
carries events (JSON lines), whatever else the libraries print goes to stderr. ``none`` makes only the folder and tells
what is missing.
"""

from __future__ import annotations

import argparse
import functools
import os
import sys
import time
import traceback
from contextlib import ExitStack
from pathlib import Path

from ovd_bench.benchmarks.data.errors import one_line
from ovd_bench.benchmarks.runner.channel import Channel
from ovd_bench.benchmarks.runner.events import End, Fault, Loaded
from ovd_bench.benchmarks.runner.loading import LoadedDetector
from ovd_bench.benchmarks.runner.locks import run_held
from ovd_bench.benchmarks.runner.parent import die_with
from ovd_bench.benchmarks.runner.plan import RunPlan
from ovd_bench.benchmarks.runner.prepare import prepare_run
from ovd_bench.benchmarks.runner.request import RunRequest
from ovd_bench.benchmarks.runner.shards import ShardMaker
from ovd_bench.benchmarks.store.folders import PREDICTIONS, RESULT
from ovd_bench.benchmarks.store.manifest import missing_shards
from ovd_bench.metrics.types import DataError


def work(request: RunRequest, asked: list[int] | None, channel: Channel, started: float) -> None:
    """Make the shards asked for, as far as they are missing; None = all of them, with the run locked.

    Raises:
        DataError, DetectorError, OSError: nothing can be done.
    """
    plan = RunPlan.of(request)
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
        # where all are asked for, "always" has removed them by now
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
            ShardMaker(plan, loaded, folder, manifest, channel, started).make(missing)


def _shards(text: str) -> list[int] | None:
    if text == "all":
        return None
    return [] if text == "none" else [int(part) for part in text.split(",")]


def main() -> None:
    """Entry point of the process."""
    started = time.monotonic()
    parser = argparse.ArgumentParser()
    parser.add_argument("request", type=Path)
    parser.add_argument("--shards", type=_shards, required=True)
    parser.add_argument("--parent", type=int, required=True)
    arguments = parser.parse_args()
    die_with(arguments.parent)
    stream = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)  # what libraries print must not stand among the events
    channel = Channel(stream)
    try:
        work(RunRequest.read(arguments.request), arguments.shards, channel, started)
    except Exception as error:  # noqa: BLE001 - a detector of others may raise anything, at loading too
        traceback.print_exc()
        channel.tell(Fault(reason=one_line(error)))
    else:
        channel.tell(End())
    sys.stderr.flush()
    os._exit(0)  # frameworks may crash on their way out; everything is written and told


if __name__ == "__main__":
    main()
