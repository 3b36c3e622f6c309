"""Training batches in plain numpy, so that any reader can feed the trainer. No framework."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from ovd_bench.grounding_dino_jt.tokens import TokenBatch


@dataclass(frozen=True)
class Targets:
    """Targets of one image with its caption (n boxes, T token columns of the batch).

    Attributes:
        boxes: float32 (n, 4) cxcywh, relative to the image (not to the padded batch), inside 0 … 1, sides > 0.
        phrases: int64 (n,), number of the box's phrase within its caption, 0, 1, 2 … in the order of the caption. It is
            the index into the label embedding of the denoising queries and independent of the class itself.
        token_map: bool (n, T), true at the tokens of the caption that belong to the box; never at [CLS], [SEP], a
            separator or padding, and true somewhere in every row.
        dropped: number of other boxes of the image that do not fit into its caption; for the log.
    """

    boxes: npt.NDArray[np.float32]
    phrases: npt.NDArray[np.int64]
    token_map: npt.NDArray[np.bool_]
    dropped: int = 0

    def __len__(self) -> int:
        return len(self.boxes)


@dataclass(frozen=True)
class TrainingBatch:
    """B images, each with its own caption.

    Attributes:
        images: uint8 (B, H, W, 3) RGB; smaller images are in the upper left corner.
        sizes: int64 (B, 2), height and width of each image.
        tokens: tokens of the captions, with [CLS] and [SEP], padded to the longest; at most ``max_text_len`` columns.
        targets: targets of each image.
    """

    images: npt.NDArray[np.uint8]
    sizes: npt.NDArray[np.int64]
    tokens: TokenBatch
    targets: Sequence[Targets]

    def __len__(self) -> int:
        return len(self.images)

    def split(self, parts: int) -> list[TrainingBatch]:
        """The batch in equal pieces, in order; all keep the padded size of the whole batch."""
        size = len(self) // parts
        return [
            TrainingBatch(
                self.images[begin : begin + size],
                self.sizes[begin : begin + size],
                TokenBatch(self.tokens.ids[begin : begin + size], self.tokens.real[begin : begin + size]),
                self.targets[begin : begin + size],
            )
            for begin in range(0, size * parts, size)
        ]

    def padding(self) -> npt.NDArray[np.bool_] | None:
        """Bool (B, H, W), true at padding; None = every image fills the batch."""
        height, width = self.images.shape[1:3]
        if (self.sizes == (height, width)).all():
            return None
        rows = np.arange(height)[None, :, None] >= self.sizes[:, 0, None, None]
        columns = np.arange(width)[None, None] >= self.sizes[:, 1, None, None]
        padding: npt.NDArray[np.bool_] = rows | columns
        return padding
