"""Non-maximum suppression: of two strongly overlapping boxes of one class, only the better one is reported."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float32]

#: Default IoU above which, of two boxes of one class, the one with the lower score is a duplicate.
NMS_IOU = 0.6
#: The IoU at which nothing is a duplicate.
NO_SUPPRESSION = 1.0
#: Maximum number of boxes per class, the best ones; the others are removed before the suppression.
NMS_BOXES = 100
#: Score of pairs that are not reported.
NOTHING = -1.0
#: Classes that are gone through together: more make fewer calls, and their arrays still fit the caches.
_CLASSES_AT_ONCE = 256


def without_duplicates(scores: Floats, boxes: Floats, iou: float = NMS_IOU) -> Floats:
    """Scores with ``NOTHING`` in place of boxes that a better one of the same class overlaps, and of the worst.

    If the rule changes, increase ``suppression_version`` on the cards of all detectors that use it.

    Args:
        scores: (K, N).
        boxes: (N, 4) xyxy.
        iou: above which a box is a duplicate; ``NO_SUPPRESSION`` returns the scores unchanged.
    """
    if iou >= NO_SUPPRESSION:
        return scores
    remaining = np.full(scores.shape, NOTHING, np.float32)
    for begin in range(0, len(scores), _CLASSES_AT_ONCE):
        part = scores[begin : begin + _CLASSES_AT_ONCE]
        # NaN comes first, so that it stays and is refused when pairs are chosen
        best = np.argsort(np.where(np.isnan(part), -np.inf, -part), axis=1, kind="stable")[:, :NMS_BOXES]
        rows, places = np.nonzero(_no_duplicates(boxes[best], iou))
        kept = best[rows, places]
        remaining[begin + rows, kept] = part[rows, kept]
    return remaining


def _no_duplicates(boxes: Floats, iou: float) -> npt.NDArray[np.bool_]:
    """Of boxes (K, n, 4), the best of each class first: which are kept (K, n).

    The arithmetic, in float32, and the comparison, in float64, are those of torchvision's ``nms``.
    """
    left, top, right, bottom = np.ascontiguousarray(boxes.transpose(2, 0, 1))
    areas = (right - left) * (bottom - top)
    kept = np.ones(areas.shape, np.bool_)
    with np.errstate(invalid="ignore"):  # two boxes without area: 0 / 0 is no overlap
        for place in range(areas.shape[1] - 1):
            one, others = np.s_[:, place : place + 1], np.s_[:, place + 1 :]
            width = np.minimum(right[one], right[others]) - np.maximum(left[one], left[others])
            height = np.minimum(bottom[one], bottom[others]) - np.maximum(top[one], top[others])
            common = np.maximum(width, np.float32(0)) * np.maximum(height, np.float32(0))
            overlap = common / (areas[one] + areas[others] - common)
            kept[others] &= ~((overlap.astype(np.float64) > iou) & kept[one])
    return kept
