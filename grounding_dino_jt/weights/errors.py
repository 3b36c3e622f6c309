"""Errors of reading and writing weights."""

from __future__ import annotations


class WeightsError(ValueError):
    """A file that does not contain the expected model.

    Args:
        message: is reduced to one line, because it may contain names from files, which can be any text.
    """

    def __init__(self, message: str) -> None:
        super().__init__("".join(letter if letter.isprintable() else "?" for letter in message))
