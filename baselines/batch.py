"""Training batches in plain numpy, independent of framework and file format."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt


class Batch(NamedTuple):
    """Batch of one step: B images of equal size and their objects, of K classes.

    Attributes:
        images: uint8 (B, H, W, 3), RGB.
        boxes_xyxy: per image float32 (n, 4), pixels.
        rows: per image int64 (n,), class of each box, 0 … K - 1.
        sure: bool (B, K), False for classes that are not annotated exhaustively in the image.
    """

    images: npt.NDArray[np.uint8]
    boxes_xyxy: Sequence[npt.NDArray[np.float32]]
    rows: Sequence[npt.NDArray[np.int64]]
    sure: npt.NDArray[np.bool_]
