"""Which (box, class) pairs of an image are kept: the best by score, several classes per box allowed, no threshold.

Ties go to the earlier class, then to the earlier box, so that the choice does not depend on the device or on the
company of other images. Whoever changes the choice raises ``detectors.interface.SELECTION_VERSION``.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from ovd_bench.detectors.types import Detections, DetectorError, Image

Floats = npt.NDArray[np.float32]
Rows = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Pairs:
    """Chosen (box, class) pairs of one image, best first (n of them).

    Attributes:
        scores: float32 (n,).
        boxes: int64 (n,), rows of the boxes that were chosen from.
        classes: int64 (n,), rows of the classes.
    """

    scores: Floats
    boxes: Rows
    classes: Rows

    def __len__(self) -> int:
        return len(self.scores)

    def above(self, score: float) -> Pairs:
        """Those with a greater score."""
        number = int((self.scores > score).sum())  # best first, so the others are at the end
        return Pairs(self.scores[:number], self.boxes[:number], self.classes[:number])


def best_pairs(scores: Floats, k: int) -> Pairs:
    """The ``k`` best of all pairs, or all if there are fewer.

    Args:
        scores: (classes, boxes); higher is better.
        k: how many.

    Raises:
        DetectorError: a score is not a number.
    """
    flat = scores.ravel()
    k = min(k, len(flat))
    if k == 0:
        nothing = np.empty(0, np.int64)
        return Pairs(flat[:0], nothing, nothing)
    if not np.isfinite(flat).all():
        raise DetectorError("the network returned scores that are not finite: use float32, or check the weights")
    threshold = np.partition(flat, len(flat) - k)[len(flat) - k]
    above = np.flatnonzero(flat > threshold)
    level = np.flatnonzero(flat == threshold)[: k - len(above)]
    chosen = np.concatenate((above, level))
    chosen = chosen[np.argsort(-flat[chosen], kind="stable")]
    boxes = scores.shape[1]
    return Pairs(flat[chosen], chosen % boxes, chosen // boxes)


def best_pairs_of_chunks(scores: Floats, chunks: Sequence[range], top_k: int, chunk_top_k: int | None) -> Pairs:
    """The ``top_k`` best pairs, of which at most ``chunk_top_k`` are from one chunk of classes.

    Args:
        scores: (classes, boxes).
        chunks: consecutive ranges of classes.
        top_k: how many pairs in all.
        chunk_top_k: how many of each chunk; None = no limit of its own.
    """
    if chunk_top_k is None or chunk_top_k >= top_k:
        return best_pairs(scores, top_k)
    chosen = []
    for chunk in chunks:
        pairs = best_pairs(scores[chunk.start : chunk.stop], chunk_top_k)
        chosen.append(Pairs(pairs.scores, pairs.boxes, pairs.classes + chunk.start))
    return _merged(chosen, top_k)


class ChunkedChoice:
    """Best pairs of one image whose chunks of classes each have boxes of their own.

    Args:
        chunk_top_k: pairs kept of each chunk.
    """

    def __init__(self, chunk_top_k: int) -> None:
        self._chunk_top_k = chunk_top_k
        self._pairs: list[Pairs] = []
        self._boxes: list[Floats] = []
        self._kept = 0
        self._classes = 0

    def add(self, scores: Floats, boxes: Floats) -> None:
        """Add the next chunk: scores (classes, boxes), boxes (boxes, 4)."""
        pairs = best_pairs(scores, self._chunk_top_k)
        rows = np.arange(self._kept, self._kept + len(pairs))
        self._pairs.append(Pairs(pairs.scores, rows, pairs.classes + self._classes))
        self._boxes.append(boxes[pairs.boxes])
        self._kept += len(pairs)
        self._classes += len(scores)

    def best(self, k: int) -> tuple[Pairs, Floats]:
        """The ``k`` best of all chunks, and the boxes (boxes, 4) that they point at."""
        return _merged(self._pairs, k), np.concatenate(self._boxes)


def _merged(chunks: Sequence[Pairs], k: int) -> Pairs:
    """The ``k`` best of the pairs of several chunks, which come in the order of their classes."""
    scores = np.concatenate([pairs.scores for pairs in chunks])
    boxes = np.concatenate([pairs.boxes for pairs in chunks])
    classes = np.concatenate([pairs.classes for pairs in chunks])
    order = np.argsort(-scores, kind="stable")[:k]
    return Pairs(scores[order], boxes[order], classes[order])


def detections(image: Image, pairs: Pairs, boxes_xyxy: Floats, category_ids: Sequence[int]) -> Detections:
    """The chosen pairs as detections.

    Args:
        image: what was looked at.
        pairs: chosen (box, class) pairs.
        boxes_xyxy: (boxes, 4), pixels of the original image.
        category_ids: of the class rows.
    """
    ids = np.asarray(category_ids, np.int32)[pairs.classes]
    return Detections.of(image, boxes_xyxy[pairs.boxes], pairs.scores, ids)
