"""Attention masks and frames of the tokens of captions. Numpy only."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt

#: [CLS], [SEP], "." and "?" of BERT's uncased vocabulary: what ends a phrase.
BERT_SEPARATORS = (101, 102, 1012, 1029)

#: End of text in CLIP's vocabulary. A caption for CLIP is this token, then each phrase between start (49406) and end of
#: text, then this token again, so each phrase has the form that CLIP was trained on.
CLIP_SEPARATORS = (49407,)


@dataclass(frozen=True)
class TokenBatch:
    """Captions as tokens (B captions, n columns).

    Attributes:
        ids: int32 (B, n), padded with zeros.
        real: bool (B, n), false at padding.
    """

    ids: npt.NDArray[np.int32]
    real: npt.NDArray[np.bool_]

    @staticmethod
    def of(rows: Sequence[Sequence[int]]) -> TokenBatch:
        """Token ids of several captions, padded to the longest."""
        longest = max((len(row) for row in rows), default=0)
        ids = np.zeros((len(rows), longest), np.int32)
        real = np.zeros((len(rows), longest), np.bool_)
        for number, row in enumerate(rows):
            ids[number, : len(row)], real[number, : len(row)] = row, True
        return TokenBatch(ids, real)


def phrase_parts(
    ids: Sequence[int], columns: int, separators: Sequence[int] = BERT_SEPARATORS
) -> list[tuple[int, ...]]:
    """Groups of tokens of a caption that attend to each other in ``phrase_masks``, in order.

    Args:
        ids: token ids of the caption, without padding.
        columns: number of columns of its batch; a separator in the last column is a group of its own.
        separators: token ids.
    """
    parts: list[tuple[int, ...]] = []
    begin = 0
    for place, token in enumerate(ids):
        if token in separators:
            if place in (0, columns - 1):
                # a separator in the first or last column is alone, and tokens before the last one are separate
                parts += [(one,) for one in ids[begin : place + 1]]
            else:
                parts.append(tuple(ids[begin : place + 1]))
            begin = place + 1
    return parts + [(one,) for one in ids[begin:]]


def phrase_frames(
    tokens: TokenBatch, separators: Sequence[int] = BERT_SEPARATORS
) -> tuple[TokenBatch, npt.NDArray[np.int32]]:
    """Each distinct phrase of some captions as a separate text: [CLS] phrase [SEP].

    The frame's [SEP] replaces the separator after a phrase. A token outside a phrase has its own frame; the caption's
    [CLS] and [SEP] use the frame without words.

    Returns:
        The frames (F of m columns), and int32 (B, n): where in the flattened frames (F * m) each token of the captions
        is read; 0 at padding.
    """
    cls, sep = separators[:2]
    numbers: dict[tuple[int, ...], int] = {}
    frame, place = np.zeros((2, *tokens.ids.shape), np.int32)
    for row, (ids, real) in enumerate(zip(tokens.ids, tokens.real, strict=True)):
        column = 0
        for part in phrase_parts(ids[real].tolist(), tokens.ids.shape[1], separators):
            words = part[:-1] if part[-1] in separators else part
            end = column + len(part)
            frame[row, column:end] = numbers.setdefault(words, len(numbers))
            place[row, column:end] = 0 if part == (cls,) else 1 + np.arange(len(part))
            column = end
    frames = TokenBatch.of([[cls, *words, sep] for words in numbers])
    return frames, np.where(tokens.real, frame * frames.ids.shape[1] + place, 0).astype(np.int32)


def phrase_masks(
    ids: npt.NDArray[np.int32], separators: Sequence[int] = BERT_SEPARATORS
) -> tuple[npt.NDArray[np.bool_], npt.NDArray[np.int32]]:
    """Sub-sentence masks and positions (``bertwarper.py``, generate_masks_with_special_tokens_and_transfer_map).

    A phrase and the separator after it attend to each other and have positions from 0. All other tokens attend only to
    themselves and have position 0: a separator in the first or last column, padding, and the tokens of a phrase without
    a following separator before the last column.

    Args:
        ids: (B, n), padding included: whether a separator is in the last column depends on it, as officially.
        separators: token ids.

    Returns:
        Mask (B, n, n), true where the token of the row attends to that of the column, and positions (B, n).
    """
    batch, columns = ids.shape
    mask = np.repeat(np.eye(columns, dtype=np.bool_)[None], batch, axis=0)
    positions = np.zeros((batch, columns), np.int32)
    for row, found in enumerate(np.isin(ids, separators)):
        before = 0
        for column in np.flatnonzero(found):
            if 0 < column < columns - 1:
                mask[row, before + 1 : column + 1, before + 1 : column + 1] = True
                positions[row, before + 1 : column + 1] = np.arange(column - before)
            before = int(column)
    return mask, positions


def prompt_masks(
    tokens: TokenBatch, prompt: Literal["phrase", "word", "sentence"], separators: Sequence[int] = BERT_SEPARATORS
) -> tuple[npt.NDArray[np.bool_], npt.NDArray[np.int32]]:
    """Masks and positions of a way of prompting (Grounding DINO paper, figure 4).

    ``phrase`` and ``sentence`` separate phrases; with ``word`` all tokens of a caption attend to each other, as in
    GLIP.
    """
    if prompt != "word":
        return phrase_masks(tokens.ids, separators)
    columns = tokens.ids.shape[1]
    mask = tokens.real[:, None] & tokens.real[:, :, None] | np.eye(columns, dtype=np.bool_)
    return mask, np.arange(columns, dtype=np.int32)[None].repeat(len(tokens.ids), 0)


def phrase_means(
    tokens: TokenBatch, mask: npt.NDArray[np.bool_], separators: Sequence[int] = BERT_SEPARATORS
) -> npt.NDArray[np.float32]:
    """Weights (B, n, n) that give each word the mean of its phrase's words; separators and padding keep their own."""
    word = tokens.real & ~np.isin(tokens.ids, separators)
    shared = mask & word[:, None] & word[:, :, None]
    shared |= np.eye(mask.shape[1], dtype=np.bool_) & ~word[:, :, None]
    means: npt.NDArray[np.float32] = (shared / shared.sum(-1, keepdims=True)).astype(np.float32)
    return means
