"""``python -m ovd_bench.benchmarks.runner.die_with_parent PARENT COMMAND …``: a command that ends when its parent does.

So a study that is killed leaves no training behind that would write into the folder of the next one. The module imports
nothing of the suite: it starts before every step.
"""

from __future__ import annotations

import ctypes
import os
import signal
import sys

_PR_SET_PDEATHSIG = 1


def die_with_parent(parent: int) -> None:
    """Let the system kill this process when its parent ends, however that ends (Linux).

    Args:
        parent: id of the parent's process.

    Raises:
        OSError: the system refuses.
    """
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), "prctl(PR_SET_PDEATHSIG) failed")
    if os.getppid() != parent:  # it ended before the line above
        os.kill(os.getpid(), signal.SIGKILL)


def main() -> None:
    """Entry point of the process."""
    die_with_parent(int(sys.argv[1]))
    os.execv(sys.argv[2], sys.argv[2:])  # the signal that the system sends at the parent's end stays set


if __name__ == "__main__":
    main()
