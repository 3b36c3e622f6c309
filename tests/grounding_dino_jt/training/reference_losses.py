"""What training Grounding DINO minimises, written out slowly in torch for one query, box and token after the other.

It is what the losses in Jittor are compared with, so it is written from the papers and from what mmdetection
(``grounding_dino_head.py``, ``dino_layers.py``, ``match_cost.py``) and Open-GroundingDino (``matcher.py``,
``groundingdino.py``) compute, with no thought of speed. Everything is in the type of the logits, float64 for choice.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt
import torch
from scipy.optimize import linear_sum_assignment
from torch import Tensor

from ovd_bench.grounding_dino_jt.training.batch import Targets

Style = Literal["mmdet", "open"]

_ALPHA = 0.25  # focal loss, Lin et al. 2017; its exponent is 2
_L1, _GIOU = 5.0, 2.0  # of cost and loss alike, in both projects
_CLASS_COST = {"mmdet": 2.0, "open": 1.0}
_CLASS_LOSS = {"mmdet": 1.0, "open": 2.0}


def focal(logit: Tensor, target: bool) -> Tensor:
    """Sigmoid focal loss of one logit; not finite where the logit is not."""
    if target:
        return _ALPHA * torch.sigmoid(-logit) ** 2 * torch.nn.functional.softplus(-logit)
    return (1 - _ALPHA) * torch.sigmoid(logit) ** 2 * torch.nn.functional.softplus(logit)


def corners(box: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Left, top, right and bottom of cxcywh."""
    x, y, w, h = box.unbind()
    return x - w / 2, y - h / 2, x + w / 2, y + h / 2


def giou(box: Tensor, other: Tensor) -> Tensor:
    """Generalised IoU of two boxes cxcywh (Rezatofighi et al. 2019), -1 to 1."""
    left, top, right, bottom = corners(box)
    left2, top2, right2, bottom2 = corners(other)
    width = (torch.minimum(right, right2) - torch.maximum(left, left2)).clamp(min=0)
    height = (torch.minimum(bottom, bottom2) - torch.maximum(top, top2)).clamp(min=0)
    shared = width * height
    union = (right - left) * (bottom - top) + (right2 - left2) * (bottom2 - top2) - shared
    hull = (torch.maximum(right, right2) - torch.minimum(left, left2)) * (
        torch.maximum(bottom, bottom2) - torch.minimum(top, top2)
    )
    return shared / union - (hull - union) / hull


def class_cost(logits: Tensor, token_map: npt.NDArray[np.bool_], real: npt.NDArray[np.bool_], style: Style) -> Tensor:
    """What it costs that a query stands for a box, without its weight.

    mmdetection's ``BinaryFocalLossCost`` is the sum over the real tokens of the cost of "yes" at the tokens of the box
    and of "no" at all others. Open-GroundingDino takes the mean over the tokens of the box of "yes" less "no".

    Args:
        logits: (T,) of one query.
        token_map: (T,) of one box.
        real: (T,), false at padding.
        style: whose.

    Returns:
        One number.
    """
    eps = 1e-12 if style == "mmdet" else 1e-8
    total = torch.zeros((), dtype=logits.dtype)
    for column in np.flatnonzero(real):
        p = torch.sigmoid(logits[column])
        yes = -torch.log(p + eps) * _ALPHA * (1 - p) ** 2
        no = -torch.log(1 - p + eps) * (1 - _ALPHA) * p**2
        if style == "mmdet":
            total = total + (yes if token_map[column] else no)
        elif token_map[column]:
            total = total + (yes - no) / int(token_map.sum())
    return total


def matching_cost(
    logits: Tensor, boxes: Tensor, targets: Targets, real: npt.NDArray[np.bool_], style: Style
) -> npt.NDArray[np.float64]:
    """Cost of every pair of query and box of an image, (Q, n).

    Args:
        logits: (Q, T).
        boxes: (Q, 4) cxcywh.
        targets: n boxes.
        real: (T,), false at padding.
        style: whose.
    """
    wanted = torch.as_tensor(targets.boxes, dtype=boxes.dtype)
    cost = np.zeros((len(boxes), len(targets)))
    with torch.no_grad():
        for query in range(len(boxes)):
            for box in range(len(targets)):
                cost[query, box] = (
                    _CLASS_COST[style] * class_cost(logits[query], targets.token_map[box], real, style)
                    + _L1 * (boxes[query] - wanted[box]).abs().sum()
                    - _GIOU * giou(boxes[query], wanted[box])
                )
    return cost


