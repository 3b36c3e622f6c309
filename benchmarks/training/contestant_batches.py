"""Batches of Grounding DINO as the contestants of a controlled study take them."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from baselines.controlled.captions import listed
from baselines.controlled.train import CaptionedBatch
from grounding_dino_jt.training.batch import Targets, TrainingBatch


def captioned(batch: TrainingBatch) -> CaptionedBatch:
    """The same content as PyTorch's side takes it: corners in pixels, and phrases that are absent as well."""
    boxes, words, phrases = [], [], []
    for image, (targets, (height, width)) in enumerate(zip(batch.targets, batch.sizes.tolist(), strict=True)):
        centres, halves = targets.boxes[:, :2], targets.boxes[:, 2:] / 2
        corners = np.concatenate([centres - halves, centres + halves], 1) * np.tile((width, height), 2)
        boxes.append(corners.astype(np.float32))
        own, rows = _asked(targets, listed(batch.tokens.ids[image], batch.tokens.real[image]))
        words.append(own)
        phrases.append(rows)
    return CaptionedBatch(batch.images, batch.sizes, batch.tokens.ids, batch.tokens.real, words, boxes, phrases)


def _asked(targets: Targets, apart: npt.NDArray[np.bool_]) -> tuple[npt.NDArray[np.bool_], npt.NDArray[np.int64]]:
    """What a caption of T tokens asks for: the phrases of its n boxes, and whatever else it lists without a box.

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
