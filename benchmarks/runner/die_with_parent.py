"""``python -m ovd_bench.benchmarks.runner.die_with_parent PARENT COMMAND …``: a command that ends when its parent does.

A killed study must not leave a training behind that writes into the folder of the next one. The module imports nothing
of the suite because it starts before every step.
"""

from __future__ import annotations

import ctypes
import os
import signal
import sys

_PR_SET_PDEATHSIG = 1


def die_with_parent(parent: int) -> None:
    """Ask the system to kill this process when its parent ends for any reason (Linux).

    Args:
        parent: id of the parent's process.

    Raises:
        OSError: the system refuses.
    """
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), "prctl(PR_SET_PDEATHSIG) failed")
    if os.getppid() != parent:  # the parent ended before prctl was called
        os.kill(os.getpid(), signal.SIGKILL)


def main() -> None:
    """Entry point of the process."""
    die_with_parent(int(sys.argv[1]))
    os.execv(sys.argv[2], sys.argv[2:])  # exec keeps the setting of prctl


if __name__ == "__main__":
    main()
