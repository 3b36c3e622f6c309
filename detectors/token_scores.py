"""From a logit per box and token to scores of classes and phrases."""

from __future__ import annotations

import torch

from ovd_bench.detectors.captions import Caption, joined_spans
from ovd_bench.detectors.image_tensors import from_unit_square
from ovd_bench.detectors.selection import best_pairs
from ovd_bench.detectors.types import DetectorError, Grounding, Image

#: A token belongs to a box's phrase above this probability (``text_threshold`` of the official ``predict``).
TEXT_THRESHOLD = 0.25


def class_scores(logits: torch.Tensor, shares: torch.Tensor) -> torch.Tensor:
    """Mean probability over the tokens of each class (``demo/test_ap_on_coco.py`` of the official repository).

    Args:
        logits: (..., Q, n), of Q boxes and n tokens.
        shares: (K, n), see ``Caption.shares``.

    Returns:
        (..., K, Q).
    """
    return shares @ logits.sigmoid().transpose(-1, -2)


def grounded(
    image: Image, text: str, caption: Caption, logits: torch.Tensor, boxes_cxcywh: torch.Tensor, top_k: int
) -> Grounding:
    """The best (box, phrase) pairs; see ``GroundingDetector.ground``.

    A pair scores the highest probability among the phrase's tokens. Its spans are those of the tokens above
    ``TEXT_THRESHOLD``, and the whole phrase where none is.

    Args:
        image: what was looked at.
        text: the caption as the user wrote it.
        caption: its tokens.
        logits: (Q, n).
        boxes_cxcywh: (Q, 4), relative to the image.
        top_k: how many pairs.

    Raises:
        DetectorError: the caption has no phrase.
    """
    if not caption.phrases:
        raise DetectorError(f"image {image.id}: the caption {text!r} has no words")
    tokens = logits.sigmoid().T
    scores = torch.stack([tokens[phrase.start : phrase.stop].amax(dim=0) for phrase in caption.phrases])
    pairs = best_pairs(scores, top_k)
    boxes = from_unit_square(boxes_cxcywh[pairs.boxes], image)
    spans = []
    for phrase, box in zip(pairs.classes.tolist(), pairs.boxes.tolist(), strict=True):
        own = caption.phrases[phrase]
        sure = (tokens[own.start : own.stop, box] > TEXT_THRESHOLD).tolist()
        told = [span for span, keep in zip(caption.spans[phrase], sure, strict=True) if keep]
        spans.append(joined_spans(told or caption.spans[phrase], text))
    return Grounding(image.id, text, boxes.cpu().numpy(), pairs.scores.cpu().numpy(), tuple(spans))
