"""The error of detectors, apart from the value types: whoever only catches it needs no numpy."""

from __future__ import annotations


class DetectorError(ValueError):
    """A detector cannot do what is requested. The message is one line: what is wrong, where, what to do."""
