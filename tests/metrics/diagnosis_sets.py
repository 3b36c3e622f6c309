"""Random annotation dictionaries and results for the tests of presence, error decomposition and calibration."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np

Json = dict[str, Any]


def random_set(
    seed: int,
    *,
    images: int = 12,
    classes: int = 5,
    truths: int = 5,
    detections: int = 30,
    federated: bool = False,
    crowd: float = 0.0,
    ignore: float = 0.0,
) -> tuple[Json, list[Json]]:
    """Annotations and results without score ties; detections are jittered, misnamed, misplaced or free boxes."""
    rng = np.random.default_rng(seed)
    annotations: list[Json] = []
    image_records: list[Json] = []
    results: list[Json] = []
    for image in range(1, images + 1):
        boxes = _boxes(rng, int(rng.integers(0, 2 * truths)))
        labels = rng.integers(1, classes + 1, len(boxes))
        for box, label in zip(boxes, labels, strict=True):
            annotations.append(
                {
                    "id": len(annotations) + 1,
                    "image_id": image,
                    "category_id": int(label),
                    "bbox": box.tolist(),
                    "area": float(box[2] * box[3]),
                    "iscrowd": int(rng.random() < crowd),
                    "ignore": int(rng.random() < ignore),
                }
            )
        record: Json = {"id": image, "width": 200, "height": 200}
        if federated:
            absent = sorted(set(range(1, classes + 1)) - {int(x) for x in labels})
            kinds = rng.integers(0, 4, len(absent))  # half of the absent classes are verified, some not exhaustively
            record["neg_category_ids"] = [c for c, kind in zip(absent, kinds, strict=True) if kind >= 2]
            present = sorted({int(x) for x in labels})
            record["not_exhaustive_category_ids"] = [c for c in present + absent if rng.random() < 0.2]
        image_records.append(record)
        for _ in range(int(rng.integers(0, 2 * detections))):
            free = len(boxes) == 0 or rng.random() < 0.3
            box = _boxes(rng, 1)[0] if free else boxes[rng.integers(len(boxes))].copy()
            box += rng.normal(0, rng.choice([1.0, 8.0]), 4)
            box[2:] = np.maximum(box[2:], 1)
            results.append(
                {
                    "image_id": image,
                    "category_id": int(rng.integers(1, classes + 1)),
                    "bbox": box.tolist(),
                    "score": float(rng.random()),
                }
            )
    categories = [
        {"id": c, "name": f"class {c}", "frequency": "rcf"[c % 3], "synset": f"s{c}", "synonyms": []}
        for c in range(1, classes + 1)
    ]
    return {"images": image_records, "annotations": annotations, "categories": categories}, results


def real_federated_set(real_data: Path) -> tuple[Json, list[Json]]:
    """Real LVIS annotations of 100 images and made-up results without score ties: jittered, misnamed, hallucinated."""
    annotations = json.loads((real_data / "lvis-api/lvis_val_100.json").read_text())
    rng = np.random.default_rng(0)
    for a in annotations["annotations"]:
        a |= {"iscrowd": 0, "ignore": 0}
    verified = {image["id"]: list(image["neg_category_ids"]) for image in annotations["images"]}
    for a in annotations["annotations"]:
        verified[a["image_id"]].append(a["category_id"])
    results: list[Json] = []
    for a in annotations["annotations"]:
        for jitter in (0.02, 0.3):
            box = np.array(a["bbox"]) * (1 + jitter * rng.normal(size=4))
            known, every = verified[a["image_id"]], annotations["categories"]
            kind = rng.integers(4)
            other = known[rng.integers(len(known))] if kind == 2 else every[rng.integers(len(every))]["id"]
            results.append(
                {
                    "image_id": a["image_id"],
                    "category_id": a["category_id"] if kind < 2 else other,
                    "bbox": np.maximum(box, 1).tolist(),
                    "score": float(rng.random()),
                }
            )
    return annotations, results


def _boxes(rng: np.random.Generator, count: int) -> np.ndarray[Any, np.dtype[np.float64]]:
    return np.concatenate([rng.uniform(0, 130, (count, 2)), rng.uniform(10, 70, (count, 2))], axis=1)
