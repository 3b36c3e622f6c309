"""Captions of grounding records: a sentence, and the boxes of phrases in it."""

from __future__ import annotations

import re
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from ovd_bench.benchmarks.training.grounding.captioned import MAX_PHRASES, Captioned, Dropped
from ovd_bench.detectors.captions import CLS, DOT, SEP, SEPARATORS, Tokenize

#: Character spans, begin and end, of one phrase.
Spans = Sequence[tuple[int, int]]

#: "left", "leftmost", "left-hand", "leftwards" and the same of "right"; not "leftover", "copyright" or "rightly".
_SIDE = re.compile(r"(?<!\w)(left|right)(?=(?:most|wards?|ward|hand(?:ed)?|side)?(?!\w))", re.IGNORECASE)


def read_caption(
    tokenize: Tokenize,
    caption: str,
    regions: Sequence[Spans],
    region_of: npt.NDArray[np.int64],
    max_tokens: int,
) -> Captioned:
    """Tokens of a caption, and the tokens of each box's phrase.

    A missing final dot is added, as in the official code (``groundingdino/util/inference.py``,
    preprocess_caption). A caption that is too long is truncated and still ends with a dot. Spans count characters of
    the caption as it is written: lower-casing is left to the tokeniser, since it may change how long a text is.

    Args:
        tokenize: the model's tokeniser.
        caption: the sentence.
        regions: spans of each phrase; a token belongs to a phrase if one of its characters does, and a separator
            (``. ?``) to none.
        region_of: (n,) row in ``regions`` of each box.
        max_tokens: of the caption, [CLS] and [SEP] included.
    """
    words, offsets = tokenize(caption)
    cut = len(words) + (not words or words[-1] != DOT) + 2 > max_tokens
    read = words[: max_tokens - 3] if cut else words
    ids = (CLS, *read, *([DOT] if not read or read[-1] != DOT else []), SEP)
    maps = np.zeros((len(regions), len(words)), np.bool_)
    begins, ends = np.array(offsets, np.int64).reshape(-1, 2).T
    for row, spans in zip(maps, regions, strict=True):
        for begin, end in spans:
            row |= (begins < end) & (ends > begin)
    maps[:, np.isin(words, list(SEPARATORS))] = False
    wordless = ~maps.any(axis=1)
    maps = maps[:, : len(read)]
    numbers = _numbers(maps)
    fits = (numbers >= 0) & (numbers < MAX_PHRASES)
    kept = np.flatnonzero(fits[region_of])
    token_map = np.zeros((len(kept), len(ids)), np.bool_)
    token_map[:, 1 : 1 + len(read)] = maps[region_of[kept]]
    without = int(wordless[region_of].sum())
    dropped = Dropped(over_budget=len(region_of) - len(kept) - without, wordless=without)
    return Captioned(ids, kept, numbers[region_of[kept]], token_map, dropped)


def _numbers(maps: npt.NDArray[np.bool_]) -> npt.NDArray[np.int64]:
    """Numbers of the phrases in the order of the caption; equal for equal tokens, -1 without tokens."""
    columns = [tuple(np.flatnonzero(row).tolist()) for row in maps]
    place = {tokens: number for number, tokens in enumerate(sorted({tokens for tokens in columns if tokens}))}
    return np.array([place.get(tokens, -1) for tokens in columns], np.int64)


def swap_sides(caption: str, regions: Sequence[Spans]) -> tuple[str, list[Spans]]:
    """The caption of the mirrored image: left and right are swapped, and spans move with their words.

    Words such as "leftmost" and "left-hand" change too; upper case is kept.
    """
    found = list(_SIDE.finditer(caption))
    parts, begin = [], 0
    for match in found:
        parts += [caption[begin : match.start()], _other_side(match[0])]
        begin = match.end()
    swapped = "".join([*parts, caption[begin:]])
    places = [(match.start(), match.end(), len(_other_side(match[0]))) for match in found]

    def moved(position: int, *, end: bool) -> int:
        shift = 0
        for start, stop, length in places:
            if position >= stop:
                shift += length - (stop - start)
            elif position > start:  # inside a word, which then belongs to the phrase as a whole
                return start + shift + (length if end else 0)
        return position + shift

    return swapped, [[(moved(begin, end=False), moved(end, end=True)) for begin, end in spans] for spans in regions]


def _other_side(word: str) -> str:
    other = "right" if word.lower() == "left" else "left"
    if word.isupper():
        return other.upper()
    return other.capitalize() if word[0].isupper() else other
