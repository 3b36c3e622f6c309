"""Small data sets, random and drawn by hypothesis, full of what evaluators disagree on."""

from __future__ import annotations

from typing import Any

import numpy as np
from hypothesis import strategies as st

Json = dict[str, Any]

_SIDES = st.sampled_from([0, 1, 2, 8, 16, 32, 33, 96, 100, -3])
_CORNERS = st.sampled_from([0, 1, 2, 4, 8, 50, 300])
_BOXES = st.tuples(_CORNERS, _CORNERS, _SIDES, _SIDES).map(list)
_FLOAT_BOXES = st.lists(st.floats(-10, 500, width=32), min_size=4, max_size=4)
_SCORES = st.sampled_from([0.0, -0.0, 0.1, 0.25, 0.5, 0.5000001, 0.9, 1.0, -1.0])
_AREAS = st.sampled_from([None, None, None, 0, -1, 1024, 1023.9999999999999, 9216, 2e10])


@st.composite
def federated_sets(draw: st.DrawFn) -> tuple[Json, list[Json]]:
    """An LVIS annotation dictionary with COCO's ``iscrowd`` too, and a non-empty result list."""
    classes = draw(st.integers(1, 3))
    ids = draw(st.lists(st.integers(0, 40), min_size=1, max_size=4, unique=True))
    category = st.integers(1, classes)
    lists = st.lists(category, max_size=2, unique=True)
    images = [{"id": i, "neg_category_ids": draw(lists), "not_exhaustive_category_ids": draw(lists)} for i in ids]
    annotations: list[Json] = []
    for number in range(draw(st.integers(0, 6))):
        box = draw(_BOXES)
        area = draw(_AREAS)
        annotations.append(
            {
                "id": number + draw(st.sampled_from([0, 1])) * 100,
                "image_id": draw(st.sampled_from(ids)),
                "category_id": draw(category),
                "bbox": box,
                "area": abs(box[2] * box[3]) if area is None else area,
                "iscrowd": int(draw(st.integers(0, 5)) == 0),
                "ignore": int(draw(st.integers(0, 7)) == 0),
            }
        )
    boxes = _BOXES | _FLOAT_BOXES
    if annotations:
        boxes = st.sampled_from([a["bbox"] for a in annotations]) | boxes
    result = st.fixed_dictionaries(
        {
            "image_id": st.sampled_from(ids),
            "category_id": st.integers(1, classes + 1),
            "bbox": boxes,
            "score": _SCORES | st.floats(0, 1, width=32),
        }
    )
    results = draw(st.lists(result, min_size=1, max_size=12))
    categories = [{"id": k + 1, "name": f"class {k}", "frequency": "rcf"[k % 3]} for k in range(classes)]
    return {"images": images, "annotations": annotations, "categories": categories}, results


def random_set(seed: int, images: int, classes: int, detections: int, *, odd: bool = False) -> tuple[Json, list[Json]]:
    """Seeded LVIS-like set: unsorted image ids, jittered boxes, confusions, score ties; ``odd`` adds odd input."""
    rng = np.random.default_rng(seed)
    ids = rng.permutation(images * 3)[:images].tolist()
    annotations: list[Json] = []
    results: list[Json] = []
    image_rows = []
    for image in ids:
        lists = rng.permutation(classes)[: rng.integers(0, 6)] + 1
        cut = int(rng.integers(0, len(lists) + 1))
        image_rows.append(
            {
                "id": image,
                "width": 640,
                "height": 480,
                "neg_category_ids": lists[:cut].tolist(),
                "not_exhaustive_category_ids": lists[cut:].tolist(),
            }
        )
        boxes = np.concatenate([rng.random((8, 2)) * 500, 2.0 ** (rng.random((8, 2)) * 6 + 2)], axis=1)
        labels = rng.integers(1, classes + 1, 8)
        for box, label in zip(boxes[: rng.integers(0, 9)].tolist(), labels.tolist(), strict=False):
            annotations.append(
                {
                    "id": len(annotations) + (0 if odd else 1),
                    "image_id": image,
                    "category_id": label,
                    "bbox": box,
                    "area": box[2] * box[3] * (0 if odd and rng.random() < 0.05 else 0.8),
                    "iscrowd": int(rng.random() < 0.05),
                    "ignore": int(odd and rng.random() < 0.05),
                }
            )
        for _ in range(detections):
            source = int(rng.integers(0, 8))
            box = (
                (boxes[source] * (1 + rng.normal(0, 0.08, 4))).tolist()
                if rng.random() < 0.7
                else boxes[source].tolist()
            )
            if odd and rng.random() < 0.02:
                box[2] = 0.0
            label = int(labels[source]) if rng.random() < 0.7 else int(rng.integers(1, classes + 1 + odd))
            score = float(np.round(rng.random(), 2 if rng.random() < 0.5 else 6))
            results.append({"image_id": image, "category_id": label, "bbox": box, "score": score})
    order = rng.permutation(len(results))
    categories = [{"id": k + 1, "name": f"class {k}", "frequency": "rcf"[k % 3]} for k in range(classes)]
    annotation = {"images": image_rows, "annotations": annotations, "categories": categories}
    return annotation, [results[i] for i in order]
