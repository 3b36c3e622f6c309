"""Memory of this process: how much it takes and took, and whether an error says that there was none left."""

from __future__ import annotations

import gc
import sys
from pathlib import Path

_STATUS = Path("/proc/self/status")
_CLEAR = Path("/proc/self/clear_refs")

#: How the allocators of torch (CPU) and jittor word it; their exceptions are plain ``RuntimeError``.
_WORDS = ("out of memory", "not enough memory", "can't allocate memory", "cannot allocate memory")


def is_out_of_memory(error: BaseException) -> bool:
    """Whether less work at once may help; known by name and wording, so that no framework is imported for it."""
    if isinstance(error, MemoryError) or any(kind.__name__ == "OutOfMemoryError" for kind in type(error).__mro__):
        return True
    return isinstance(error, RuntimeError) and any(words in str(error).lower() for words in _WORDS)


def free_memory() -> None:
    """Give back what a failed batch left behind."""
    gc.collect()
    torch = sys.modules.get("torch")
    if torch is not None and torch.cuda.is_initialized():
        torch.cuda.empty_cache()


def resident_bytes() -> int:
    """Resident set now."""
    return _status("VmRSS")


def peak_resident_bytes() -> int:
    """Largest resident set since ``restart_peak``, or of this process image where there was no restart.

    ``ru_maxrss`` would start at that of the parent it was forked from.
    """
    return _status("VmHWM")


def restart_peak() -> bool:
    """Let the peak count from now on; says whether the system allows it."""
    try:
        _CLEAR.write_text("5")  # proc(5): reset the peak resident set size
    except OSError:
        return False
    return True


def peak_gpu_bytes() -> int | None:
    """Most memory that torch held on a graphics processor; None without one."""
    torch = sys.modules.get("torch")
    if torch is None or not torch.cuda.is_initialized():
        return None
    return int(torch.cuda.max_memory_reserved())


def _status(name: str) -> int:
    """A size in ``/proc/self/status``, bytes.

    Raises:
        OSError: the system does not tell (not Linux).
    """
    for line in _STATUS.read_text().splitlines():
        if line.startswith(f"{name}:"):
            return int(line.split()[1]) * 1024
    raise OSError(f"{_STATUS} has no {name}")
