"""Captions of the Grounding DINO family: which tokens belong to which phrase.

The contract (``groundingdino/util/inference.py``, ``models/GroundingDINO/bertwarper.py``): phrases are separated by
tokens of ``[CLS] [SEP] . ?``, every phrase is followed by a dot, and text is lower case. Inside BERT, a phrase and its
dot attend only to each other and have their own positions. Without a final dot the last phrase would be split.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from ovd_bench.detectors.prompts import PromptPlan
from ovd_bench.detectors.types import DetectorError, Vocabulary

#: Token ids of a text without [CLS] and [SEP], and the characters (begin, end) of each.
Tokenize = Callable[[str], tuple[list[int], list[tuple[int, int]]]]

#: [CLS], [SEP], "." and "?" of BERT's uncased vocabulary; the models know these by number.
CLS, SEP, DOT, QUESTION = 101, 102, 1012, 1029
SEPARATORS = frozenset((CLS, SEP, DOT, QUESTION))
_UNKNOWN = 100

#: Entries of BERT's uncased vocabulary; a text encoder with another number of them has a vocabulary of its own.
UNCASED_SIZE = 30522

#: A text and its tokens, to recognise BERT's uncased vocabulary.
SAMPLE = ("A Cat.?", [CLS, 1037, 4937, DOT, QUESTION, SEP])

#: Characters that would split a class name in two.
_SPLITTING = re.compile(r"[.?]")


@dataclass(frozen=True)
class Marks:
    """Tokens that are not words, of a vocabulary.

    Attributes:
        cls, sep, dot: of ``[CLS] [SEP] .``.
        question: of ``?``; a vocabulary that lacks it has the unknown token there, which separates nothing.
        unknown: of words that are not in the vocabulary.
    """

    cls: int = CLS
    sep: int = SEP
    dot: int = DOT
    question: int = QUESTION
    unknown: int = _UNKNOWN

    @property
    def separators(self) -> frozenset[int]:
        """What ends a phrase."""
        return frozenset((self.cls, self.sep, self.dot, self.question)) - {self.unknown}


UNCASED = Marks()


def lower_case(text: str) -> str:
    """A text in lower case, as captions are, with every character in its place."""
    return "".join(letter.lower() if len(letter.lower()) == 1 else letter for letter in text)


@dataclass(frozen=True)
class Caption:
    """Tokens of one text.

    Attributes:
        ids: with [CLS] and [SEP].
        phrases: per phrase, positions of its tokens without separators.
        spans: per phrase and token, its range of characters in the text; empty for class names.
    """

    ids: tuple[int, ...]
    phrases: tuple[range, ...]
    spans: tuple[tuple[tuple[int, int], ...], ...] = ()

    def shares(self) -> npt.NDArray[np.float32]:
        """Weights (phrases, tokens) that average over the tokens of a phrase: equal at its own, with sum 1."""
        shares = np.zeros((len(self.phrases), len(self.ids)), np.float32)
        for row, tokens in enumerate(self.phrases):
            shares[row, tokens.start : tokens.stop] = 1 / len(tokens)
        return shares


@dataclass(frozen=True)
class PhraseTokens:
    """Tokens of class names.

    Attributes:
        ids: per name, without separators.
        notes: on names with words unknown to the tokeniser.
    """

    ids: list[list[int]]
    notes: tuple[str, ...]


@dataclass(frozen=True)
class PlannedCaptions:
    """A vocabulary as captions, one per chunk.

    Attributes:
        category_ids: of the classes, in the order of the captions' phrases.
        captions: of the chunks.
        notes: on names with words unknown to the tokeniser.
    """

    category_ids: tuple[int, ...]
    captions: tuple[Caption, ...]
    notes: tuple[str, ...]


def planned_captions(
    detector: str, vocabulary: Vocabulary, plan: PromptPlan, tokenize: Tokenize, limit: int, marks: Marks = UNCASED
) -> PlannedCaptions:
    """Split a vocabulary into captions according to a prompt plan.

    Args:
        detector: its name, for messages.
        vocabulary: the classes.
        plan: with one template, since classes share a caption.
        tokenize: the model's tokeniser.
        limit: maximum number of tokens of the model.
        marks: of the tokeniser's vocabulary.

    Raises:
        DetectorError: several templates, a budget above the limit, a name without words or over the budget.
    """
    if len(plan.templates) > 1:
        raise DetectorError(
            f"detector '{detector}': prompt plan '{plan.name}' has {len(plan.templates)} templates; "
            "classes share a caption: give at most one"
        )
    if plan.token_budget > limit:
        raise DetectorError(
            f"detector '{detector}': token_budget is {plan.token_budget}, the model reads {limit} tokens"
        )
    rows = plan.rows(vocabulary)
    names = tokenize_names(tokenize, [plan.fill(vocabulary.names[row])[0] for row in rows], marks)
    chunks = plan.chunks(len(rows), [len(ids) + 1 for ids in names.ids], overhead=2)
    captions = tuple(caption_of_names(names.ids[chunk.start : chunk.stop], marks) for chunk in chunks)
    return PlannedCaptions(tuple(vocabulary.ids[row] for row in rows), captions, names.notes)


def tokenize_names(tokenize: Tokenize, names: Sequence[str], marks: Marks = UNCASED) -> PhraseTokens:
    """Token ids of each class name; dots and question marks in a name are replaced by blanks.

    Raises:
        DetectorError: nothing is left of a name.
    """
    plain = [_SPLITTING.sub(" ", name) for name in names]
    # text such as "[SEP]" becomes a special token
    ids = [[token for token in tokenize(name)[0] if token not in marks.separators] for name in plain]
    for name, row in zip(names, ids, strict=True):
        if not row:
            raise DetectorError(f"class name {name!r}: has no word that the text encoder reads; rename it")
    unknown = [name for name, row in zip(names, ids, strict=True) if marks.unknown in row]
    if not unknown:
        return PhraseTokens(ids, ())
    return PhraseTokens(ids, (f"{len(unknown)} class names have words unknown to BERT, such as '{unknown[0]}'",))


def caption_of_names(ids: Sequence[Sequence[int]], marks: Marks = UNCASED) -> Caption:
    """The caption ``a. b. c.`` from the tokens of its names; the same tokens as from the text."""
    tokens, phrases = [marks.cls], []
    for row in ids:
        phrases.append(range(len(tokens), len(tokens) + len(row)))
        tokens += [*row, marks.dot]
    return Caption((*tokens, marks.sep), tuple(phrases))


def caption_of_text(tokenize: Tokenize, text: str, marks: Marks = UNCASED) -> Caption:
    """A free caption; a missing final dot is added.

    Phrases are the parts between separators; a caption without dots is one phrase.
    """
    ids, offsets = tokenize(text)
    if not ids or ids[-1] not in marks.separators - {marks.cls, marks.sep}:
        ids.append(marks.dot)
        offsets.append((len(text), len(text)))
    phrases, spans, begin = [], [], 0
    for position, token in enumerate(ids):
        if token in marks.separators:
            if position > begin:
                phrases.append(range(begin + 1, position + 1))  # [CLS] comes first
                spans.append(tuple(offsets[begin:position]))
            begin = position + 1
    return Caption((marks.cls, *ids, marks.sep), tuple(phrases), tuple(spans))


def span_tokens(caption: Caption, spans: Sequence[tuple[int, int]]) -> list[int]:
    """Positions of the tokens that have a character in one of the spans; without spans those of all phrases.

    Args:
        caption: from ``caption_of_text``.
        spans: character ranges of its text.

    Raises:
        DetectorError: there is no such token.
    """
    tokens = [
        position
        for phrase, ranges in zip(caption.phrases, caption.spans, strict=True)
        for position, (begin, end) in zip(phrase, ranges, strict=True)
        if not spans or any(begin < last and first < end for first, last in spans)
    ]
    if not tokens:
        where = f"spans {[list(span) for span in spans]}" if spans else "a caption"
        raise DetectorError(f"{where}: no word that the text encoder reads")
    return tokens


def joined_spans(spans: Sequence[tuple[int, int]], text: str) -> tuple[tuple[int, int], ...]:
    """Character ranges of tokens; ranges with only white space between them are joined."""
    joined: list[tuple[int, int]] = []
    for begin, end in spans:
        if joined and not text[joined[-1][1] : begin].strip():
            joined[-1] = (joined[-1][0], end)
        else:
            joined.append((begin, end))
    return tuple(joined)
