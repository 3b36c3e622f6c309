"""Captions of detection records: names of the image's classes and of other classes (``a. b. c.``)."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from ovd_bench.benchmarks.training.grounding.captioned import Captioned, Dropped
from ovd_bench.benchmarks.training.grounding.settings import CaptionSettings
from ovd_bench.detectors.captions import CLS, DOT, SEP, Tokenize, caption_of_names, tokenize_names
from ovd_bench.detectors.types import DetectorError
from ovd_bench.metrics.errors import DataError

#: Objects365 writes alternatives as "Barrel/bucket".
_ALTERNATIVES = re.compile(r"\s*/\s*")


class ClassCaptions:
    """Draws random captions for the classes of one source.

    Classes with the same text, or that share an alternative, are one phrase: no text distinguishes them, so none of
    them is a negative while another is present. Classes without a box in the source are in no caption, so a model
    trained on it has never read their names.

    Attributes:
        phrases: per phrase, the tokens of each of its alternatives.
        phrase_of: int64, number of the phrase of each label, -1 of those without a box.
    """

    def __init__(
        self,
        names: Sequence[str],
        seen: npt.NDArray[np.integer[Any]],
        tokenize: Tokenize,
        settings: CaptionSettings,
    ) -> None:
        """Tokenise the names once.

        Args:
            names: of all labels.
            seen: (s,) labels that have at least one box.
            tokenize: the model's tokeniser.
            settings: budget and negatives.

        Raises:
            DataError: a name without a word.
        """
        labels = np.unique(seen).tolist()
        tokens = [_alternatives(names[label], tokenize) for label in labels]
        self.phrases, numbers = _merged([[tuple(ids) for ids in alternatives] for alternatives in tokens])
        self.phrase_of = np.full(len(names), -1, np.int64)
        self.phrase_of[labels] = numbers
        self._settings = settings

    def draw(self, labels: npt.NDArray[np.int64], rng: np.random.Generator) -> Captioned:
        """A caption for an image with these boxes.

        Positives, in random order, are added until the token budget is used; one that does not fit is left out with its
        boxes. Negatives fill up to the first that does not fit (mmdetection,
        ``text_transformers.py``, RandomSamplingNegPos). The order in the caption is random again.

        Args:
            labels: (n,) of the boxes.
            rng: source of all randomness.
        """
        wanted = self.phrase_of[labels]
        left = self._settings.max_tokens - 2
        chosen: list[tuple[int, tuple[int, ...]]] = []
        positives = np.unique(wanted)
        for phrase in rng.permutation(positives).tolist():
            ids = self._alternative(phrase, rng)
            if len(ids) < left:
                chosen.append((phrase, ids))
                left -= len(ids) + 1
        for phrase in self._negatives(positives, rng):
            ids = self._alternative(phrase, rng)
            if len(ids) >= left:
                break
            chosen.append((phrase, ids))
            left -= len(ids) + 1
        order = rng.permutation(len(chosen)).tolist()
        return self._written([chosen[i] for i in order], wanted)

    def _alternative(self, phrase: int, rng: np.random.Generator) -> tuple[int, ...]:
        alternatives = self.phrases[phrase]
        return alternatives[0] if len(alternatives) == 1 else alternatives[int(rng.integers(len(alternatives)))]

    def _negatives(self, positives: npt.NDArray[np.int64], rng: np.random.Generator) -> list[int]:
        most = self._settings.num_negatives
        if not most:
            return []
        full = rng.random() < self._settings.full_sampling_probability
        count = most if full else int(rng.integers(1, most, endpoint=True))
        others = rng.permutation(np.delete(np.arange(len(self.phrases)), positives))
        return [int(phrase) for phrase in others[:count]]

    def _written(self, chosen: list[tuple[int, tuple[int, ...]]], wanted: npt.NDArray[np.int64]) -> Captioned:
        caption = caption_of_names([ids for _, ids in chosen])
        # A caption without classes is a dot, as the tokeniser makes of an empty text.
        ids = caption.ids if chosen else (CLS, DOT, SEP)
        place = np.full(len(self.phrases), -1, np.int64)
        place[[phrase for phrase, _ in chosen]] = np.arange(len(chosen))
        numbers = place[wanted]
        kept = np.flatnonzero(numbers >= 0)
        token_map = np.zeros((len(kept), len(ids)), np.bool_)
        for row, number in enumerate(numbers[kept].tolist()):
            tokens = caption.phrases[number]
            token_map[row, tokens.start : tokens.stop] = True
        return Captioned(ids, kept, numbers[kept], token_map, Dropped(over_budget=len(wanted) - len(kept)))


def seen_names(names: Sequence[str], seen: npt.NDArray[np.integer[Any]]) -> list[str]:
    """Names, with all their alternatives, of the labels that have at least one box.

    Args:
        names: of all labels.
        seen: (s,) labels that have one.
    """
    return [part for label in np.unique(seen).tolist() for part in _ALTERNATIVES.split(names[label])]


def _alternatives(name: str, tokenize: Tokenize) -> list[list[int]]:
    """Tokens of each alternative that has a word, or of the whole name if none has.

    Raises:
        DataError: the name has no word.
    """
    found = []
    for part in _ALTERNATIVES.split(name):
        with contextlib.suppress(DetectorError):
            found += tokenize_names(tokenize, [part]).ids
    try:
        return found or tokenize_names(tokenize, [name]).ids
    except DetectorError as error:
        raise DataError(str(error)) from error


def _merged(classes: Sequence[Sequence[tuple[int, ...]]]) -> tuple[list[list[tuple[int, ...]]], list[int]]:
    """Classes that share an alternative, directly or through others, as one phrase.

    Args:
        classes: per class, the tokens of its alternatives.

    Returns:
        Per phrase its alternatives, each once, and per class the number of its phrase.
    """
    root = list(range(len(classes)))

    def find(number: int) -> int:
        while root[number] != number:
            root[number] = root[root[number]]
            number = root[number]
        return number

    first: dict[tuple[int, ...], int] = {}
    for number, alternatives in enumerate(classes):
        for ids in alternatives:
            one, other = sorted((find(first.setdefault(ids, number)), find(number)))
            root[other] = one
    phrases: dict[int, dict[tuple[int, ...], None]] = {}
    for number, alternatives in enumerate(classes):
        phrases.setdefault(find(number), {}).update(dict.fromkeys(alternatives))
    place = {number: position for position, number in enumerate(phrases)}
    return [list(alternatives) for alternatives in phrases.values()], [place[find(i)] for i in range(len(classes))]
