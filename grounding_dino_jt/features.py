"""Features of images independent of text, and of captions independent of images."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt


@dataclass(frozen=True)
class ImageFeatures:
    """A batch of images (B images, N positions, L levels, d channels). It is never modified.

    These features do not depend on text, so they are computed once per image for all chunks of classes.

    Attributes:
        features: (B, N, d), levels one after the other; with fusion, as normalised by the first fusion layer.
        positions: (B or 1, N, d).
        shapes: height and width of each level.
        valid_ratios: (B or 1, L, 2), share of each padded map that shows the image, x and y.
        references: (B or 1, N, L, 2), centres of the cells in the frame of each level.
        proposals: (B or 1, N, 4), a box around each cell as logits of cxcywh; +inf if not usable.
        usable: float32 (B or 1, N, 1), 1 or 0.
        padding: bool (B, N), true at padding; None = no padding.
    """

    features: Any
    positions: Any
    shapes: list[tuple[int, int]]
    valid_ratios: npt.NDArray[np.float32]
    references: Any
    proposals: Any
    usable: Any
    padding: Any = None


@dataclass(frozen=True)
class TextFeatures:
    """A batch of captions (B captions, n tokens, d channels). It is never modified.

    Attributes:
        ids: int32 (B, n), zeros at padding.
        real: bool (B, n), false at padding.
        features: (B, n, d), projected output of the text encoder.
        positions: (B, n, d), embedding of the position within the phrase.
        bias: float32 (B, 1, n, n), added to attention logits: 0 where a token attends to another, -inf where not.
        padding: bool (B, n), true at padding; None = no padding.
    """

    ids: npt.NDArray[np.int32]
    real: npt.NDArray[np.bool_]
    features: Any
    positions: Any
    bias: Any
    padding: Any = None

    def __len__(self) -> int:
        return len(self.ids)
