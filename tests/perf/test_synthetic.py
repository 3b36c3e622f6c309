"""The generator keeps its promises: shape of LVIS and COCO, reproducible, odd input that lvis-api accepts."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ovd_bench.benchmarks.data.files.predictions import write_predictions
from ovd_bench.metrics.types import Predictions
from ovd_bench.perf.synthetic import Annotations, coco_scale, lvis_scale

IMAGES = 2000


@pytest.fixture(scope="module")
def lvis_set() -> tuple[Annotations, Predictions]:
    return lvis_scale(3, IMAGES)


@pytest.fixture(scope="module")
def coco_set() -> tuple[Annotations, Predictions]:
    return coco_scale(3, images=1000, detections=100_000)


def positive_pairs(annotations: Annotations) -> set[tuple[int, int]]:
    return {(box["image_id"], box["category_id"]) for box in annotations["annotations"]}


def size_shares(annotations: Annotations) -> list[float]:
    areas = [box["area"] for box in annotations["annotations"]]
    return list(np.histogram(areas, [0, 32**2, 96**2, 1e10])[0] / len(areas))


def lvis_api_results(tmp_path: Path, annotations: Annotations, predictions: Predictions) -> dict[str, float]:
    setattr(np, "float", float)  # noqa: B010  # lvis 0.5.3 was written for an older numpy
    from lvis import LVIS, LVISEval, LVISResults

    gt, dt = tmp_path / "gt.json", tmp_path / "dt.json"
    gt.write_text(json.dumps(annotations))
    write_predictions(dt, predictions)
    truth = LVIS(str(gt))
    evaluation = LVISEval(truth, LVISResults(truth, str(dt)), "bbox")
    evaluation.run()
    results: dict[str, float] = evaluation.get_results()
    return results


def test_lvis_annotations_have_the_shape_of_the_real_sample(lvis_set: tuple[Annotations, Predictions]) -> None:
    annotations, _ = lvis_set
    images = annotations["images"]
    assert len(annotations["annotations"]) / IMAGES == pytest.approx(10.5, abs=0.5)
    assert len(positive_pairs(annotations)) / IMAGES == pytest.approx(3.2, abs=0.15)
    assert sum(len(i["neg_category_ids"]) for i in images) / IMAGES == pytest.approx(9.4, abs=0.3)
    assert sum(len(i["not_exhaustive_category_ids"]) for i in images) / IMAGES == pytest.approx(0.16, abs=0.04)
    assert size_shares(annotations) == pytest.approx([0.58, 0.30, 0.12], abs=0.02)
    assert Counter(c["frequency"] for c in annotations["categories"]) == {"r": 337, "c": 461, "f": 405}
    for category in annotations["categories"]:
        count = category["image_count"]
        assert category["frequency"] == ("r" if count <= 10 else "c" if count <= 100 else "f")


def test_lvis_classes_are_long_tailed(lvis_set: tuple[Annotations, Predictions]) -> None:
    annotations, _ = lvis_set
    letter = {c["id"]: c["frequency"] for c in annotations["categories"]}
    pairs = Counter(letter[category] for _, category in positive_pairs(annotations))
    assert pairs["f"] > 4 * pairs["c"] > 16 * pairs["r"] > 0


def test_lvis_lists_agree_with_the_boxes(lvis_set: tuple[Annotations, Predictions]) -> None:
    annotations, _ = lvis_set
    pairs = positive_pairs(annotations)
    for image in annotations["images"]:
        assert not any((image["id"], c) in pairs for c in image["neg_category_ids"])
        assert all((image["id"], c) in pairs for c in image["not_exhaustive_category_ids"])


def test_boxes_lie_in_their_images(lvis_set: tuple[Annotations, Predictions]) -> None:
    annotations, predictions = lvis_set
    size = {i["id"]: (i["width"], i["height"]) for i in annotations["images"]}
    for box in annotations["annotations"]:
        x, y, w, h = box["bbox"]
        width, height = size[box["image_id"]]
        assert min(x, y) >= 0
        assert min(w, h) >= 1
        assert x + w <= width + 0.02
        assert y + h <= height + 0.02
        assert 0 < box["area"] <= w * h + 20  # both are rounded to two decimals
    assert min(predictions.x.min(), predictions.y.min(), predictions.w.min(), predictions.h.min()) == 0


def test_lvis_predictions_exercise_the_cap_and_ties(lvis_set: tuple[Annotations, Predictions]) -> None:
    annotations, predictions = lvis_set
    known = {i["id"] for i in annotations["images"]}
    images, counts = np.unique(predictions.image_id, return_counts=True)
    assert set(images.tolist()) == known
    assert counts.min() == 300
    assert counts.max() > 320
    assert counts.mean() == pytest.approx(303, abs=1)
    assert predictions.score.dtype == np.float32
    assert np.mean(predictions.w == 0) == pytest.approx(0.0033, abs=0.0005)
    assert len(np.unique(predictions.score)) < 0.99 * len(predictions)
    assert 0 < predictions.score.min() < predictions.score.max() < 1
    negative_pairs = {(i["id"], c) for i in annotations["images"] for c in i["neg_category_ids"]}
    verified = positive_pairs(annotations) | negative_pairs
    pairs = zip(predictions.image_id.tolist(), predictions.category_id.tolist(), strict=True)
    share = np.mean([pair in verified for pair in pairs])
    assert share == pytest.approx(0.42, abs=0.04)


def test_predictions_are_neither_perfect_nor_hopeless(tmp_path: Path) -> None:
    results = lvis_api_results(tmp_path, *lvis_scale(5, 40, classes=60))
    assert 0.15 < results["AP"] < results["AP50"] < 0.9
    assert results["APr"] >= 0


def test_coco_shape(coco_set: tuple[Annotations, Predictions]) -> None:
    annotations, predictions = coco_set
    assert len(predictions) == 100_000
    assert len(annotations["annotations"]) / 1000 == pytest.approx(7.3, abs=0.5)
    assert size_shares(annotations) == pytest.approx([0.41, 0.34, 0.25], abs=0.03)
    assert np.mean([box["iscrowd"] for box in annotations["annotations"]]) == pytest.approx(0.02, abs=0.006)
    ids = [c["id"] for c in annotations["categories"]]
    assert len(ids) == 80
    assert max(ids) > 80
    assert set(predictions.category_id.tolist()) <= set(ids)
    pairs = Counter(zip(predictions.image_id.tolist(), predictions.category_id.tolist(), strict=True))
    assert max(pairs.values()) > 100


@pytest.mark.parametrize("edge", [False, True])
def test_same_seed_same_set(edge: bool) -> None:
    first, again, other = (lvis_scale(seed, 1100, detections_per_image=20, edge=edge) for seed in (7, 7, 8))
    assert json.dumps(first[0]) == json.dumps(again[0]) != json.dumps(other[0])
    for field in ("image_id", "category_id", "score", "x", "y", "w", "h"):
        column, same, different = (getattr(made[1], field) for made in (first, again, other))
        assert column.tobytes() == same.tobytes() != different.tobytes()


def test_edge_mode_holds_every_oddity() -> None:
    annotations, predictions = lvis_scale(11, 300, classes=60, detections_per_image=60, edge=True)
    boxes: list[dict[str, Any]] = annotations["annotations"]
    assert boxes[0]["id"] == 0
    assert {box["area"] for box in boxes} >= {0.0, 1024, 9216.0, 2e10}
    assert any(box["bbox"][2] == 0 for box in boxes)
    assert {box["iscrowd"] for box in boxes} == {0, 1}
    assert {box.get("ignore") for box in boxes} == {None, 0, 1}
    twins = Counter((b["image_id"], b["category_id"], *b["bbox"]) for b in boxes)
    assert max(twins.values()) > 1
    pairs = positive_pairs(annotations)
    images = annotations["images"]
    assert [i["id"] for i in images] != sorted(i["id"] for i in images)
    assert any((i["id"], c) in pairs for i in images for c in i["neg_category_ids"])
    assert any(set(i["neg_category_ids"]) & set(i["not_exhaustive_category_ids"]) for i in images)
    assert any(
        (i["id"], c) not in pairs and c not in i["neg_category_ids"]
        for i in images
        for c in i["not_exhaustive_category_ids"]
    )
    w, h = predictions.w, predictions.h
    assert all(np.any(odd) for odd in ((w < 0) & (h > 0), (w < 0) & (h < 0), h == 0, w * h > 1e10))
    assert predictions.category_id.max() > 60
    assert set(np.signbit(predictions.score[predictions.score == 0]).tolist()) == {True, False}
    assert np.any(np.diff(predictions.image_id) < 0)


def test_lvis_api_accepts_edge_mode(tmp_path: Path) -> None:
    results = lvis_api_results(tmp_path, *lvis_scale(13, 30, classes=40, edge=True))
    assert 0 < results["AP"] < 1
