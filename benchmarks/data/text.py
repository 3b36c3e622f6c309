"""Text from untrusted files for output on a terminal, and messages on unknown names."""

from __future__ import annotations

from ovd_bench.detectors.near_names import unknown_name

__all__ = ["printable", "unknown_name"]  # rooms that know no detectors get both here


def printable(text: str) -> str:
    """One line without control characters: line breaks and tabs become spaces, other unprintable ones ``?``."""
    return "".join(c if c.isprintable() else "?" for c in " ".join(text.split()))
