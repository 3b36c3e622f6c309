"""Unusual input that lvis-api accepts, mixed into a synthetic LVIS set; evaluators disagree on it."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

from ovd_bench.metrics.types import Predictions

Annotations = dict[str, Any]


def mix_in_oddities(
    rng: np.random.Generator, annotations: Annotations, predictions: Predictions
) -> tuple[Annotations, Predictions]:
    """Unusual version of a data set: new prediction columns in random order; ``annotations`` is changed in place."""
    _odd_boxes(rng, annotations["annotations"])
    _odd_lists(rng, annotations)
    for key in ("images", "categories"):
        rng.shuffle(annotations[key])
    return annotations, _odd_predictions(rng, annotations, predictions)


def _odd_boxes(rng: np.random.Generator, boxes: list[dict[str, Any]]) -> None:
    """Ids from 0, zero and huge areas, areas on the borders of the ranges, crowd and ignore fields, twins."""
    fate = rng.random(len(boxes))
    for row, box in enumerate(boxes):
        box["id"] = row
        box["iscrowd"] = int(rng.random() < 0.03)
        if rng.random() < 0.03:
            box["ignore"] = int(rng.random() < 0.7)
        if fate[row] < 0.02:
            box["area"] = 0.0
        elif fate[row] < 0.03:
            box["bbox"][2] = 0.0
        elif fate[row] < 0.04:
            box["area"] = 1024
        elif fate[row] < 0.05:
            box["area"] = 9216.0
        elif fate[row] < 0.055:
            box["area"] = 2e10
        elif fate[row] < 0.075 and row:
            twin = boxes[row - 1]  # equal IoU with every detection of a shared pair
            box |= {"bbox": list(twin["bbox"]), "image_id": twin["image_id"], "category_id": twin["category_id"]}
        elif fate[row] < 0.1:
            box["bbox"] = [int(side) for side in box["bbox"]]


def _odd_lists(rng: np.random.Generator, annotations: Annotations) -> None:
    """Classes that are negative and positive, not exhaustive and negative, or only not exhaustive."""
    classes = [category["id"] for category in annotations["categories"]]
    present: dict[int, set[int]] = {}
    for box in annotations["annotations"]:
        present.setdefault(box["image_id"], set()).add(box["category_id"])
    for image in annotations["images"]:
        negative, partial = image["neg_category_ids"], image["not_exhaustive_category_ids"]
        if rng.random() < 0.1:
            negative.extend(sorted(present.get(image["id"], ()))[:1])
        if rng.random() < 0.1:
            partial.extend(negative[:2])
        if rng.random() < 0.1:
            partial.append(int(rng.choice(classes)))


def _odd_predictions(rng: np.random.Generator, annotations: Annotations, predictions: Predictions) -> Predictions:
    """Exact hits, half overlaps, negative and huge sides, signed zeros, ties, unknown classes; shuffled records."""
    count = len(predictions)
    category_id, score = predictions.category_id.copy(), predictions.score.copy()
    boxes = np.stack([predictions.x, predictions.y, predictions.w, predictions.h])
    fate = rng.random(count)

    def rows(low: float, high: float) -> np.ndarray[Any, np.dtype[np.int64]]:
        return np.flatnonzero((fate >= low) & (fate < high))

    image_id = predictions.image_id.copy()
    hits = rows(0.0, 0.02)
    for row, pick in zip(hits, rng.integers(0, len(annotations["annotations"]), len(hits)), strict=True):
        truth = annotations["annotations"][pick]
        image_id[row], category_id[row] = truth["image_id"], truth["category_id"]
        boxes[:, row] = truth["bbox"]
    boxes[3, hits[::2]] *= np.float32(0.5)  # IoU one half, the lowest threshold, wherever float32 holds the box
    boxes[2, rows(0.02, 0.03)] *= -1
    boxes[2:, rows(0.03, 0.04)] *= -1
    boxes[3, rows(0.04, 0.05)] = 0
    boxes[2:, rows(0.05, 0.055)] = 2e5
    boxes[:, rows(0.055, 0.1)] = np.floor(boxes[:, rows(0.055, 0.1)])
    category_id[rows(0.1, 0.11)] = category_id.max() + 7
    score[rows(0.11, 0.12)] = 0.0
    score[rows(0.12, 0.13)] = -0.0
    score[rows(0.13, 0.14)] *= -1
    # coarse scores in every third image: ties within it, across images, and at the cap
    coarse = np.isin(image_id, np.unique(image_id)[::3])
    score[coarse] = np.round(score[coarse] * 8) / 8
    x, y, w, h = boxes
    odd = replace(predictions, image_id=image_id, category_id=category_id, score=score, x=x, y=y, w=w, h=h)
    return odd.take(rng.permutation(count))
