"""Inputs that comparisons of the whole network draw from: odd images and odd captions."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from ovd_bench.detectors.coco_classes import COCO_NAMES

COCO = ". ".join(COCO_NAMES) + "."


#: Captions of a batch by what is odd about them.
CAPTIONS: dict[str, tuple[str, ...]] = {
    "one class": ("a cat.",),
    "80 classes": (COCO,),
    "no final dot": ("a cat. a remote control",),
    "no final dot, padded": ("a cat. a remote control", "a very small dog on a long wooden bench. tree."),
    "question marks and dots inside": ("dr. pepper? mr. t. what is it? 3.5 inch disk.",),
    "not ASCII": ("café crème. größe. 日本語. 😀 smile.",),
    "more than 256 tokens": (COCO + " " + COCO,),
    "different lengths": ("dog.", "a striped red star left of two blue rings. zebra. giraffe."),
    "same twice": ("a dog. a cat.", "a dog. a cat."),
}


@dataclass(frozen=True)
class Draw:
    """One batch: sizes of its images (height, width), padded to the largest, and its captions."""

    name: str
    sizes: tuple[tuple[int, int], ...]
    captions: tuple[str, ...]
    seed: int

    def pixels(self) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.bool_]]:
        """Smooth noise (B, 3, H, W), zero at padding, and the padding (B, H, W)."""
        rng = np.random.default_rng(self.seed)
        height, width = (max(size[axis] for size in self.sizes) for axis in (0, 1))
        pixels = np.zeros((len(self.sizes), 3, height, width), np.float32)
        padding = np.ones((len(self.sizes), height, width), np.bool_)
        for row, (h, w) in enumerate(self.sizes):
            coarse = rng.standard_normal((3, h // 8 + 1, w // 8 + 1)).repeat(8, 1).repeat(8, 2)[:, :h, :w]
            pixels[row, :, :h, :w] = coarse + 0.3 * rng.standard_normal((3, h, w))
            padding[row, :h, :w] = False
        return pixels, padding


def draws(sides: dict[str, tuple[int, int]]) -> list[Draw]:
    """At least 20 batches: every caption on two kinds of image each, every kind of image more than once.

    Args:
        sides: height and width by what is odd about an image.
    """
    kinds = list(sides.items())
    found: list[Draw] = []
    for number, (name, captions) in enumerate(CAPTIONS.items()):
        for turn in range(3 if number < 3 else 2):
            kind, size = kinds[(2 * number + turn) % len(kinds)]
            others = [kinds[(2 * number + turn + other) % len(kinds)][1] for other in range(1, len(captions))]
            found.append(Draw(f"{name}, {kind}", (size, *others), captions, seed=len(found)))
    return found
