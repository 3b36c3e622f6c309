"""Text from untrusted files for output on a terminal."""

from __future__ import annotations


def printable(text: str) -> str:
    """One line without control characters: line breaks and tabs become spaces, other unprintable ones ``?``."""
    return "".join(c if c.isprintable() else "?" for c in " ".join(text.split()))
