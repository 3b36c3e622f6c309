"""How the text encoder of a training reads phrases, and the phrases of the training data."""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from ovd_bench.benchmarks.training.grounding.class_captions import seen_names
from ovd_bench.benchmarks.training.grounding.config import ModelSettings
from ovd_bench.benchmarks.training.grounding.sources import Source
from ovd_bench.detectors.captions import SEPARATORS, Tokenize
from ovd_bench.grounding_dino_jt.config import TextConfig
from ovd_bench.grounding_dino_jt.training.recipe import Recipe

#: Number of captions read from a source, evenly spread; more hardly change the mean.
_CAPTIONS = 1000

Phrase = tuple[int, ...]


def reading(settings: ModelSettings, text: TextConfig, *, frozen: bool) -> TextConfig:
    """A pretrained text encoder with the frame and centring of the settings, or else with suitable ones.

    Args:
        settings: of the model.
        text: sizes of the encoder.
        frozen: whether it is pretrained and does not learn. Then its input must be as in its pretraining.

    Raises:
        ValueError: frames or centring for CLIP, or centring for an encoder that learns.
    """
    if settings.centred and not frozen:
        raise ValueError(
            "centred needs a text encoder that does not learn, since its mean must stay valid: set bert.: 0.0"
        )
    frames = frozen and text.kind == "bert"
    frame = settings.phrase_frame or ("framed" if frames else "bare")
    return dataclasses.replace(
        text, phrase_frame=frame, centred=frames if settings.centred is None else settings.centred
    )


def check_given(settings: ModelSettings, text: TextConfig, *, unlearned: bool) -> None:
    """Check frame and centring of initial weights.

    Args:
        settings: of the model.
        text: the weights' text encoder.
        unlearned: whether it is pretrained and neither has been nor will be trained with a detector.

    Raises:
        ValueError: the settings request others, or the encoder does not suit them and they were not requested.
    """
    for name in ("phrase_frame", "centred"):
        asked, has = getattr(settings, name), getattr(text, name)
        if asked is not None and asked != has:
            raise ValueError(f"{name} is {asked}, but the weights have {has}: leave it out, or train from the start")
    if unlearned and text.phrase_frame == "bare" and settings.phrase_frame is None:
        raise ValueError(
            "the weights read phrases bare, but their text encoder was not trained to, so one-word names look nearly "
            "the same to them: use weights that read framed, let bert. learn, or ask for it with phrase_frame: bare"
        )


def text_is_frozen(recipe: Recipe, names: Sequence[str] | Mapping[str, Any]) -> bool:
    """Whether no parameter of BERT among some names learns."""
    return all(recipe.factor(name) == 0 for name in names if name.startswith("bert."))


def vocabulary_phrases(sources: Sequence[Source], tokenize: Tokenize, max_tokens: int) -> list[Phrase]:
    """Phrases of a training as tokens without separators, each once: class names with a box, and parts of captions.

    At most ``_CAPTIONS`` captions of a source are read; each is split at its separators.

    Args:
        sources: opened.
        tokenize: the model's tokeniser.
        max_tokens: of a caption, with [CLS] and [SEP]; a longer one is cut, as in training.
    """
    found: dict[Phrase, None] = {}
    for source in sources:
        for name in seen_names(source.names, source.records.labels.values):
            found |= dict.fromkeys(_between_separators(tokenize(name)[0]))
        captions = np.flatnonzero(source.records.is_grounding)
        for number in captions[:: max(1, -(-len(captions) // _CAPTIONS))].tolist():
            grounding = source.records[number].grounding
            if grounding is not None:
                found |= dict.fromkeys(_between_separators(tokenize(grounding.caption)[0][: max_tokens - 2]))
    return list(found)


def reading_facts(phrase_frame: str, phrases: Sequence[Phrase]) -> dict[str, Any]:
    """For the weights file and the manifest of a study: the frame and, if centred, the phrases of the mean."""
    sha256 = hashlib.sha256(repr([list(phrase) for phrase in phrases]).encode()).hexdigest()
    return {"phrase_frame": phrase_frame, "text_mean_of_sha256": sha256 if phrases else ""}


def _between_separators(ids: Sequence[int]) -> Iterator[Phrase]:
    phrase: list[int] = []
    for token in (*ids, None):
        if token is not None and token not in SEPARATORS:
            phrase.append(token)
        elif phrase:
            yield tuple(phrase)
            phrase = []
