"""The caption of a record and the phrases of its boxes."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

#: Rows of the label embedding of Grounding DINO's denoising queries, the limit of phrase numbers.
MAX_PHRASES = 256


@dataclass(frozen=True)
class Dropped:
    """Boxes that were left out because of their caption.

    Attributes:
        over_budget: number of boxes whose phrase did not fit into the caption.
        wordless: number of boxes whose character spans hold no word.
    """

    over_budget: int = 0
    wordless: int = 0

    def __len__(self) -> int:
        return self.over_budget + self.wordless


@dataclass(frozen=True)
class Captioned:
    """A caption and the positions of its boxes' names (k boxes kept, T tokens).

    Attributes:
        ids: T token ids, [CLS] and [SEP] included.
        kept: int64 (k,), rows of the boxes that have a phrase, ascending.
        phrases: int64 (k,), number of the phrase in the order of the caption, below ``MAX_PHRASES``.
        token_map: bool (k, T), true at the tokens of the box's phrase.
        dropped: counts of the other boxes.
    """

    ids: tuple[int, ...]
    kept: npt.NDArray[np.int64]
    phrases: npt.NDArray[np.int64]
    token_map: npt.NDArray[np.bool_]
    dropped: Dropped
