"""A worker process seen from its parent."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path

from ovd_bench.benchmarks.runner.events import End, Event, Fault, parse_event
from ovd_bench.benchmarks.runner.request import RunRequest
from ovd_bench.benchmarks.runner.subprocesses import running_child


def run_worker(
    request: RunRequest, shards: Sequence[int] | None, listen: Callable[[Event], None], *, verbose: bool = False
) -> None:
    """Run a worker to its end; a death without a last word is told as a ``Fault``.

    Args:
        request: what to run.
        shards: which; None = all, none at all = only make the folder and tell what is missing.
        listen: gets the events as they come.
        verbose: show what the worker's libraries print, and its tracebacks.
    """
    which = "all" if shards is None else ",".join(map(str, shards)) or "none"
    with tempfile.TemporaryDirectory(prefix="ovd-bench-") as folder:
        path = Path(folder) / "request.json"
        path.write_text(request.model_dump_json())
        with running_child(
            "ovd_bench.benchmarks.runner.worker", str(path), "--shards", which, verbose=verbose
        ) as child:
            last: Event | None = None
            for line in child.lines():
                last = parse_event(line.decode())
                listen(last)
            if not isinstance(last, End | Fault):
                listen(Fault(reason=child.death()))
