"""Batches of Grounding DINO in the form of the contestants of a controlled study."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace

import numpy as np
import numpy.typing as npt

from ovd_bench.baselines.controlled.captions import SEPARATORS, listed
from ovd_bench.baselines.controlled.train import CaptionedBatch
from ovd_bench.grounding_dino_jt.training.batch import Targets, TrainingBatch


def captioned(batch: TrainingBatch) -> CaptionedBatch:
    """The same content in the form of the PyTorch models: corners in pixels, and absent phrases too."""
    boxes, words, phrases = [], [], []
    for image, (targets, (height, width)) in enumerate(zip(batch.targets, batch.sizes.tolist(), strict=True)):
        centres, halves = targets.boxes[:, :2], targets.boxes[:, 2:] / 2
        corners = np.concatenate([centres - halves, centres + halves], 1) * np.tile((width, height), 2)
        boxes.append(corners.astype(np.float32))
        own, rows = _asked(targets, listed(batch.tokens.ids[image], batch.tokens.real[image]))
        words.append(own)
        phrases.append(rows)
    return CaptionedBatch(batch.images, batch.sizes, batch.tokens.ids, batch.tokens.real, words, boxes, phrases)


def class_names(batches: Iterable[CaptionedBatch]) -> list[tuple[int, ...]]:
    """Tokens of all class names in the captions of a step, each once, in the order in which they first appear."""
    names: dict[tuple[int, ...], None] = {}
    for batch in batches:
        names |= dict.fromkeys(name for image in range(len(batch.words)) for name in _names(batch, image))
    return list(names)


def with_class_names(batch: CaptionedBatch, names: Sequence[tuple[int, ...]]) -> CaptionedBatch:
    """The same images and boxes, with the same class names for every image; each image has only some of them.

    Args:
        batch: captions of class names; no sentences.
        names: see ``class_names``; at least those of the batch.
    """
    cls, sep, dot, _ = SEPARATORS
    caption = np.array([cls, *(token for name in names for token in (*name, dot)), sep], np.int32)
    real = np.ones(caption.shape, np.bool_)
    row_of = {name: row for row, name in enumerate(names)}
    phrases = [
        np.array([row_of[name] for name in _names(batch, image)], np.int64)[rows]
        for image, rows in enumerate(batch.phrases)
    ]
    images = len(batch.words)
    words = listed(caption, real) if names else np.zeros((1, len(caption)), np.bool_)
    return replace(
        batch,
        ids=np.tile(caption, (images, 1)),
        real=np.tile(real, (images, 1)),
        words=[words] * images,
        phrases=phrases,
    )


def _names(batch: CaptionedBatch, image: int) -> list[tuple[int, ...]]:
    """Tokens of each phrase of an image's caption; a caption without phrases has one empty phrase."""
    return [tuple(batch.ids[image][word].tolist()) for word in batch.words[image] if word.any()]


def _asked(targets: Targets, apart: npt.NDArray[np.bool_]) -> tuple[npt.NDArray[np.bool_], npt.NDArray[np.int64]]:
    """Phrases of a caption of T tokens: those of its n boxes, and others without a box.

    A phrase in several places of a sentence is one, with all its words. A box with two phrases is two objects, as for
    Grounding DINO.

    Args:
        targets: boxes and their phrases.
        apart: bool (p, T), words of what separators set apart; of which any in a box's phrase is no phrase of its own.

    Returns:
        Bool (k, T), words of the phrases in the order in which they begin, and int64 (n,), row of each box's.
    """
    _, first, which = np.unique(targets.phrases, return_index=True, return_inverse=True)
    named = targets.token_map[first]
    absent = apart[~(apart & named.any(0)).any(1)]
    found = np.concatenate([named, absent])
    if not len(found):
        return np.zeros((1, targets.token_map.shape[1]), np.bool_), which
    order = np.argsort(found.argmax(1), kind="stable")
    return found[order], np.argsort(order)[which]
