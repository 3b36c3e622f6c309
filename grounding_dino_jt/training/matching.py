"""Matching of queries to boxes: the one-to-one assignment of lowest cost (DETR, Carion et al. 2020, section 3.1)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt
from scipy.optimize import linear_sum_assignment
from scipy.special import expit

from ovd_bench.grounding_dino_jt.training.batch import Targets

#: Parameters of the focal loss, in costs and losses.
ALPHA, GAMMA = 0.25, 2.0


@dataclass(frozen=True)
class Costs:
    """Weights of a match.

    Attributes:
        class_rule: ``sum`` is the sum over all tokens of the caption of the cost of target 1 for tokens of the box and
            target 0 for others (mmdetection ``match_cost.py``, BinaryFocalLossCost); ``mean`` is the mean over the
            tokens of the box of the cost of target 1 minus that of target 0 (Open-GroundingDino ``matcher.py``).
        class_weight, l1_weight, giou_weight: weights of the three parts.
    """

    class_rule: Literal["sum", "mean"] = "sum"
    class_weight: float = 2.0
    l1_weight: float = 5.0
    giou_weight: float = 2.0


#: Added inside the logarithms, as in each of the two sources.
_EPSILON = {"sum": 1e-12, "mean": 1e-8}


@dataclass(frozen=True)
class Matches:
    """Pairs of query and box of one image; int64 (n,) each."""

    queries: npt.NDArray[np.int64]
    boxes: npt.NDArray[np.int64]


def match(
    logits: npt.NDArray[np.float32],
    boxes: npt.NDArray[np.float32],
    real: npt.NDArray[np.bool_],
    targets: Sequence[Targets],
    costs: Costs,
) -> list[Matches]:
    """Match the queries of B images to their boxes.

    Args:
        logits: (B, Q, T); anything at padding.
        boxes: (B, Q, 4) cxcywh shares.
        real: (B, T), false at padding of the caption.
        targets: targets of each image.
        costs: weights.

    Raises:
        FloatingPointError: a cost is not a finite number.
    """
    found = []
    for image, target in enumerate(targets):
        columns = real[image]
        cost = costs.class_weight * _class_cost(
            logits[image][:, columns].astype(np.float64), target.token_map[:, columns], costs.class_rule
        )
        predicted, truth = boxes[image].astype(np.float64), target.boxes.astype(np.float64)
        cost += costs.l1_weight * np.abs(predicted[:, None] - truth[None]).sum(-1)
        cost -= costs.giou_weight * pairwise_giou(predicted, truth)
        if not np.isfinite(cost).all():
            raise FloatingPointError("logits or boxes of the network are not finite numbers")
        rows, columns_ = linear_sum_assignment(cost)
        found.append(Matches(rows.astype(np.int64), columns_.astype(np.int64)))
    return found


def _class_cost(
    logits: npt.NDArray[np.float64], token_map: npt.NDArray[np.bool_], rule: Literal["sum", "mean"]
) -> npt.NDArray[np.float64]:
    """(Q, t) and (n, t) to (Q, n)."""
    probability, epsilon = expit(logits), _EPSILON[rule]
    on = -np.log(probability + epsilon) * ALPHA * (1 - probability) ** GAMMA
    off = -np.log(1 - probability + epsilon) * (1 - ALPHA) * probability**GAMMA
    tokens = token_map.astype(np.float64)
    cost: npt.NDArray[np.float64]
    if rule == "mean":
        cost = (on - off) @ (tokens / tokens.sum(1, keepdims=True)).T
    else:
        cost = (on - off) @ tokens.T + off.sum(1, keepdims=True)
    return cost


def pairwise_giou(a: npt.NDArray[np.float64], b: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Generalised IoU (Rezatofighi et al. 2019) of boxes cxcywh, (n, 4) and (m, 4) to (n, m)."""
    low_a, high_a = a[:, None, :2] - a[:, None, 2:] / 2, a[:, None, :2] + a[:, None, 2:] / 2
    low_b, high_b = b[None, :, :2] - b[None, :, 2:] / 2, b[None, :, :2] + b[None, :, 2:] / 2
    shared = (np.minimum(high_a, high_b) - np.maximum(low_a, low_b)).clip(0).prod(-1)
    union = a[:, None, 2:].prod(-1) + b[None, :, 2:].prod(-1) - shared
    hull = (np.maximum(high_a, high_b) - np.minimum(low_a, low_b)).prod(-1)
    with np.errstate(invalid="ignore", divide="ignore"):
        giou: npt.NDArray[np.float64] = shared / union - (hull - union) / hull
    return giou
