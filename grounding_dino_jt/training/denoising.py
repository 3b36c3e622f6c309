"""Contrastive denoising queries (DINO, Zhang et al. 2022, section 3.3).

In the details this is mmdetection's ``dino_layers.py``, CdnQueryGenerator.

Noisy copies of the true boxes are given to the decoder in addition to the matching queries, so that it learns from them
without a matching. Each group has every box twice: with little noise, to be corrected, and with more noise, as a
negative.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from ovd_bench.grounding_dino_jt.training.batch import Targets


@dataclass(frozen=True)
class DenoisingConfig:
    """Number and noise of denoising queries.

    Attributes:
        queries: wanted number of queries per image; 0 = no denoising. The number of groups is
            max(1, queries // maximum number of boxes per image), each with two queries per box, as in mmdetection.
        label_noise: half of it is the probability that a query gets the number of another phrase.
        box_noise: 1 = corners of positives move by up to half a side, those of negatives by up to a whole side.
        labels: number of phrases from which a wrong one is drawn.
    """

    queries: int = 100
    label_noise: float = 0.5
    box_noise: float = 1.0
    labels: int = 256


@dataclass(frozen=True)
class Noise:
    """Random numbers for one image with n boxes in G groups; rows are group by group, positives before negatives.

    Attributes:
        relabel: float (2 G n,), below half the label noise = take the other label.
        labels: int (2 G n,), the other label.
        signs: float (2 G n, 4), -1 or 1.
        parts: float (2 G n, 4), 0 … 1.
    """

    relabel: npt.NDArray[np.float64]
    labels: npt.NDArray[np.int64]
    signs: npt.NDArray[np.float64]
    parts: npt.NDArray[np.float64]


@dataclass(frozen=True)
class DenoisingQueries:
    """The queries of a batch: B images, R queries in G groups of 2 N, where N is the most boxes of an image.

    Attributes:
        phrases: int64 (B, R), number of the phrase, -1 in an empty slot.
        boxes: float32 (B, R, 4) initial boxes, relative cxcywh; the centre of the image in an empty slot.
        hidden: bool (R + Q, R + Q), true where the query of the row does not attend to that of the column; the R
            denoising queries come before the Q others.
        positives: per image, int64 (G n,), queries that have to find a box.
        found: per image, int64 (G n,), the box of each.
    """

    phrases: npt.NDArray[np.int64]
    boxes: npt.NDArray[np.float32]
    hidden: npt.NDArray[np.bool_]
    positives: Sequence[npt.NDArray[np.int64]]
    found: Sequence[npt.NDArray[np.int64]]


@dataclass(frozen=True)
class Slots:
    """Room for the denoising queries of a batch.

    Attributes:
        groups: G.
        most: N, maximum number of boxes per image; each group has 2 N slots.
    """

    groups: int
    most: int

    @staticmethod
    def of(most: int, config: DenoisingConfig) -> Slots | None:
        """Slots for a batch with at most ``most`` boxes per image; None without denoising."""
        return Slots(max(1, config.queries // most), most) if most and config.queries else None


def draw_noise(boxes: int, groups: int, config: DenoisingConfig, rng: np.random.Generator) -> Noise:
    """Noise of one image."""
    rows = 2 * groups * boxes
    return Noise(
        relabel=rng.random(rows),
        labels=rng.integers(0, config.labels, rows),
        signs=rng.integers(0, 2, (rows, 4)) * 2.0 - 1.0,
        parts=rng.random((rows, 4)),
    )


def denoising_queries(
    targets: Sequence[Targets],
    noise: Sequence[Noise],
    slots: Slots,
    queries: int,
    config: DenoisingConfig,
    box_epsilon: float,
) -> DenoisingQueries:
    """Queries from targets and noise.

    Args:
        targets: targets of the B images.
        noise: noise of the B images.
        slots: room for at least the boxes of these images.
        queries: Q, number of matching queries.
        config: strength of the noise.
        box_epsilon: guard of the model's inverse sigmoid, which the boxes pass through.
    """
    groups, most = slots.groups, slots.most
    width, total = 2 * most, 2 * most * groups
    phrases = np.full((len(targets), total), -1, np.int64)
    boxes = np.full((len(targets), total, 4), 0.5, np.float32)
    positives, found = [], []
    for image, (target, drawn) in enumerate(zip(targets, noise, strict=True)):
        count = len(target)
        kind = np.tile(np.repeat([0, 1], count), groups)  # 0 = positive
        box = np.tile(np.arange(count), 2 * groups)
        slot = np.repeat(np.arange(groups) * width, 2 * count) + kind * most + box
        phrases[image, slot] = np.where(drawn.relabel < config.label_noise / 2, drawn.labels, target.phrases[box])
        noisy = _moved(target.boxes[box].astype(np.float64), drawn.signs * (drawn.parts + kind[:, None]), config)
        boxes[image, slot] = _through_logit(noisy, box_epsilon)
        positives.append(slot[kind == 0])
        found.append(box[kind == 0])
    return DenoisingQueries(phrases, boxes, _hidden(groups, width, queries), positives, found)


def _moved(
    boxes: npt.NDArray[np.float64], steps: npt.NDArray[np.float64], config: DenoisingConfig
) -> npt.NDArray[np.float64]:
    """Move the corners of boxes cxcywh (n, 4) by ``steps`` (n, 4) half sides, times the noise, within the image."""
    centre, sides = boxes[:, :2], boxes[:, 2:]
    corners = np.concatenate([centre - sides / 2, centre + sides / 2], 1)
    corners += steps * np.tile(sides, 2) * (config.box_noise / 2)
    corners = corners.clip(0, 1)
    low, high = corners[:, :2], corners[:, 2:]
    return np.concatenate([(low + high) / 2, high - low], 1)


def _through_logit(shares: npt.NDArray[np.float64], epsilon: float) -> npt.NDArray[np.float64]:
    """Sigmoid of the clamped logit: if a corner was moved past another, the side becomes about ``epsilon``."""
    shares = shares.clip(0, 1)
    up, down = np.maximum(shares, epsilon), np.maximum(1 - shares, epsilon)
    through: npt.NDArray[np.float64] = up / (up + down)
    return through


def _hidden(groups: int, width: int, queries: int) -> npt.NDArray[np.bool_]:
    """Groups attend to themselves and the matching queries; the matching queries attend only to each other."""
    total = groups * width
    group = np.concatenate([np.repeat(np.arange(groups), width), np.full(queries, -1)])
    hidden: npt.NDArray[np.bool_] = (group[None] >= 0) & (group[:, None] != group[None])
    assert hidden.shape == (total + queries,) * 2
    return hidden
