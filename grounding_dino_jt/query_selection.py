"""Language-guided query selection (official ``transformer.py``, Transformer.forward, and ``utils.py``)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from ovd_bench.kernels.runtime import jittor

jt = jittor()


@dataclass(frozen=True)
class SelectedQueries:
    """Initial queries of the decoder (B images, Q queries).

    Attributes:
        boxes: (B, Q, 4) cxcywh, relative to the image; carries gradients of the encoder's box head.
        hidden: (B, Q, d), encoder output at the selected positions, for the encoder's own losses; None with static
            queries.
    """

    boxes: Any
    hidden: Any = None


@dataclass(frozen=True)
class Cells:
    """Geometry of the feature maps (N cells of L levels).

    Attributes:
        references: float32 (B, N, L, 2), the centre of a cell, relative to each level's padded map.
        proposals: float32 (B, N, 4), logits of a box cxcywh around it, sides of 0.05 * 2^level; +inf if not usable.
        usable: float32 (B, N, 1); 0 if the box is not within (0.01, 0.99) in all four numbers, or the cell is padding.
    """

    references: npt.NDArray[np.float32]
    proposals: npt.NDArray[np.float32]
    usable: npt.NDArray[np.float32]


def cells(
    shapes: Sequence[tuple[int, int]], valid_ratios: npt.NDArray[np.float32], padding: npt.NDArray[np.bool_] | None
) -> Cells:
    """Positions of the cells of all levels, one level after the other.

    Args:
        shapes: height and width of each level.
        valid_ratios: (B, L, 2), share of each map that is not padding, x and y.
        padding: bool (B, N); None = none.
    """
    levels = []
    for level, (height, width) in enumerate(shapes):
        y, x = np.meshgrid(np.arange(height) + 0.5, np.arange(width) + 0.5, indexing="ij")
        grid = np.stack([x, y], -1).reshape(1, -1, 2).astype(np.float32)
        centres = grid / (valid_ratios[:, None, level] * np.array([width, height], np.float32))
        levels.append(np.concatenate([centres, np.full_like(centres, 0.05 * 2.0**level)], -1))
    boxes = np.concatenate(levels, 1)
    usable = ((boxes > 0.01) & (boxes < 0.99)).all(-1, keepdims=True)
    if padding is not None:
        usable &= ~padding[..., None]
    with np.errstate(divide="ignore", invalid="ignore"):
        logits = np.log(boxes / (1 - boxes))
    return Cells(
        references=boxes[:, :, None, :2] * valid_ratios[:, None],
        proposals=np.where(usable, logits, np.float32(np.inf)),
        usable=usable.astype(np.float32),
    )


def best_places(scores: Any, number: int) -> Any:
    """Positions of the greatest scores, int32 (B, Q), best first.

    Args:
        scores: (B, N), the best token's logit of every position.
        number: Q; fewer if there are fewer positions.
    """
    return jt.topk(scores, min(number, scores.shape[1]), dim=1)[1]


def take(rows: Any, places: Any) -> Any:
    """(B or 1, N, c) at (B, Q) to (B, Q, c)."""
    batch, count = places.shape
    if rows.shape[0] != batch:
        rows = rows.expand(batch, *rows.shape[1:])
    first = jt.arange(batch).unsqueeze(1) * rows.shape[1]
    return rows.reshape(-1, rows.shape[-1])[(places + first).reshape(-1)].reshape(batch, count, rows.shape[-1])
