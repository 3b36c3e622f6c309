"""Resident memory of this process."""

from __future__ import annotations

from pathlib import Path

_STATUS = Path("/proc/self/status")
_CLEAR = Path("/proc/self/clear_refs")


def resident_bytes() -> int:
    """Resident set now."""
    return _status("VmRSS")


def peak_resident_bytes() -> int:
    """Largest resident set since ``restart_peak``, or since the process began where that could not be done."""
    return _status("VmHWM")


def restart_peak() -> bool:
    """Let the peak count from now on; says whether the system allows it."""
    try:
        _CLEAR.write_text("5")  # proc(5): reset the peak resident set size
    except OSError:
        return False
    return True


def _status(name: str) -> int:
    """A size in ``/proc/self/status``, bytes.

    Raises:
        OSError: the system does not tell (not Linux).
    """
    for line in _STATUS.read_text().splitlines():
        if line.startswith(f"{name}:"):
            return int(line.split()[1]) * 1024
    raise OSError(f"{_STATUS} has no {name}")
