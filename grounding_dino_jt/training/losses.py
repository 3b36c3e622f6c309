"""Losses: token-level focal loss, L1 and GIoU.

They are computed after every decoder layer, on the encoder's selection and on the denoising queries (mmdetection
``grounding_dino_head.py`` and ``dino_head.py``; Open-GroundingDino ``groundingdino.py``, SetCriterion).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from ovd_bench.grounding_dino_jt.training.batch import Targets
from ovd_bench.grounding_dino_jt.training.denoising import DenoisingQueries
from ovd_bench.grounding_dino_jt.training.matching import ALPHA, GAMMA, Costs, Matches, match
from ovd_bench.kernels.runtime import jittor

jt = jittor()


@dataclass(frozen=True)
class LossConfig:
    """Weights and divisors of the losses.

    Attributes:
        style: ``mmdetection`` divides all sums by the number of matched pairs, averaged over processes;
            ``open-groundingdino`` divides the class loss by the pairs of the process, the box losses by the number of
            boxes averaged over processes. Either number is at least 1.
        class_weight, l1_weight, giou_weight: weights of the parts.
        costs: weights of the matching.
        auxiliary, encoder: whether lower decoder layers and the encoder's selection have losses.
    """

    style: Literal["mmdetection", "open-groundingdino"] = "mmdetection"
    class_weight: float = 1.0
    l1_weight: float = 5.0
    giou_weight: float = 2.0
    costs: Costs = field(default_factory=Costs)
    auxiliary: bool = True
    encoder: bool = True


MMDETECTION = LossConfig()
OPEN_GROUNDINGDINO = LossConfig("open-groundingdino", class_weight=2.0, costs=Costs("mean", class_weight=1.0))
STYLES = {config.style: config for config in (MMDETECTION, OPEN_GROUNDINGDINO)}


@dataclass(frozen=True)
class Predictions:
    """Predictions of one group of queries at one layer of the network; variables of Jittor.

    Attributes:
        name: ``decoder.5``, ``encoder``, ``denoising.5`` …
        logits: (B, R, T), T the columns of the captions; anything at padding.
        boxes: (B, R, 4) cxcywh shares.
    """

    name: str
    logits: Any
    boxes: Any


@dataclass(frozen=True)
class Divisors:
    """Divisors of the sums, separate for matching and denoising queries.

    They are known before the forward pass, since every box is matched. Processes, and the parts of a batch that is
    processed in pieces, can therefore agree on them beforehand.
    """

    classes: float
    boxes: float
    denoising: float


@dataclass(frozen=True)
class Counts:
    """Contribution of a batch, or a part of it, to ``Divisors``."""

    pairs: int
    boxes: int
    denoising: int

    @staticmethod
    def of(targets: Sequence[Targets], queries: int, groups: int) -> Counts:
        """Count.

        Args:
            targets: targets of the images.
            queries: Q, matching queries per image.
            groups: number of groups of denoising queries.
        """
        boxes = sum(map(len, targets))
        return Counts(sum(min(len(target), queries) for target in targets), boxes, boxes * groups)


def divisors(own: Counts, everywhere: Counts, processes: int, style: str) -> Divisors:
    """Divisors from the counts of this process and the sums of those of all processes."""
    pairs = everywhere.pairs / processes
    if style == "open-groundingdino":
        classes, boxes = float(own.pairs), everywhere.boxes / processes
    else:
        classes = boxes = pairs
    return Divisors(max(classes, 1.0), max(boxes, 1.0), max(everywhere.denoising / processes, 1.0))


@dataclass(frozen=True)
class Loss:
    """The loss and its terms.

    Attributes:
        total: weighted sum.
        terms: weighted terms, (P, 3): class, L1 and GIoU of every entry of ``names``.
        names: names of the P predictions.
    """

    total: Any
    terms: Any
    names: tuple[str, ...]


def total_loss(
    matching: Sequence[Predictions],
    denoising: Sequence[Predictions],
    queries: DenoisingQueries | None,
    targets: Sequence[Targets],
    real: npt.NDArray[np.bool_],
    divided: Divisors,
    config: LossConfig,
) -> Loss:
    """Loss of a batch.

    Args:
        matching: predictions of decoder layers and encoder, each matched separately.
        denoising: predictions of decoder layers.
        queries: the denoising queries; None if there are none.
        targets: targets of the B images.
        real: bool (B, T), false at padding of the captions.
        divided: divisors of the sums.
        config: weights.

    Raises:
        FloatingPointError: logits or boxes are not finite.
    """
    groups = []
    for part in matching:
        pairs = match(part.logits.numpy(), part.boxes.numpy(), real, targets, config.costs)
        groups.append((part, pairs, divided.classes, divided.boxes))
    if queries is not None:
        given = [Matches(q, b) for q, b in zip(queries.positives, queries.found, strict=True)]
        groups += [(part, given, divided.denoising, divided.denoising) for part in denoising]
    terms = []
    for part, pairs, classes, boxes in groups:
        class_loss = focal_loss(part.logits, token_targets(part.logits.shape, pairs, targets), real)
        l1, giou = box_losses(part.boxes, pairs, targets)
        terms += [
            class_loss * (config.class_weight / classes),
            l1 * (config.l1_weight / boxes),
            giou * (config.giou_weight / boxes),
        ]
    stacked = jt.stack(terms).reshape(-1, 3)
    return Loss(stacked.sum(), stacked, tuple(part.name for part, *_ in groups))


def token_targets(
    shape: Sequence[int], pairs: Sequence[Matches], targets: Sequence[Targets]
) -> npt.NDArray[np.float32]:
    """(B, R, T): 1 at all tokens of the box of a matched query, else 0."""
    wanted = np.zeros(shape, np.float32)
    for image, (pair, target) in enumerate(zip(pairs, targets, strict=True)):
        wanted[image, pair.queries] = target.token_map[pair.boxes]
    return wanted


def focal_loss(logits: Any, wanted: npt.NDArray[np.float32], real: npt.NDArray[np.bool_]) -> Any:
    """Sigmoid focal loss (Lin et al. 2017), summed over all queries and the real tokens.

    Args:
        logits: (B, R, T).
        wanted: (B, R, T), 0 or 1.
        real: (B, T).
    """
    counted = jt.array(real[:, None].astype(np.float32))
    z = jt.array(wanted)
    x = jt.ternary(counted.broadcast(logits.shape) > 0, logits, jt.zeros_like(logits))
    p = jt.sigmoid(x)
    cross_entropy = jt.maximum(x, 0.0) - x * z + jt.log(1 + jt.exp(-jt.abs(x)))
    missed = p + z - 2 * p * z  # 1 - p where wanted, p elsewhere
    assert GAMMA == 2.0
    weighted = cross_entropy * missed * missed * (z * (2 * ALPHA - 1) + (1 - ALPHA))
    return (weighted * counted).sum()


def box_losses(boxes: Any, pairs: Sequence[Matches], targets: Sequence[Targets]) -> tuple[Any, Any]:
    """Sums over matched pairs of L1 and of 1 - GIoU.

    Args:
        boxes: (B, R, 4) cxcywh shares.
        pairs: matched pairs of each image.
        targets: targets of each image.
    """
    rows = np.concatenate([image * boxes.shape[1] + pair.queries for image, pair in enumerate(pairs)])
    if not len(rows):
        nothing = (boxes * 0).sum()
        return nothing, nothing
    truth = jt.array(np.concatenate([t.boxes[pair.boxes] for pair, t in zip(pairs, targets, strict=True)]))
    chosen = boxes.reshape(-1, 4)[jt.array(rows.astype(np.int32))]
    return jt.abs(chosen - truth).sum(), (1 - paired_giou(chosen, truth)).sum()


def paired_giou(a: Any, b: Any) -> Any:
    """Generalised IoU (Rezatofighi et al. 2019) of boxes cxcywh, (n, 4) and (n, 4) to (n,)."""
    low_a, high_a = a[:, :2] - a[:, 2:] / 2, a[:, :2] + a[:, 2:] / 2
    low_b, high_b = b[:, :2] - b[:, 2:] / 2, b[:, :2] + b[:, 2:] / 2
    shared = jt.maximum(jt.minimum(high_a, high_b) - jt.maximum(low_a, low_b), 0.0)
    hull = jt.maximum(high_a, high_b) - jt.minimum(low_a, low_b)
    both, around = shared[:, 0] * shared[:, 1], hull[:, 0] * hull[:, 1]
    union = a[:, 2] * a[:, 3] + b[:, 2] * b[:, 3] - both
    return both / union - (around - union) / around
