"""What all contestants are told in words: the output of a text encoder that does not learn, token by token."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from baselines.text import WIDTH, PhraseEncoder

#: [CLS], [SEP], "." and "?" of BERT's uncased vocabulary: what ends a phrase.
SEPARATORS = (101, 102, 1012, 1029)
#: Phrases kept at most; then all are forgotten. A phrase takes about 6 kB.
_MOST = 100_000


@dataclass(frozen=True)
class Captions:
    """B captions ``a. b. c.`` of T tokens, padded.

    Attributes:
        tokens: float32 (B, T, C), output of the text encoder; zeros at padding.
        real: bool (B, T), false at padding.
        phrase_of: int64 (B, T), number of the phrase that a token is a word of, from 0 in the order of the caption; -1
            at [CLS], [SEP], dots and padding.
        count: K, phrases of the caption that has most.
    """

    tokens: Tensor
    real: Tensor
    phrase_of: Tensor
    count: int

    def phrase_vectors(self) -> Tensor:
        """Mean over the words of each phrase, (B, K, C); zeros where a caption has fewer phrases."""
        shares = self.shares()
        return shares @ self.tokens

    def shares(self) -> Tensor:
        """Weights (B, K, T) that average over the words of each phrase; zeros where a caption has fewer."""
        own = self.phrase_of[:, None] == torch.arange(self.count, device=self.phrase_of.device)[:, None]
        return own / own.sum(-1, keepdim=True).clamp(min=1)

    def known(self) -> Tensor:
        """Bool (B, K), false where a caption has fewer phrases."""
        return torch.arange(self.count, device=self.phrase_of.device) <= self.phrase_of.amax(1, keepdim=True)

    def to(self, device: torch.device | str) -> Captions:
        """On another device."""
        return Captions(self.tokens.to(device), self.real.to(device), self.phrase_of.to(device), self.count)


class CaptionEncoder:
    """Captions to ``Captions``, each phrase encoded once ever.

    Exact for captions in which phrases do not see each other: a phrase and the dot behind it are read together, with
    positions from 0; [CLS], [SEP] and words without a dot behind them are read alone, as Grounding DINO reads them
    (``groundingdino/models/GroundingDINO/bertwarper.py``).

    Args:
        encoder: of the packaged sentence encoder.
    """

    def __init__(self, encoder: PhraseEncoder) -> None:
        self._encoder = encoder
        self._known: dict[tuple[int, ...], npt.NDArray[np.float32]] = {}

    def __call__(self, ids: npt.NDArray[np.int32], real: npt.NDArray[np.bool_]) -> Captions:
        """Encode.

        Args:
            ids: (B, T) token ids, with [CLS] and [SEP]; a dot behind every phrase.
            real: (B, T), false at padding.
        """
        if len(self._known) > _MOST:
            self._known.clear()
        tokens = np.zeros((*ids.shape, WIDTH), np.float32)
        phrase_of = np.full(ids.shape, -1, np.int64)
        for row, (line, kept) in enumerate(zip(ids, real, strict=True)):
            column = phrase = 0
            for part in split(line[kept].tolist()):
                tokens[row, column : column + len(part)] = self._hidden(part)
                if len(part) > 1:
                    phrase_of[row, column : column + len(part) - 1] = phrase
                    phrase += 1
                column += len(part)
        count = int(phrase_of.max(initial=-1)) + 1
        return Captions(torch.from_numpy(tokens), torch.from_numpy(real), torch.from_numpy(phrase_of), count)

    def _hidden(self, part: tuple[int, ...]) -> npt.NDArray[np.float32]:
        if part not in self._known:
            self._known[part] = self._encoder.hidden(part)
        return self._known[part]


def split(ids: Sequence[int]) -> list[tuple[int, ...]]:
    """Tokens that are read together: each phrase with the separator behind it, everything else alone."""
    parts: list[tuple[int, ...]] = []
    begin = 0
    for place, token in enumerate(ids):
        if token in SEPARATORS:
            if place in (0, len(ids) - 1):
                parts += [(one,) for one in ids[begin : place + 1]]
            else:
                parts.append(tuple(ids[begin : place + 1]))
            begin = place + 1
    return parts + [(one,) for one in ids[begin:]]
