"""A worker process that says nothing: where it is, and for how long it may be silent.

A thread of the worker writes what the main thread is doing into a file while nothing is sent, and the parent reads it.
Native code that keeps Python's lock stops this thread as well, so a worker that is about to be ended is asked by a
signal too, whose handler (``faulthandler``) needs no lock. A timer of ``faulthandler`` would need no help either, but
it reads the frames of running threads while they change: a worker that was silent and did not hang died of it.
"""

from __future__ import annotations

import faulthandler
import os
import re
import signal
import sys
import sysconfig
import threading
import time
import traceback
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import IO

#: Seconds of silence after which the user is told; again after twice as long, and so on.
_NOTICE_SECONDS = 60.0
#: Share of the limit after which the trace is written that is read at the limit.
_BEFORE_LIMIT = 0.5
_MOST_TRACE = 1 << 20
#: Seconds that a worker gets to say where it is before it is ended.
_ANSWER_SECONDS = 0.5
#: First words of a worker; until then it imports the suite, which may take long on a busy machine.
_STARTED = b"started\n"
_FRAME = re.compile(r'^  File "(?P<file>.*)", line (?P<line>\d+) in (?P<function>\S+)')
_THREAD = re.compile(r"^(Current thread|Thread) ")

#: Set when an event was sent, in a worker process that is traced.
_spoken = threading.Event()


def trace_silence(descriptor: int, seconds: float) -> None:
    """In the worker: write traces while nothing is sent; see ``spoke``.

    Args:
        descriptor: of an open file.
        seconds: from the last event to the first trace, and between traces.
    """
    faulthandler.register(signal.SIGUSR1, file=descriptor, all_threads=False)
    os.write(descriptor, _STARTED)
    main = threading.main_thread().ident

    def watch() -> None:
        while True:
            if _spoken.wait(seconds):
                _spoken.clear()
            elif main is not None and (frame := sys._current_frames().get(main)) is not None:
                places = reversed(traceback.extract_stack(frame))
                lines = [f'  File "{place.filename}", line {place.lineno} in {place.name}\n' for place in places]
                os.write(descriptor, "".join(["Thread (most recent call first):\n", *lines]).encode(errors="replace"))

    threading.Thread(target=watch, name="silence", daemon=True).start()


def spoke() -> None:
    """In the worker: an event was sent, the silence begins anew."""
    _spoken.set()


class Silence:
    """The parent's view of a silent worker.

    Args:
        traces: file that the worker's traces go into.
        limit: seconds that it may be silent; None = for ever.
        tell: gets a line now and then while it is silent.
    """

    def __init__(self, traces: IO[bytes], limit: float | None, tell: Callable[[str], None]) -> None:
        self._traces, self._limit, self._tell = traces, limit, tell
        self.seconds = _NOTICE_SECONDS if limit is None else min(_NOTICE_SECONDS, _BEFORE_LIMIT * limit)
        self.heard()

    def heard(self) -> None:
        """The worker said something; traces from before are of no interest."""
        self._since, self._next = time.monotonic(), _NOTICE_SECONDS
        self._read_from = os.fstat(self._traces.fileno()).st_size

    def look(self, worker: int) -> str | None:
        """Tell the user if it is time to; the reason why the worker must be ended, or None.

        Args:
            worker: number of its process.
        """
        if self._read_from == 0:
            self.heard()
        silent = time.monotonic() - self._since
        if self._limit is not None and silent >= self._limit:
            with suppress(ProcessLookupError):
                os.kill(worker, signal.SIGUSR1)
                time.sleep(_ANSWER_SECONDS)
            return (
                f"silent for {self._limit:g} s, the limit of --detect-timeout{self._place()}: it hangs, or needs longer"
            )
        if silent >= self._next:
            self._next *= 2
            self._tell(f"silent for {silent:.0f} s, still waiting{self._place()}")
        return None

    def _place(self) -> str:
        """Where the worker's main thread was at its last trace."""
        size = os.fstat(self._traces.fileno()).st_size
        start = max(self._read_from, size - _MOST_TRACE)
        text = os.pread(self._traces.fileno(), size - start, start).decode(errors="replace")
        found = culprit(text)
        return f" ({found})" if found else ""


def culprit(traces: str) -> str:
    """The place that a user can do something about, in the last of the traces; empty = none.

    That is the innermost line in somebody's own file; otherwise in an installed package, otherwise in the suite.
    """
    frames: list[re.Match[str]] = []
    asked = False
    for line in traces.splitlines():
        if _THREAD.match(line):
            if asked and frames:
                break  # the signal may have woken it: what it does since then is not where it was
            asked = line.startswith("Current")
            frames = []  # the main thread, the oldest, comes last
        elif frame := _FRAME.match(line):
            frames.append(frame)
    for kinds in (("own",), ("package", "suite"), ("python",)):
        for frame in frames:
            if _kind(frame["file"]) in kinds:
                return f"{Path(frame['file']).name}:{frame['line']} in {frame['function']}"
    return ""


def _kind(file: str) -> str:
    path = Path(file)
    if {"site-packages", "dist-packages"} & set(path.parts):
        return "package"
    suite = Path(__file__).parents[2]
    if path.is_relative_to(suite) or path.is_relative_to(suite.resolve()):
        return "suite"
    if file.startswith("<") or path.is_relative_to(sysconfig.get_paths()["stdlib"]):
        return "python"
    return "own"
