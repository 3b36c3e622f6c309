"""Vectors of class names in a detector, and names with nearly equal vectors."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from ovd_bench.detectors.captions import Caption
from ovd_bench.detectors.types import DetectorError

#: Vector (d,) of each class name before any image is seen, by category id.
ClassVectors = dict[int, npt.NDArray[np.float32]]

#: Names whose vectors have a greater cosine are nearly one class to a model. A frozen MiniLM without [CLS] gives 0.9997
#: to any two words in first place, and 0.994 to names that differ in such a word; with [CLS] it gives 0.16 and 0.71.
#: CLIP and fine-tuned encoders stay below for names that mean different things.
NEARLY_SAME = 0.99
#: Number of rows that are compared with all others at once.
_ROWS = 1024
#: Shorter vectors count as zero, which have no direction.
_SHORTEST = 1e-12


@dataclass(frozen=True)
class Likeness:
    """The most similar names of a vocabulary.

    Attributes:
        cosine: of the two most similar names, -1 … 1.
        names: these two.
        pairs: number of pairs with a cosine above ``NEARLY_SAME``.
    """

    cosine: float
    names: tuple[str, str]
    pairs: int


def of_captions(ids: Sequence[int], captions: Sequence[Caption], features: Sequence[npt.NDArray[Any]]) -> ClassVectors:
    """Means over the words of each class.

    Args:
        ids: of the categories, in the order of the captions' phrases.
        captions: with the classes.
        features: of each caption (n, d) or longer, a vector per token.
    """
    rows = [
        row
        for caption, tokens in zip(captions, features, strict=True)
        for row in caption.shares() @ tokens[: len(caption.ids)].astype(np.float32)
    ]
    return dict(zip(ids, rows, strict=True))


def most_alike(vectors: Mapping[int, npt.NDArray[np.float32]], names: Mapping[int, str]) -> Likeness | None:
    """The most similar classes; None = fewer than two have a vector.

    Args:
        vectors: by category id; those of no length are alike.
        names: by category id, of all of these at least.

    Raises:
        DetectorError: a vector is not finite.
    """
    ids = list(vectors)
    if len(ids) < 2:
        return None
    rows = np.stack([vectors[number] for number in ids]).astype(np.float64)
    if not np.isfinite(rows).all():
        raise DetectorError(f"class name '{names[ids[int(np.argmin(np.isfinite(rows).all(axis=1)))]]}': is not finite")
    lengths = np.linalg.norm(rows, axis=1, keepdims=True)
    rows = np.where(lengths < _SHORTEST, rows.shape[1] ** -0.5, rows / lengths.clip(min=_SHORTEST))
    best, where, pairs = -2.0, (0, 1), 0
    for begin in range(0, len(rows), _ROWS):
        cosines = rows[begin : begin + _ROWS] @ rows.T
        # each pair once: only columns after the row's own
        cosines[np.arange(len(ids)) <= np.arange(begin, begin + len(cosines))[:, None]] = -2.0
        pairs += int((cosines > NEARLY_SAME).sum())
        row, column = np.unravel_index(cosines.argmax(), cosines.shape)
        if cosines[row, column] > best:
            best, where = float(cosines[row, column]), (begin + int(row), int(column))
    return Likeness(min(best, 1.0), (names[ids[where[0]]], names[ids[where[1]]]), pairs)


def likeness_note(alike: Likeness | None) -> str:
    """A warning about names that are nearly the same to the model; empty if there are none."""
    if alike is None or not alike.pairs:
        return ""
    pairs = "1 pair of class names is" if alike.pairs == 1 else f"{alike.pairs:,} pairs of class names are"
    first, second = alike.names
    return (
        f"warning: {pairs} nearly the same to the text encoder (cosine above {NEARLY_SAME}), "
        f"most of all '{first}' and '{second}' ({alike.cosine:.4f})"
    )
