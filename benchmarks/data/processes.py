"""Worker processes that do not run the caller's script again."""

from __future__ import annotations

import sys
from multiprocessing.context import SpawnContext, SpawnProcess
from threading import Lock
from types import ModuleType

_starting = Lock()


class FreshProcess(SpawnProcess):
    """A spawned process that does not import the script of its parent.

    A spawned process of the standard library runs the parent's script again, so a script without
    ``if __name__ == "__main__"`` would start again. The work of this process must come from importable modules.
    """

    def start(self) -> None:
        """Start the process."""
        with _starting:
            main = sys.modules["__main__"]
            # multiprocessing reads from this module which script to run again; without a file it runs none.
            sys.modules["__main__"] = ModuleType("__main__")
            try:
                super().start()
            finally:
                sys.modules["__main__"] = main


class FreshContext(SpawnContext):
    """Start method of ``multiprocessing`` for such processes. Fork is unsafe if the caller runs threads."""

    Process = FreshProcess
