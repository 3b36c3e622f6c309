"""Configuration of ``owl-nano``."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class OwlNanoConfig:
    """Sizes and the two choices in which the trained arms differ.

    Attributes:
        widths: channels at stride 4, 8, 16.
        depths: blocks at stride 4, 8, 16.
        window: side of an attention window, in cells; image sides are multiples of ``16 * window``.
        neck: channels of the grid of image tokens at stride 8.
        embedding: width in which image tokens and phrases are compared.
        text_width: width of the phrase vectors.
        assignment: positive cells of an object: ``one_to_many``, the best aligned seven, duplicates removed by NMS;
            ``hungarian``, exactly one, no NMS, as in the published OWL-ViT.
        classifier: representation of a class: ``text``, its projected phrase vector; ``learned``, a free vector per
            class seen in training; other classes are not detected.
        classes: number of learned class vectors; 0 with ``text``.

    Raises:
        ValueError: a size out of range, an unknown choice, or ``classes`` that does not fit ``classifier``.
    """

    widths: tuple[int, int, int] = (32, 64, 128)
    depths: tuple[int, int, int] = (2, 2, 3)
    window: int = 6
    neck: int = 64
    embedding: int = 64
    text_width: int = 384
    assignment: Literal["one_to_many", "hungarian"] = "one_to_many"
    classifier: Literal["text", "learned"] = "text"
    classes: int = 0

    def __post_init__(self) -> None:
        sizes = (*self.widths, *self.depths, self.window, self.neck, self.embedding, self.text_width)
        if len(self.widths) != 3 or len(self.depths) != 3 or not 1 <= min(sizes) <= max(sizes) <= 4096:
            raise ValueError("owl-nano: sizes must be 1 to 4096, three widths and three depths")
        if self.assignment not in ("one_to_many", "hungarian") or self.classifier not in ("text", "learned"):
            raise ValueError(f"owl-nano: no assignment '{self.assignment}' or classifier '{self.classifier}'")
        if (self.classifier == "learned") != (self.classes > 0):
            raise ValueError(f"owl-nano: classifier '{self.classifier}' with {self.classes} learned classes")

    @property
    def multiple(self) -> int:
        """Both sides of an input image must be multiples of this, pixels."""
        return 16 * self.window
