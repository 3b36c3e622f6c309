"""Child processes that run a module of the suite and send events to their parent as JSON lines on stdout.

A worker's ``main`` parses ``child_parser`` and calls ``serve``; its parent reads with ``child_events``.
"""

from __future__ import annotations

import argparse
import itertools
import os
import selectors
import signal
import subprocess
import sys
import tempfile
import traceback
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from os import _exit  # at import time: third-party code is kept from calling it later
from typing import IO, NoReturn, TextIO, TypeVar

import psutil

from ovd_bench.benchmarks.data.errors import one_line
from ovd_bench.benchmarks.data.strict_model import StrictModel
from ovd_bench.benchmarks.runner.die_with_parent import die_with_parent
from ovd_bench.benchmarks.runner.events import Fault, send
from ovd_bench.benchmarks.runner.hangs import Silence, trace_silence

E = TypeVar("E", bound=StrictModel)

#: Modules of the suite that run a detector in a process of its own.
WORKERS = ("ovd_bench.benchmarks.runner.worker", "ovd_bench.benchmarks.speed.worker")

_GRACE_SECONDS = 5.0
#: How soon the end of a child is noticed whose pipe stays open.
_POLL_SECONDS = 0.2
#: Bytes; no event is nearly as long.
_MAX_LINE = 1 << 20


def child_parser() -> argparse.ArgumentParser:
    """Parser with the arguments that ``child_events`` adds."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--parent", type=int, required=True)
    parser.add_argument("--traces", type=int, required=True)
    parser.add_argument("--trace-after", type=float, required=True)
    return parser


def serve(arguments: argparse.Namespace, work: Callable[[TextIO], None]) -> NoReturn:
    """Do a child's work, then end the process. It also ends with its parent; an exception is sent as a ``Fault``.

    Output of libraries on stdout is redirected to stderr, so that the pipe holds only events.

    Args:
        arguments: as parsed by ``child_parser``.
        work: called with the stream of the events, see ``events.send``; must flush it, even if it raises.
    """
    die_with_parent(arguments.parent)
    trace_silence(arguments.traces, arguments.trace_after)
    stream = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    try:
        work(stream)
    except BaseException as error:  # noqa: BLE001 - a third-party detector may raise anything, SystemExit too
        with suppress(OSError):  # a full disk must not keep the event from being sent
            traceback.print_exc()
        send(stream, Fault(reason=one_line(error)))
    sys.stderr.flush()
    _exit(0)  # frameworks may crash at exit, and everything is written and sent


@contextmanager
def child_events(
    module: str,
    *arguments: str,
    parse: Callable[[bytes], E],
    last: type[StrictModel],
    verbose: bool,
    limit: float | None = None,
    tell: Callable[[str], None] = lambda line: None,
) -> Iterator[Iterator[E | Fault]]:
    """Start ``python -m module arguments`` and read its events; the process ends with the block at the latest.

    Args:
        module: of the suite; its ``main`` calls ``serve``.
        arguments: of its command line; those of ``child_parser`` are added.
        parse: an event from its line.
        last: type of the last event of a successful run; a failed one ends with ``Fault``.
        verbose: show its output on stderr.
        limit: seconds without an event after which the process is ended; None = it may take any time.
        tell: gets a line now and then while there is no event.

    Yields:
        The events as they come, then a ``Fault`` if the child ends without a last event.
    """
    with tempfile.TemporaryFile() as noise, tempfile.TemporaryFile(buffering=0) as traces:
        silence = Silence(traces, limit, tell)
        added = ("--parent", os.getpid(), "--traces", traces.fileno(), "--trace-after", silence.seconds)
        # -P: do not import from the current folder
        process = subprocess.Popen(
            [sys.executable, "-P", "-m", module, *arguments, *map(str, added)],
            pass_fds=(traces.fileno(),),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=None if verbose else noise,
            start_new_session=True,  # Ctrl-C is for the parent, which ends the worker
        )
        assert process.stdout is not None
        with process.stdout:
            try:
                yield _events(process, process.stdout, parse, last, noise, silence)
            finally:
                end_processes([process])
                _kill_group(process.pid)


def _events(
    process: subprocess.Popen[bytes],
    stdout: IO[bytes],
    parse: Callable[[bytes], E],
    last: type[StrictModel],
    noise: IO[bytes],
    silence: Silence,
) -> Iterator[E | Fault]:
    for line in _lines(process, stdout):
        if line is None:
            if reason := silence.look(process.pid):
                yield Fault(reason=reason)
                return
            continue
        silence.heard()
        try:
            event = parse(line)
        except ValueError:
            yield Fault(reason=f"the worker process wrote a line that is not an event: {line[:80]!r}")
            return
        yield event
        if isinstance(event, last | Fault):
            return
    how, words = how_it_ended(process.wait()), _last_line(noise)
    yield Fault(reason=f"the worker process {how}" + (f": {words}" if words else ""))


def _lines(process: subprocess.Popen[bytes], stdout: IO[bytes]) -> Iterator[bytes | None]:
    """Lines until the process has ended, even if a child of it keeps the pipe open; None = none for a while."""
    descriptor, rest = stdout.fileno(), b""
    with selectors.DefaultSelector() as selector:
        selector.register(descriptor, selectors.EVENT_READ)
        while len(rest) <= _MAX_LINE:
            ended = process.poll() is not None  # asked first: what it wrote before is in the pipe by now
            if selector.select(0 if ended else _POLL_SECONDS):
                chunk = os.read(descriptor, 1 << 16)
                if not chunk:
                    return
                *lines, rest = (rest + chunk).split(b"\n")
                yield from lines
            elif ended:
                return
            else:
                yield None
    yield rest  # far longer than any event: refused as none


def _kill_group(leader: int) -> None:
    """End what a child left behind: it has a session of its own, so all that it started is in its group."""
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(leader, signal.SIGKILL)


def other_workers() -> int:
    """Number of worker processes of the suite that this system shows, besides this process."""
    processes = psutil.process_iter(["cmdline"])
    return sum(process.pid != os.getpid() and is_worker(process.info["cmdline"] or ()) for process in processes)


def is_worker(command: Sequence[str]) -> bool:
    """Whether a command line is that of a worker: ``python … -m MODULE …``."""
    return any(flag == "-m" and module in WORKERS for flag, module in itertools.pairwise(command))


def end_processes(processes: Iterable[subprocess.Popen[bytes]]) -> None:
    """End processes that still run; only what they have not written yet is lost."""
    running = [process for process in processes if process.poll() is None]
    for process in running:
        process.terminate()
    for process in running:
        try:
            process.wait(_GRACE_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def how_it_ended(code: int) -> str:
    """Description of how a process ended unexpectedly.

    Args:
        code: its exit code; negative: the number of the signal that killed it.
    """
    if code >= 0:
        return f"ended with exit code {code}"
    hint = ", as the system does when memory runs out" if code == -signal.SIGKILL else ""
    return f"was killed by signal {-code} ({signal.Signals(-code).name}){hint}"


def _last_line(noise: IO[bytes]) -> str:
    """The last line that a worker printed on stderr; empty if stderr is the terminal."""
    size = noise.seek(0, os.SEEK_END)
    noise.seek(max(0, size - 4096))
    lines = noise.read().decode(errors="replace").split("\n")
    return next((" ".join(line.split())[:300] for line in reversed(lines) if line.strip()), "")
