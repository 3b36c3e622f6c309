"""Prompts of OWL-ViT and OWLv2: canonical form and tokens."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

#: A text and its tokens by which CLIP's vocabulary is known.
CLIP_SAMPLE = ("a photo of a cat", [49406, 320, 1125, 539, 320, 2368, 49407])

_OTHER = re.compile(r"[^a-z0-9-]+")
_DASHES = re.compile(r"-+")
_CAPITALS = str.maketrans("ABCDEFGHIJKLMNOPQRSTUVWXYZ", "abcdefghijklmnopqrstuvwxyz")


@dataclass(frozen=True)
class OwlTexts:
    """Tokenised prompts.

    Attributes:
        distinct: token ids of each different prompt, start and end of text included.
        rows: per class and template, the row in ``distinct``.
        notes: on prompts that had to be changed.
    """

    distinct: list[list[int]]
    rows: list[list[int]]
    notes: tuple[str, ...]


def canonical(prompt: str) -> str:
    """Lower case; every run of characters outside ``[a-z0-9-]`` becomes one blank, every run of dashes one dash.

    This is applied to the whole prompt after the template is filled, so a template's final dot disappears, as in
    ``scenic/projects/owl_vit/preprocessing/label_ops.py``.
    """
    return _DASHES.sub("-", _OTHER.sub(" ", prompt.translate(_CAPITALS))).strip()


def owl_texts(tokenizer: Any, prompts: Sequence[Sequence[str]], longest: int) -> OwlTexts:
    """Token ids of all prompts.

    Args:
        tokenizer: CLIP's.
        prompts: per class, one prompt per template.
        longest: maximum number of tokens of the text encoder; a longer prompt loses its last words, keeps its
            end-of-text token and gets a note.
    """
    texts = [[canonical(prompt) for prompt in row] for row in prompts]
    position = {text: number for number, text in enumerate(dict.fromkeys(text for row in texts for text in row))}
    ids: list[list[int]] = tokenizer(list(position)).input_ids
    long = [text for text, tokens in zip(position, ids, strict=True) if len(tokens) > longest]
    cut = [tokens if len(tokens) <= longest else [*tokens[: longest - 1], tokens[-1]] for tokens in ids]
    notes = []
    if long:
        notes.append(f"{len(long)} prompts are longer than {longest} tokens and lose their end, such as '{long[0]}'")
    bare = [row[0] for row in prompts if any(ord(letter) > 127 for letter in row[0])]
    if bare:
        notes.append(f"{len(bare)} class names lose letters outside a-z, such as '{bare[0]}'")
    return OwlTexts(cut, [[position[text] for text in row] for row in texts], tuple(notes))
