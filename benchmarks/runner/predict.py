"""Predict a run or some of its shards, in a worker process or with an engine."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from ovd_bench.benchmarks.runner.events import End, Event, Fault, Halved, Images, Loaded, Note, ShardFailed, parse_event
from ovd_bench.benchmarks.runner.progress import RunProgress
from ovd_bench.benchmarks.runner.request import RunRequest
from ovd_bench.benchmarks.runner.subprocesses import child_events

#: ``engine(request, listen)``: make all shards and report events to ``listen``.
Engine = Callable[[RunRequest, Callable[[Event], None]], None]


@dataclass
class PredictOutcome:
    """Outcome of predicting.

    Attributes:
        folder: of the run; None if the worker failed before it reported the folder.
        failed: failed shards, with the reason.
        fault: why the engine stopped early; empty if it did not.
        kept: nothing was done because ``overwrite`` is ``never``.
    """

    folder: Path | None = None
    failed: dict[int, str] = field(default_factory=dict)
    fault: str = ""
    kept: bool = False

    @property
    def problem(self) -> str:
        """Why requested shards are missing, one line; empty if none is."""
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
) -> PredictOutcome:
    """Make shards (None = all) in a worker process, or all of them with an engine; see ``PredictOutcome``."""
    outcome = PredictOutcome()

    def listen(event: Event) -> None:
        if isinstance(event, Loaded):
            outcome.folder, outcome.kept = Path(event.folder), event.kept
            progress.begin(event.images, event.images_done)
        elif isinstance(event, Images):
            progress.images(event.count)
        elif isinstance(event, Note):
            progress.note(event.text)
        elif isinstance(event, Halved):
            progress.note(f"memory ran out: batch {event.batch} from now on")
        elif isinstance(event, ShardFailed):
            if outcome.failed and event.reason not in outcome.failed.values():  # the first is the reported problem
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


def run_worker(
    request: RunRequest, shards: Sequence[int] | None, listen: Callable[[Event], None], *, verbose: bool = False
) -> None:
    """Run a worker to its end; if it ends without a last event, a ``Fault`` is reported.

    Args:
        request: what to run.
        shards: numbers of the shards; None = all, empty = only make the folder and report what is missing.
        listen: called with every event.
        verbose: show what the worker's libraries print, and its tracebacks.
    """
    which = "all" if shards is None else ",".join(map(str, shards)) or "none"
    module = "ovd_bench.benchmarks.runner.worker"
    with tempfile.TemporaryDirectory(prefix="ovd-bench-") as folder:
        path = Path(folder) / "request.json"
        path.write_text(request.to_text(), encoding="utf-8")
        arguments = (str(path), "--shards", which)
        with child_events(
            module,
            *arguments,
            parse=parse_event,
            last=End,
            verbose=verbose,
            limit=request.detect_timeout,
            tell=lambda line: listen(Note(text=line)),
        ) as events:
            for event in events:
                listen(event)
