"""Several texts about one image: the image is encoded once."""

from __future__ import annotations

from collections.abc import Callable
from typing import Generic, TypeVar

from ovd_bench.detectors.types import Image

Features = TypeVar("Features")


class LastImage(Generic[Features]):
    """Features of the image that was looked at last.

    Attributes:
        encoded: number of images that were encoded so far.

    Args:
        encode: from an image to its features.
    """

    def __init__(self, encode: Callable[[Image], Features]) -> None:
        self.encoded = 0
        self._encode = encode
        self._last: tuple[Image, Features] | None = None

    def __call__(self, image: Image) -> Features:
        """The features of an image; those of the image before are released first."""
        if self._last is None or self._last[0] is not image:
            self._last = None
            self._last = (image, self._encode(image))
            self.encoded += 1
        return self._last[1]
