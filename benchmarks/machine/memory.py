"""Memory of this process: current and peak use, and detection of out-of-memory errors."""

from __future__ import annotations

import gc
import sys
from pathlib import Path

_STATUS = Path("/proc/self/status")
_CLEAR = Path("/proc/self/clear_refs")

#: Messages of the allocators of torch (CPU) and jittor, whose exceptions are plain ``RuntimeError``.
_WORDS = ("out of memory", "not enough memory", "can't allocate memory", "cannot allocate memory")


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an error is out of memory; recognised by type name and message, so that no framework is imported."""
    if isinstance(error, MemoryError) or any(kind.__name__ == "OutOfMemoryError" for kind in type(error).__mro__):
        return True
    return isinstance(error, RuntimeError) and any(words in str(error).lower() for words in _WORDS)


def free_memory() -> None:
    """Release memory that a failed batch left behind."""
    gc.collect()
    torch = sys.modules.get("torch")
    if torch is not None and torch.cuda.is_initialized():
        torch.cuda.empty_cache()


def resident_bytes() -> int:
    """Resident set now."""
    return _status("VmRSS")


def peak_resident_bytes() -> int:
    """Largest resident set since ``restart_peak``, or since the start of this process image.

    ``ru_maxrss`` would start at the value of the parent that it was forked from.
    """
    return _status("VmHWM")


def restart_peak() -> bool:
    """Restart the peak; returns whether the system supports it."""
    try:
        _CLEAR.write_text("5", encoding="utf-8")  # proc(5): reset the peak resident set size
    except OSError:
        return False
    return True


def peak_gpu_bytes() -> int | None:
    """Peak memory of torch on a GPU; None without one."""
    torch = sys.modules.get("torch")
    if torch is None or not torch.cuda.is_initialized():
        return None
    return int(torch.cuda.max_memory_reserved())


def _status(name: str) -> int:
    """A size in ``/proc/self/status``, bytes.

    Raises:
        OSError: the system does not provide it (not Linux).
    """
    for line in _STATUS.read_text(encoding="utf-8").splitlines():
        if line.startswith(f"{name}:"):
            return int(line.split()[1]) * 1024
    raise OSError(f"{_STATUS} has no {name}")
