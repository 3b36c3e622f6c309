"""Text input of all contestants: the output of a frozen text encoder, per token."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from ovd_bench.baselines.text import WIDTH, Frame, PhraseEncoder

#: Separators of phrases: [CLS], [SEP], "." and "?" of BERT's uncased vocabulary.
SEPARATORS = (101, 102, 1012, 1029)
#: Maximum number of cached tokens, 600 MB; then the cache is cleared. Sentences have many more than class names.
_MOST = 400_000
#: Lower bound of the length by which a phrase vector is divided.
_SHORTEST = 1e-6


@dataclass(frozen=True)
class Captions:
    """B captions of T tokens with K phrases, padded: class names ``a. b. c.``, or sentences with phrases in them.

    Attributes:
        tokens: float32 (B, T, C), output of the text encoder; zeros at padding.
        real: bool (B, T), false at padding.
        words: bool (B, K, T), tokens of each phrase; phrases of a sentence may share tokens. All False where a caption
            has fewer phrases, and never [CLS], [SEP], a dot or padding.
    """

    tokens: Tensor
    real: Tensor
    words: Tensor

    @property
    def count(self) -> int:
        """K, maximum number of phrases per caption."""
        return int(self.words.shape[1])

    def phrase_vectors(self) -> Tensor:
        """Mean over the words of each phrase, (B, K, C); zeros where a caption has fewer phrases."""
        shares = self.shares()
        return shares @ self.tokens

    def shares(self) -> Tensor:
        """Weights (B, K, T) that average over the words of each phrase; zeros where a caption has fewer."""
        return self.words / self.words.sum(-1, keepdim=True).clamp(min=1)

    def known(self) -> Tensor:
        """Bool (B, K), false where a caption has fewer phrases."""
        return self.words.any(-1)

    def to(self, device: torch.device | str) -> Captions:
        """On another device."""
        return Captions(self.tokens.to(device), self.real.to(device), self.words.to(device))


class CaptionEncoder:
    """Captions to ``Captions``, on the CPU; phrases are cached.

    This is exact for captions in which phrases do not attend to each other. ``bare``: a phrase and the dot after it are
    encoded together, with positions from 0; [CLS], [SEP] and words without a following dot are encoded alone, as in
    Grounding DINO (``groundingdino/models/GroundingDINO/bertwarper.py``). The frozen encoder was not trained for this,
    so any first word has nearly the same vector. ``framed``: each of these is encoded as [CLS] words [SEP], and [SEP]
    replaces the dot. The numbers are those of ``GroundingDino.read_tokens`` in Jittor.

    Args:
        encoder: the packaged sentence encoder.
        frame: encoding of a phrase.
        mean: float32 (C,), subtracted from each token after division by the length of its phrase's mean vector; None =
            the encoder's output unchanged.
    """

    def __init__(self, encoder: PhraseEncoder, frame: Frame, mean: npt.NDArray[np.float32] | None = None) -> None:
        self._encoder, self._frame, self._mean = encoder, frame, mean
        self._known: dict[tuple[int, ...], npt.NDArray[np.float32]] = {}
        self._kept = 0

    def __call__(
        self,
        ids: npt.NDArray[np.int32],
        real: npt.NDArray[np.bool_],
        words: Sequence[npt.NDArray[np.bool_]] | None = None,
    ) -> Captions:
        """Encode.

        Args:
            ids: (B, T) token ids, with [CLS] and [SEP]; a dot after every class name and every sentence.
            real: (B, T), false at padding.
            words: per caption bool (k, T), tokens of each phrase; None = those of ``listed``.
        """
        if self._kept > _MOST:
            self._known.clear()
            self._kept = 0
        tokens = np.zeros((*ids.shape, WIDTH), np.float32)
        for row, (line, kept) in enumerate(zip(ids, real, strict=True)):
            parts = split(line[kept].tolist())
            tokens[row, : int(kept.sum())] = np.concatenate([self._hidden(part) for part in parts])
        if words is None:
            words = [listed(line, kept) for line, kept in zip(ids, real, strict=True)]
        padded = np.zeros((len(ids), max(map(len, words)), ids.shape[1]), np.bool_)
        for row, own in zip(padded, words, strict=True):
            row[: len(own)] = own
        return Captions(torch.from_numpy(tokens), torch.from_numpy(real), torch.from_numpy(padded))

    def _hidden(self, part: tuple[int, ...]) -> npt.NDArray[np.float32]:
        if part not in self._known:
            read = self._encoder.hidden(part) if self._frame == "bare" else self._framed(part)
            self._known[part] = read if self._mean is None else _unit(part, read) - self._mean
            self._kept += len(part)
        return self._known[part]

    def _framed(self, part: tuple[int, ...]) -> npt.NDArray[np.float32]:
        cls, sep = SEPARATORS[:2]
        words = part[:-1] if part[-1] in SEPARATORS else part
        read = self._encoder.hidden((cls, *words, sep))
        return read[:1] if part == (cls,) else read[1 : 1 + len(part)]


def mean_of_phrases(encoder: PhraseEncoder, frame: Frame, phrases: Sequence[Sequence[int]]) -> npt.NDArray[np.float32]:
    """Mean of the unit vectors of the phrases of a training, (C,).

    Args:
        encoder: the packaged sentence encoder.
        frame: encoding of a phrase.
        phrases: token ids, without separators; each once.

    Raises:
        ValueError: no phrase.
    """
    if not phrases:
        raise ValueError("a centred text encoder needs the phrases of its training, and there is none")
    read = CaptionEncoder(encoder, frame, np.zeros(WIDTH, np.float32))
    means = [read._hidden((*ids, SEPARATORS[2]))[:-1].mean(0, dtype=np.float64) for ids in phrases]
    mean: npt.NDArray[np.float32] = np.mean(means, 0).astype(np.float32)
    return mean


def _unit(part: tuple[int, ...], read: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """Tokens divided by the length of their phrase's mean vector; a separator counts as its own phrase."""
    words = len(part) - (part[-1] in SEPARATORS)
    lengths = np.linalg.norm(read, axis=1, keepdims=True)
    lengths[:words] = np.linalg.norm(read[:words].mean(0)) if words else 0
    scaled: npt.NDArray[np.float32] = read / lengths.clip(min=_SHORTEST)
    return scaled


def listed(ids: npt.NDArray[np.int32], real: npt.NDArray[np.bool_]) -> npt.NDArray[np.bool_]:
    """Tokens of the parts of a caption between separators, bool (k, T): class names, or whole sentences.

    Args:
        ids: (T,) token ids, with [CLS] and [SEP].
        real: (T,), false at padding, which is at the end.
    """
    rows, begin = [], 0
    for part in split(ids[real].tolist()):
        if len(part) > 1:
            row = np.zeros(ids.shape, np.bool_)
            row[begin : begin + len(part) - 1] = True
            rows.append(row)
        begin += len(part)
    return np.stack(rows) if rows else np.zeros((0, *ids.shape), np.bool_)


def split(ids: Sequence[int]) -> list[tuple[int, ...]]:
    """Tokens that are encoded together: each phrase with the separator after it, all others alone."""
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
