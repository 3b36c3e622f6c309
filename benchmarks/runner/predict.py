"""Predict a run, or some of its shards, with worker processes of an engine; what came of it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from ovd_bench.benchmarks.runner.events import Event, Failed, Fault, Halved, Images, Loaded
from ovd_bench.benchmarks.runner.process import run_worker
from ovd_bench.benchmarks.runner.progress import RunProgress
from ovd_bench.benchmarks.runner.request import RunRequest

#: ``engine(request, listen)``: make all shards and tell what happens.
Engine = Callable[[RunRequest, Callable[[Event], None]], None]


@dataclass
class Outcome:
    """What came of predicting.

    Attributes:
        folder: of the run; None if it never came to be known.
        failed: shards that were given up, with the reason.
        fault: why the engine stopped before its end; empty if it did not.
        kept: nothing was done because the run is to be left as it is.
    """

    folder: Path | None = None
    failed: dict[int, str] = field(default_factory=dict)
    fault: str = ""
    kept: bool = False

    @property
    def problem(self) -> str:
        """Why not everything asked for is there, one line; empty if it is."""
        if not self.failed:
            return self.fault
        shard, reason = next(iter(self.failed.items()))
        more = (
            f"{len(self.failed):,} shards failed, the first is {shard}"
            if len(self.failed) > 1
            else f"shard {shard} failed"
        )
        return f"{more}: {reason}" + (f"; then {self.fault}" if self.fault else "")


def predict(
    request: RunRequest,
    shards: Sequence[int] | None,
    progress: RunProgress,
    *,
    engine: Engine | None = None,
    verbose: bool = False,
) -> Outcome:
    """Make shards (None = all) in a worker process, or all of them with an engine; see ``Outcome``."""
    outcome = Outcome()

    def listen(event: Event) -> None:
        if isinstance(event, Loaded):
            outcome.folder, outcome.kept = Path(event.folder), event.kept
            progress.begin(event.images, event.images_done)
        elif isinstance(event, Images):
            progress.images(event.count)
        elif isinstance(event, Halved):
            progress.note(f"memory ran out: batch {event.batch} from now on")
        elif isinstance(event, Failed):
            if outcome.failed and event.reason not in outcome.failed.values():  # the first one is the problem told
                progress.note(f"shard {event.shard} failed: {event.reason}")
            outcome.failed[event.shard] = event.reason
        elif isinstance(event, Fault):
            outcome.fault = event.reason

    with progress:
        if engine is None:
            run_worker(request, shards, listen, verbose=verbose)
        else:
            engine(request, listen)
    return outcome
