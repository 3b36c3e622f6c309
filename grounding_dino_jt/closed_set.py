"""The control without language: every known class has its own learned vectors.

A name keeps the number of its word pieces, so that captions, chunks and masks are those of a model with text; but each
piece becomes a token that no other name shares. A name that was not in training consists of the unknown token, whose
vector receives no gradient, so the model cannot know its meaning. The difference from a model with text measures the
contribution of language.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

from ovd_bench.grounding_dino_jt.config import TextConfig
from ovd_bench.grounding_dino_jt.tokenizer import Tokenizer, packaged_tokenizer, read_tokenizer
from ovd_bench.grounding_dino_jt.tokens import BERT_SEPARATORS

_CLS, _SEP, _DOT, _ = BERT_SEPARATORS
_UNKNOWN = 100
_SEPARATORS = re.compile(r"[.?]")
#: The tokens of names come after BERT's separators, which keep their numbers.
_FIRST = max(BERT_SEPARATORS) + 1
#: More than the number of tokens in a caption.
_POSITIONS = 512


@dataclass(frozen=True)
class ClassTokenizer(Tokenizer):
    """Class names to tokens that no other name shares.

    Attributes:
        tokens: tokens of each name; keys are as returned by ``plain_name``.
    """

    tokens: dict[str, list[int]] = field(default_factory=dict)

    @staticmethod
    def of(words: Tokenizer, names: Iterable[str]) -> ClassTokenizer:
        """Number the pieces of some names.

        Args:
            words: a tokeniser with BERT's vocabulary.
            names: the known names, in order.
        """
        tokens: dict[str, list[int]] = {}
        number = _FIRST
        for name in dict.fromkeys(map(plain_name, names)):
            if count := len(words.words(name)[0]):
                tokens[name] = list(range(number, number + count))
                number += count
        return ClassTokenizer(words.inner, tokens=tokens)

    @property
    def count(self) -> int:
        """Number of tokens: rows of the embedding."""
        return max((ids[-1] for ids in self.tokens.values()), default=_FIRST - 1) + 1

    def caption(self, text: str) -> list[int]:
        """See ``Tokenizer.caption``."""
        text = text.strip()
        return [_CLS, *self.words(text if text.endswith(".") else f"{text}.")[0], _SEP]

    def words(self, text: str) -> tuple[list[int], list[tuple[int, int]]]:
        """See ``Tokenizer.words``; names are the parts between separators."""
        pieces, spans = super().words(text)
        ids: list[int] = []
        begin = 0
        for place in range(len(pieces) + 1):
            if place == len(pieces) or pieces[place] in BERT_SEPARATORS:
                ids += self._name(text, spans[begin:place])
                ids += pieces[place : place + 1]
                begin = place + 1
        return ids, spans

    def _name(self, text: str, spans: list[tuple[int, int]]) -> list[int]:
        if not spans:
            return []
        known = self.tokens.get(plain_name(text[spans[0][0] : spans[-1][1]]))
        return known if known is not None and len(known) == len(spans) else [_UNKNOWN] * len(spans)


def plain_name(text: str) -> str:
    """A name in the form used for lookup: lower case, single blanks, no separators."""
    return " ".join(_SEPARATORS.sub(" ", text).lower().split())


def class_encoder(words: Tokenizer, names: Iterable[str], width: int) -> tuple[ClassTokenizer, TextConfig]:
    """A text encoder with one vector per token.

    Args:
        words: a tokeniser with BERT's vocabulary.
        names: names of the known classes.
        width: width of the vectors.
    """
    tokenizer = ClassTokenizer.of(words, sorted(set(map(plain_name, names))))
    config = TextConfig(
        hidden_size=width,
        num_layers=0,
        num_heads=1,
        intermediate_size=1,
        vocab_size=tokenizer.count,
        max_positions=_POSITIONS,
        classes=tuple(tokenizer.tokens),
    )
    return tokenizer, config


def tokenizer_of(weights: Path, text: TextConfig) -> Tokenizer:
    """The tokeniser of a model: that of its classes if it has any, else the one in the weights folder or the package.

    Args:
        weights: file or folder.
        text: the model's text encoder.

    Raises:
        ValueError: it does not load.
    """
    folder = weights if weights.is_dir() else weights.parent
    beside = any((folder / name).is_file() for name in ("tokenizer.json", "vocab.txt"))
    if text.classes:
        return ClassTokenizer.of(read_tokenizer(folder) if beside else packaged_tokenizer(), text.classes)
    return read_tokenizer(folder, text.vocab_size) if beside else packaged_tokenizer()
