"""Worker processes that leave the caller's script alone."""

from __future__ import annotations

import sys
from multiprocessing.context import SpawnContext, SpawnProcess
from threading import Lock
from types import ModuleType

_starting = Lock()


class FreshProcess(SpawnProcess):
    """A process started afresh that does not know the script of its parent.

    A spawned process of the standard library runs the parent's script again, so a script without
    ``if __name__ == "__main__"`` would start itself over. What such a process runs must come from importable modules.
    """

    def start(self) -> None:
        """Start the process."""
        with _starting:
            main = sys.modules["__main__"]
            # The new process is told which file to run again from this module; one without a file says none.
            sys.modules["__main__"] = ModuleType("__main__")
            try:
                super().start()
            finally:
                sys.modules["__main__"] = main


class FreshContext(SpawnContext):
    """Start method of ``multiprocessing`` for such processes. A fork would copy whatever threads the caller runs."""

    Process = FreshProcess