def match(
    logits: Tensor, boxes: Tensor, targets: Targets, real: npt.NDArray[np.bool_], style: Style
) -> list[tuple[int, int]]:
    """Pairs of query and box that cost least together; arguments as ``matching_cost``."""
    rows, columns = linear_sum_assignment(matching_cost(logits, boxes, targets, real, style))
    return list(zip(rows.tolist(), columns.tolist(), strict=True))


def matched_losses(
    logits: Tensor,
    boxes: Tensor,
    targets: Sequence[Targets],
    real: npt.NDArray[np.bool_],
    style: Style,
    pairs: Sequence[Sequence[tuple[int, int]]],
    boxes_in_all: int,
) -> dict[str, Tensor]:
    """Weighted ``class``, ``l1`` and ``giou`` of a layer whose pairs are known.

    Args:
        logits: (B, Q, T or more), of which the columns beyond the caption are not looked at.
        boxes: (B, Q, 4) cxcywh.
        targets: of B images.
        real: (B, T).
        style: whose weights.
        pairs: of query and box, per image.
        boxes_in_all: what Open-GroundingDino divides the box losses by. Everything else is divided by the number of
            pairs; they differ where an image has more boxes than queries. Either is at least 1.
    """
    sums = {name: torch.zeros((), dtype=logits.dtype) for name in ("class", "l1", "giou")}
    for image, target in enumerate(targets):
        wanted = torch.as_tensor(target.boxes, dtype=boxes.dtype)
        box_of = dict(pairs[image])
        for query in range(logits.shape[1]):
            for column in np.flatnonzero(real[image]):
                yes = query in box_of and bool(target.token_map[box_of[query], column])
                sums["class"] = sums["class"] + focal(logits[image, query, column], yes)
        for query, box in pairs[image]:
            sums["l1"] = sums["l1"] + (boxes[image, query] - wanted[box]).abs().sum()
            sums["giou"] = sums["giou"] + 1 - giou(boxes[image, query], wanted[box])
    weights = {"class": _CLASS_LOSS[style], "l1": _L1, "giou": _GIOU}
    number = sum(map(len, pairs))
    counts = {"class": number, "l1": number, "giou": number}
    if style == "open":
        counts |= {"l1": boxes_in_all, "giou": boxes_in_all}
    return {name: weights[name] * value / max(counts[name], 1) for name, value in sums.items()}


def layer_losses(
    logits: Tensor, boxes: Tensor, targets: Sequence[Targets], real: npt.NDArray[np.bool_], style: Style
) -> dict[str, Tensor]:
    """Matching and losses of a decoder layer, or of the places that the encoder selected; see ``matched_losses``."""
    pairs = [
        match(logits[image].detach(), boxes[image].detach(), target, real[image], style)
        for image, target in enumerate(targets)
    ]
    return matched_losses(logits, boxes, targets, real, style, pairs, sum(map(len, targets)))


@dataclass(frozen=True)
class Noise:
    """The random numbers of denoising (B images, G groups, M boxes in the image that has most).

    The third axis, of length 2, is 0 for the positive and 1 for the negative query of a box. What belongs to box slots
    that an image does not fill is not looked at.

    Attributes:
        chances: (B, G, 2, M), 0 up to 1; below 0.25 the label is another.
        others: whole (B, G, 2, M), that other label.
        shares: (B, G, 2, M, 4), 0 up to 1, how far left, top, right and bottom move.
        signs: (B, G, 2, M, 4), -1 or 1, where to.
    """

    chances: npt.NDArray[np.float64]
    others: npt.NDArray[np.int64]
    shares: npt.NDArray[np.float64]
    signs: npt.NDArray[np.float64]

    @staticmethod
    def draw(targets: Sequence[Targets], queries: int, labels: int, seed: int) -> Noise:
        """For a batch, with about so many denoising queries per image and so many rows of the label embedding."""
        most = max(map(len, targets))
        shape = (len(targets), denoising_groups(targets, queries), 2, most)
        rng = np.random.default_rng(seed)
        return Noise(
            rng.random(shape),
            rng.integers(0, labels, shape),
            rng.random((*shape, 4)),
            rng.integers(0, 2, (*shape, 4)) * 2.0 - 1,
        )


