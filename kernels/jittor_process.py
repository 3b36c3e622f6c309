"""Undoes the side effects of ``import jittor`` on the process.

Jittor 1.3.11 switches off the verification of TLS certificates, sets the recursion limit to a million and the stack
limit to 512 MiB, sets environment variables, and installs a handler for SIGINT, SIGCHLD, SIGSEGV and others that ends
the process: Ctrl-C would raise no KeyboardInterrupt, and killing a child would also end its parent. All of this is
undone. The usual 8 MiB of stack suffice: they are enough to differentiate and free a chain of 20,000 operators.
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
#: More than ``struct sigaction`` needs on any Linux. The content is only saved and restored.
_SIGACTION_BYTES = 512


@contextmanager
def kept_process(environment: Mapping[str, str], hidden: Iterable[str] = ()) -> Iterator[None]:
    """Run the block with other environment variables; afterwards restore them and all that Jittor changes.

    Args:
        environment: variables to set during the block.
        hidden: names of variables to remove during the block.
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
    """The C library's action for each signal; Python's own table does not show handlers that C code has set."""
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
