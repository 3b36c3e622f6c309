"""From a probability per box and token to scores of classes and phrases."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from ovd_bench.detectors.captions import Caption, joined_spans, span_tokens
from ovd_bench.detectors.image_tensors import from_unit_square
from ovd_bench.detectors.selection import Pairs, best_pairs, detections
from ovd_bench.detectors.types import Detections, DetectorError, Grounding, Image

#: A token belongs to a box's phrase above this probability (``text_threshold`` of the official ``predict``).
TEXT_THRESHOLD = 0.25


def class_scores(probabilities: npt.NDArray[np.float32], phrases: Sequence[range]) -> npt.NDArray[np.float32]:
    """Mean probability over the tokens of each class (``demo/test_ap_on_coco.py`` of the official repository).

    A sum of products with 1 / (number of tokens), from the first token to the last, each step rounded once: what the
    matrix products of PyTorch and numpy give, without their freedom to add in another order.

    Args:
        probabilities: (Q, n), of Q boxes and n tokens.
        phrases: the token positions of each of K classes.

    Returns:
        (K, Q).
    """
    scores = np.zeros((len(phrases), len(probabilities)), np.float32)
    shares = np.array([1 / len(phrase) for phrase in phrases], np.float32).astype(np.float64)
    for step in range(max(map(len, phrases), default=0)):
        rows = [row for row, phrase in enumerate(phrases) if len(phrase) > step]
        tokens = [phrases[row].start + step for row in rows]
        scores[rows] = scores[rows] + shares[rows, None] * probabilities[:, tokens].T  # rounded when it is stored
    return scores


def span_scores(
    probabilities: npt.NDArray[np.float32], caption: Caption, phrases: Sequence[Sequence[tuple[int, int]]]
) -> npt.NDArray[np.float32]:
    """Scores of given phrases of a caption: the mean over their tokens, of a whole caption the highest.

    Phrases that a data set annotates are treated as class names are (mmdetection's ``grounding_dino.py``,
    ``tokens_positive``); a referring expression scores a box by its best token (the official ``predict``).

    Args:
        probabilities: (Q, n), of Q boxes and n tokens.
        caption: its n tokens.
        phrases: character ranges of each of K phrases; none = the whole caption.

    Returns:
        (K, Q).

    Raises:
        DetectorError: a phrase without a token.
    """
    rows = []
    for spans in phrases:
        own = probabilities[:, span_tokens(caption, spans)]
        rows.append(own.mean(axis=1) if spans else own.max(axis=1))
    return np.stack(rows)


def grounded(
    image: Image,
    text: str,
    caption: Caption,
    probabilities: npt.NDArray[np.float32],
    boxes_cxcywh: npt.NDArray[np.float32],
    top_k: int,
) -> Grounding:
    """The best (box, phrase) pairs; see ``GroundingDetector.ground``.

    A pair scores the highest probability among the phrase's tokens. Its spans are those of the tokens above
    ``TEXT_THRESHOLD``, and the whole phrase where none is.

    Args:
        image: what was looked at.
        text: the caption as the user wrote it.
        caption: its tokens.
        probabilities: (Q, n).
        boxes_cxcywh: (Q, 4), relative to the image.
        top_k: how many pairs.

    Raises:
        DetectorError: the caption has no phrase.
    """
    if not caption.phrases:
        raise DetectorError(f"image {image.id}: the caption {text!r} has no words")
    tokens = probabilities.T
    pairs = best_pairs(np.stack([tokens[phrase.start : phrase.stop].max(axis=0) for phrase in caption.phrases]), top_k)
    spans = []
    for phrase, box in zip(pairs.classes.tolist(), pairs.boxes.tolist(), strict=True):
        own = caption.phrases[phrase]
        sure = (tokens[own.start : own.stop, box] > TEXT_THRESHOLD).tolist()
        told = [span for span, keep in zip(caption.spans[phrase], sure, strict=True) if keep]
        spans.append(joined_spans(told or caption.spans[phrase], text))
    boxes = from_unit_square(boxes_cxcywh[pairs.boxes], image)
    return Grounding(image.id, text, boxes, pairs.scores, tuple(spans))


def phrase_boxes(
    image: Image, scores: npt.NDArray[np.float32], boxes_cxcywh: npt.NDArray[np.float32], top_k: int
) -> Detections:
    """The best boxes of each phrase; category ids are the numbers of the phrases.

    Args:
        image: what was looked at.
        scores: (K, Q).
        boxes_cxcywh: (Q, 4), relative to the image.
        top_k: boxes per phrase.
    """
    chosen = [best_pairs(row[None], top_k) for row in scores]
    pairs = Pairs(
        np.concatenate([one.scores for one in chosen]),
        np.concatenate([one.boxes for one in chosen]),
        np.concatenate([np.full(len(one), phrase, np.int64) for phrase, one in enumerate(chosen)]),
    )
    return detections(image, pairs, from_unit_square(boxes_cxcywh, image), range(len(scores)))