@dataclass(frozen=True)
class Denoising:
    """Queries in front of the matching ones (B images, D = 2 G M denoising queries, Q matching queries).

    Attributes:
        labels: whole (B, D), rows of the label embedding; -1 = no content, a slot that is only padding.
        boxes: float64 (B, D, 4) cxcywh, what the decoder starts from.
        hidden: bool (D + Q, D + Q), true where the query of the row does not see that of the column.
        pairs: positive queries and their boxes, per image.
    """

    labels: npt.NDArray[np.int64]
    boxes: npt.NDArray[np.float64]
    hidden: npt.NDArray[np.bool_]
    pairs: list[list[tuple[int, int]]]


def denoising_groups(targets: Sequence[Targets], queries: int) -> int:
    """As many as fill the wanted number of queries, counted by the image with most boxes; at least 1."""
    most = max(map(len, targets))
    return max(1, queries // most) if most else 1


def denoise(targets: Sequence[Targets], noise: Noise, matching: int, eps: float) -> Denoising:
    """Contrastive denoising queries (DINO section 3.3; mmdetection's ``CdnQueryGenerator``).

    A group holds M slots of positive queries and M of negative ones. A corner of a positive box moves by up to half a
    side, that of a negative one by half a side to a whole one.

    Args:
        targets: of B images.
        noise: random numbers.
        matching: Q.
        eps: guard of the inverse sigmoid.
    """
    batch, groups, _, most = noise.chances.shape
    number = 2 * groups * most
    labels = np.full((batch, number), -1, np.int64)
    boxes = np.full((batch, number, 4), 0.5)  # zeros before the sigmoid
    pairs: list[list[tuple[int, int]]] = [[] for _ in targets]
    for image, target in enumerate(targets):
        for group in range(groups):
            for half in (0, 1):
                for box in range(len(target)):
                    at, slot = (image, group, half, box), (2 * group + half) * most + box
                    other = noise.chances[at] < 0.5 * 0.5
                    labels[image, slot] = noise.others[at] if other else target.phrases[box]
                    boxes[image, slot] = _moved(target.boxes[box], noise.shares[at] + half, noise.signs[at], eps)
                    if half == 0:
                        pairs[image].append((slot, box))
    hidden = np.zeros((number + matching, number + matching), np.bool_)
    for row in range(number + matching):
        for column in range(number):
            same_group = row < number and row // (2 * most) == column // (2 * most)
            hidden[row, column] = not same_group
    return Denoising(labels, boxes, hidden, pairs)


def _moved(
    box: npt.NDArray[np.float32], shares: npt.NDArray[np.float64], signs: npt.NDArray[np.float64], eps: float
) -> list[float]:
    """One box cxcywh with its corners moved, as it comes back from the inverse sigmoid."""
    x, y, w, h = map(float, box)
    moves = [share * sign * side / 2 for share, sign, side in zip(shares, signs, (w, h, w, h), strict=True)]
    edges = (x - w / 2, y - h / 2, x + w / 2, y + h / 2)
    left, top, right, bottom = (min(max(edge + move, 0.0), 1.0) for edge, move in zip(edges, moves, strict=True))
    values = ((left + right) / 2, (top + bottom) / 2, right - left, bottom - top)
    return [_sigmoid_of_inverse(value, eps) for value in values]


def _sigmoid_of_inverse(x: float, eps: float) -> float:
    x = min(max(x, 0.0), 1.0)  # two corners may have passed each other, which makes a side negative
    logit = math.log(max(x, eps) / max(1 - x, eps))
    return 1 / (1 + math.exp(-logit))


def denoising_losses(
    logits: Tensor,
    boxes: Tensor,
    denoising: Denoising,
    targets: Sequence[Targets],
    real: npt.NDArray[np.bool_],
    style: Style,
) -> dict[str, Tensor]:
    """Losses of the denoising queries of a decoder layer: boxes of the positive ones, classes of all, padding included.

    Args:
        logits: (B, D, T or more).
        boxes: (B, D, 4) cxcywh.
        denoising: its queries.
        targets: of B images.
        real: (B, T).
        style: whose weights.
    """
    pairs = denoising.pairs
    return matched_losses(logits, boxes, targets, real, style, pairs, sum(map(len, pairs)))
