"""Errors of reading and writing weights."""

from __future__ import annotations


class WeightsError(ValueError):
    """A file that does not contain the expected model.

    Args:
        message: made one line; names of tensors come from files and can hold anything.
    """

    def __init__(self, message: str) -> None:
        super().__init__("".join(letter if letter.isprintable() else "?" for letter in message))
