"""What ``import jittor`` does to the process besides giving a module, and undoing it.

Jittor 1.3.11 switches off the verification of TLS certificates, sets the recursion limit to a million and the stack
limit to 512 MiB, writes variables of its own into the environment, and takes over SIGINT, SIGCHLD, SIGSEGV and others
with a handler that ends the process: Ctrl-C would raise no KeyboardInterrupt, and any child that is killed would take
its parent along. All of it is put back. A chain of 20,000 operators is differentiated and freed within the usual 8 MiB
of stack, so nothing is lost with the limit.
"""

from __future__ import annotations

import ctypes
import os
import resource
import signal
import ssl
import sys
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager

_SIGNALS = (
    signal.SIGSEGV,
    signal.SIGFPE,
    signal.SIGINT,
    signal.SIGCHLD,
    signal.SIGILL,
    signal.SIGBUS,
    signal.SIGQUIT,
)
#: More than ``struct sigaction`` of any Linux needs; it is only carried from one call to the next.
_SIGACTION_BYTES = 512


@contextmanager
def kept_process(environment: Mapping[str, str], hidden: Iterable[str] = ()) -> Iterator[None]:
    """Run the block with other environment variables; put them and all that Jittor changes back afterwards.

    Args:
        environment: variables to set meanwhile.
        hidden: names of variables to remove meanwhile.
    """
    before = dict(os.environ)
    context, recursion = ssl._create_default_https_context, sys.getrecursionlimit()
    stack, handlers = resource.getrlimit(resource.RLIMIT_STACK), _handlers()
    for name in hidden:
        os.environ.pop(name, None)
    os.environ.update(environment)
    try:
        yield
    finally:
        for name in os.environ.keys() - before.keys():
            del os.environ[name]
        os.environ.update({name: value for name, value in before.items() if os.environ.get(name) != value})
        ssl._create_default_https_context = context
        sys.setrecursionlimit(recursion)
        resource.setrlimit(resource.RLIMIT_STACK, stack)
        _restore(handlers)


def _handlers() -> dict[int, ctypes.Array[ctypes.c_char]]:
    """What the C library does on each signal; Python's own table does not see handlers that C code has set."""
    libc, handlers = ctypes.CDLL(None), {}
    for number in _SIGNALS:
        action = ctypes.create_string_buffer(_SIGACTION_BYTES)
        if libc.sigaction(int(number), None, action) == 0:
            handlers[int(number)] = action
    return handlers


def _restore(handlers: Mapping[int, ctypes.Array[ctypes.c_char]]) -> None:
    libc = ctypes.CDLL(None)
    for number, action in handlers.items():
        libc.sigaction(number, action, None)
