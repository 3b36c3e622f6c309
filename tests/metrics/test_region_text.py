"""Region-text margin against the full object x class matrix and by hand."""

from __future__ import annotations

import hashlib

import numpy as np
import pytest

from ovd_bench.metrics.errors import DataError
from ovd_bench.metrics.region_text import RegionEmbeddings, region_text_margin
from ovd_bench.metrics.semantic import match_labels
from ovd_bench.metrics.types import FloatArray, GroundTruth, Predictions
from ovd_bench.tests.metrics.semantic_sets import ground_truth_of, predictions_of

WEIGHTS = hashlib.sha256(b"weights").hexdigest()
NAMES = tuple("abcdef")


def unit(rows: FloatArray) -> FloatArray:
    scaled: FloatArray = rows / np.linalg.norm(rows, axis=1, keepdims=True)
    return scaled


def embeddings_of(crops: FloatArray, classes: FloatArray, missing: tuple[int, ...] = ()) -> RegionEmbeddings:
    has_crop = ~np.isin(np.arange(len(crops)), missing)
    rows = np.where(has_crop[:, None], crops, 0).astype(np.float32)
    return RegionEmbeddings(rows, has_crop, classes.astype(np.float32), "judge", WEIGHTS, "a photo of a {}")


def random_set(seed: int) -> tuple[GroundTruth, Predictions, RegionEmbeddings]:
    rng = np.random.default_rng(seed)
    gt = [(i % 3, rng.integers(6), 50 * i, 0, 20, 20) for i in range(20)]
    # the first boxes fit, so that objects without a crop (2 and 5) are among the matched; later ones may miss
    shift = [0] * 6 + rng.integers(0, 9, 14).tolist()
    dt = [(row[0], rng.integers(6), rng.random(), row[2] + s, 0, 20, 20) for row, s in zip(gt, shift, strict=True)]
    embeddings = embeddings_of(unit(rng.normal(size=(20, 8))), unit(rng.normal(size=(6, 8))), missing=(2, 5))
    return ground_truth_of(gt, 3, NAMES), predictions_of(dt), embeddings


@pytest.mark.parametrize("seed", range(10))
def test_equals_the_full_matrix(seed: int) -> None:
    gt, dt, embeddings = random_set(seed)
    result = region_text_margin(gt, dt, embeddings)
    matches = match_labels(gt, dt)
    cosine = embeddings.crops.astype(np.float64) @ embeddings.classes.astype(np.float64).T
    margin = np.array([[row[c] - np.delete(row, c).mean() for c in range(6)] for row in cosine])
    pairs = [(g, p) for g, p in zip(matches.gt_row, matches.predicted, strict=True) if embeddings.has_crop[g]]
    assert 0 < len(pairs) < len(matches.gt_row) <= 20
    rows = [g for g, _ in pairs]
    expected = {
        "region/margin": np.mean([margin[g, p] for g, p in pairs]),
        "region/margin_true": np.mean([margin[g, gt.class_index[g]] for g in rows]),
        "region/margin_random": margin[rows].mean(),
        "region/margin_generic": margin[rows].mean(axis=0).max(),
        "region/objects": len(rows),
        "region/without_crop": len(matches.gt_row) - len(rows),
        "region/unreadable_images": 0,
    }
    assert result.metrics == pytest.approx(expected, abs=1e-6)
    assert result.generic_label == NAMES[int(margin[rows].mean(axis=0).argmax())]
    assert result.scope == "diagnosis"


def test_margin_by_hand() -> None:
    gt = ground_truth_of([(0, 0, 0, 0, 10, 10)], 1, "ab")
    embeddings = embeddings_of(np.array([[1.0, 0.0]]), np.array([[1.0, 0.0], [0.6, 0.8]]))
    right, wrong = (predictions_of([(0, c, 0.5, 0, 0, 10, 10)]) for c in (0, 1))
    assert region_text_margin(gt, right, embeddings).metrics["region/margin"] == pytest.approx(0.4, abs=1e-6)
    assert region_text_margin(gt, wrong, embeddings).metrics["region/margin"] == pytest.approx(-0.4, abs=1e-6)


def test_nothing_found_is_undefined() -> None:
    gt = ground_truth_of([(0, 0, 0, 0, 10, 10)], 1, "ab")
    result = region_text_margin(gt, predictions_of([]), embeddings_of(np.ones((1, 1)), np.ones((2, 1))))
    assert result.metrics["region/margin"] is result.metrics["region/margin_true"] is None
    assert result.generic_label is None
    assert result.metrics["region/objects"] == 0.0


def test_embeddings_are_checked() -> None:
    with pytest.raises(DataError, match="crops row 0 is not of length 1"):
        embeddings_of(np.full((1, 2), 3.0), np.array([[1.0, 0.0]]))
    with pytest.raises(DataError, match="classes row 0 is not of length 1"):
        embeddings_of(np.array([[1.0, 0.0]]), np.full((1, 2), np.nan))
    with pytest.raises(DataError, match="differ in dimension"):
        embeddings_of(np.array([[1.0, 0.0]]), np.array([[1.0]]))
    gt = ground_truth_of([(0, 0, 0, 0, 10, 10)], 1, "ab")
    with pytest.raises(DataError, match="2 crops and 2 classes, the annotation file has 1 and 2"):
        region_text_margin(gt, predictions_of([]), embeddings_of(np.ones((2, 1)), np.ones((2, 1))))
    one = ground_truth_of([(0, 0, 0, 0, 10, 10)], 1, "a")
    with pytest.raises(DataError, match="no other class"):
        region_text_margin(one, predictions_of([]), embeddings_of(np.ones((1, 1)), np.ones((1, 1))))
