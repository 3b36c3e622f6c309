"""Comparison of two results for the same image up to rounding."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from ovd_bench.benchmarks.conformance.outcome import TOP_K, CheckFailed
from ovd_bench.detectors.types import Detections


@dataclass(frozen=True)
class Tolerance:
    """Tolerances of two results.

    Attributes:
        score: share of the greatest score.
        box: share of the longer side of the image, per coordinate.
        strays: share of detections that may have no counterpart, because of near ties in the selection of queries.
    """

    score: float
    box: float
    strays: float


#: For the same computation.
SAME = Tolerance(1e-5, 1e-5, 0.0)
#: For sums in another order: other batch, other chunk, other padding.
ROUNDING = Tolerance(1e-3, 1e-3, 0.01)


def expect_same(expected: Detections, got: Detections, tolerance: Tolerance, what: str) -> None:
    """Require two results for one image to agree; their order within equal scores has no effect.

    If a list is full, its end may differ by the order of nearly equal scores.

    Raises:
        CheckFailed: naming the first detection that has no counterpart.
    """
    allowed = int(tolerance.strays * max(len(expected), len(got)))
    reach = tolerance.score * float(np.abs(np.concatenate([expected.scores, got.scores, [0.0]])).max())
    for a, b, side in ((expected, got, "missing"), (got, expected, "unexpected")):
        full = max(len(a), len(b)) >= TOP_K
        lowest = min(float(x.scores.min()) for x in (a, b) if len(x)) if len(a) else 0.0
        alone = ~_has_partner(a, b, reach, tolerance.box)
        if full:
            alone &= a.scores > lowest + 2 * reach
        if np.count_nonzero(alone) > allowed:
            row = int(np.argmax(alone))
            raise CheckFailed(f"{what} ({len(expected)} boxes)", f"{side}: {_words(a, row)}; {_nearest(a, row, b)}")
    if abs(len(expected) - len(got)) > allowed:
        raise CheckFailed(f"{what} ({len(expected)} boxes)", f"{len(got)} boxes")


def _has_partner(a: Detections, b: Detections, score: float, box: float) -> npt.NDArray[np.bool_]:
    """Whether detections of ``a`` have a counterpart in ``b`` with the same class, score and box, (n,)."""
    if not len(b):
        return np.zeros(len(a), np.bool_)
    reach = box * max(a.width, a.height)
    alike = a.category_ids[:, None] == b.category_ids
    alike &= np.abs(a.scores[:, None] - b.scores) <= score
    for side in range(4):
        alike &= np.abs(a.boxes_xyxy[:, side, None] - b.boxes_xyxy[:, side]) <= reach
    found: npt.NDArray[np.bool_] = alike.any(axis=1)
    return found


def _words(answer: Detections, row: int) -> str:
    box = ", ".join(f"{value:.1f}" for value in answer.boxes_xyxy[row].tolist())
    return f"category {answer.category_ids[row]} with score {answer.scores[row]:.5g} at [{box}]"


def _nearest(answer: Detections, row: int, other: Detections) -> str:
    rows = np.flatnonzero(other.category_ids == answer.category_ids[row])
    if not len(rows):
        return "nothing of that category on the other side"
    far = np.abs(other.boxes_xyxy[rows] - answer.boxes_xyxy[row]).max(axis=1)
    return f"the nearest is {_words(other, int(rows[np.argmin(far)]))}"
