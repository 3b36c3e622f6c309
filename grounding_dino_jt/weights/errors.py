"""What reading and writing weights can raise."""

from __future__ import annotations


class WeightsError(ValueError):
    """A file that is no Grounding DINO, or not the one it should be; the message is one line and names the file."""
