"""Semantic R-precision against a readable reference, hand-worked cases and the checks of its matrix."""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ovd_bench.metrics.errors import DataError
from ovd_bench.metrics.semantic import (
    SCOPE_EXHAUSTIVE,
    SCOPE_FEDERATED,
    SemanticResult,
    SimilarityMatrix,
    chance_corrected,
    semantic_r_precision,
)
from ovd_bench.metrics.types import FloatArray
from ovd_bench.tests.metrics.semantic_sets import ground_truth_of, predictions_of, random_similarity, similarity_of
from ovd_bench.tests.values import number

Row = Sequence[float]


def iou(a: Row, b: Row) -> float:
    """IoU of two xywh boxes."""
    width = min(a[0] + a[2], b[0] + b[2]) - max(a[0], b[0])
    height = min(a[1] + a[3], b[1] + b[3]) - max(a[1], b[1])
    if width <= 0 or height <= 0:
        return 0.0
    return width * height / (a[2] * a[3] + b[2] * b[3] - width * height)


def half_inside(box: Row, region: Row) -> bool:
    width = min(box[0] + box[2], region[0] + region[2]) - max(box[0], region[0])
    height = min(box[1] + box[3], region[1] + region[3]) - max(box[1], region[1])
    return width > 0 and height > 0 and width * height >= 0.5 * box[2] * box[3]


def reference(
    gt_rows: Sequence[Row],
    dt_rows: Sequence[Row],
    images: int,
    matrix: FloatArray,
    *,
    federated: bool,
    left_out: list[bool],
) -> dict[str, float | None] | None:
    """Semantic R-precision in the order of its definition, one detection at a time."""
    count = len(matrix)

    def corrected(label: int, true: int) -> float:
        if label == true:
            return 1.0
        chance = max(
            sum(float(matrix[c][name]) for c in range(count) if c != name) / (count - 1) for name in (label, true)
        )
        return min(max((float(matrix[label][true]) - chance) / (1 - chance), 0.0), 1.0)

    def matches(suppress: bool) -> list[tuple[int, int]]:
        found = []
        for image in range(images):
            objects = [g for g, out in zip(gt_rows, left_out, strict=True) if g[0] == image and not out]
            regions = [g[2:] for g, out in zip(gt_rows, left_out, strict=True) if g[0] == image and out]
            ranked = sorted((d for d in dt_rows if d[0] == image), key=lambda d: -d[2])
            kept: list[Row] = []
            for d in ranked:
                if not suppress or all(iou(d[3:], other[3:]) <= 0.7 for other in kept):
                    kept.append(d)
            answers = []
            for d in kept:
                on_object = any(iou(d[3:], g[2:]) >= 0.5 for g in objects)
                in_region = any(half_inside(d[3:], region) for region in regions)
                if on_object or not (federated or in_region):
                    answers.append(d)
            taken = set()
            for d in answers[: len(objects)]:
                best, overlap = None, 0.5
                for position, g in enumerate(objects):
                    if position not in taken and iou(d[3:], g[2:]) >= overlap:
                        best, overlap = position, iou(d[3:], g[2:])
                if best is not None:
                    taken.add(best)
                    found.append((int(d[1]), int(objects[best][1])))
        return found

    total = sum(not out for out in left_out)
    if total == 0:
        return None
    pairs = matches(True)
    score: dict[str, float | None] = {
        "SRP": sum(corrected(*p) for p in pairs) / total,
        "SRP1": sum(p[0] == p[1] for p in pairs) / total,
        "SRP_loc": len(pairs) / total,
        "SRP_raw": sum(corrected(*p) for p in matches(False)) / total,
        "random_label": sum(corrected(c, t) for c in range(count) for _, t in pairs) / count / total,
        "permuted_label": sum(corrected(p, t) for p, _ in pairs for _, t in pairs) / max(len(pairs), 1) / total,
        "generic_label": max(sum(corrected(c, t) for _, t in pairs) for c in range(count)) / total,
    }
    misnamed = [corrected(*p) for p in pairs if p[0] != p[1]]
    score["near_miss_share"] = sum(misnamed) / len(misnamed) if misnamed else None
    return score


# ---------------------------------------------------------------------------------------------------- differential

coarse = st.integers(0, 6)
side = st.integers(1, 6)


@settings(max_examples=300, deadline=None)
@given(
    gt=st.lists(st.tuples(st.integers(0, 2), st.integers(0, 3), coarse, coarse, side, side), max_size=8),
    dt=st.lists(
        st.tuples(st.integers(0, 2), st.integers(0, 3), st.sampled_from([0.1, 0.5, 0.9]), coarse, coarse, side, side),
        max_size=14,
    ),
    flags=st.lists(st.booleans(), min_size=8, max_size=8),
    federated=st.booleans(),
    seed=st.integers(0, 50),
)
def test_equals_reference(gt: Sequence[Row], dt: Sequence[Row], flags: list[bool], federated: bool, seed: int) -> None:
    similarity = random_similarity(np.random.default_rng(seed), 4)
    flags = flags[: len(gt)]
    ground_truth = ground_truth_of(gt, 3, similarity.names, federated=federated, crowd=flags, ignore=flags)
    result = semantic_r_precision(ground_truth, predictions_of(dt), similarity)
    expected = reference(gt, dt, 3, similarity.matrix, federated=federated, left_out=flags)
    if expected is None:
        numbers = {k: v for k, v in result.metrics.items() if k not in ("srp/objects", "srp/matched")}
        assert set(numbers.values()) == {None}
        assert result.generic_label is None
        return
    for name, value in expected.items():
        assert result.metrics[f"srp/{name}"] == pytest.approx(value, abs=1e-12), name
    for name, numerator in result.numerators.items():
        assert numerator.sum() / result.denominator.sum() == pytest.approx(expected[name], abs=1e-12)
    assert result.scope == (SCOPE_FEDERATED if federated else SCOPE_EXHAUSTIVE)


# --------------------------------------------------------------------------------------------------------- analytic


def test_chance_correction_by_hand() -> None:
    matrix = [[1, 0.8, 0.2], [0.8, 1, 0.4], [0.2, 0.4, 1]]
    # chance levels of the classes: 0.5, 0.6, 0.3; the higher one of a pair counts
    expected: list[list[float]] = [[1, 0.5, 0], [0.5, 1, 0], [0, 0, 1]]
    np.testing.assert_allclose(chance_corrected(np.array(matrix)), expected, atol=1e-12)


def test_a_word_close_to_everything_earns_nothing() -> None:
    """A hub has cosine 0.6 with 20 classes that have 0.3 with each other."""
    matrix = np.full((21, 21), 0.3)
    matrix[20] = matrix[:, 20] = 0.6
    np.fill_diagonal(matrix, 1)
    assert chance_corrected(matrix)[20, :20].max() < 1e-12


def test_chance_correction_of_one_class_and_of_a_blind_judge() -> None:
    assert chance_corrected(np.ones((1, 1))).tolist() == [[1.0]]
    with pytest.raises(DataError, match="class 0 looks like every other to the judge"):
        chance_corrected(np.ones((3, 3)))


NAMES = ("couch", "sofa", "zebra")
THREE = similarity_of([[1, 0.9, 0.3], [0.9, 1, 0.3], [0.3, 0.3, 1]], NAMES)


def score(gt: Sequence[Row], dt: Sequence[Row], similarity: SimilarityMatrix = THREE, **flags: Any) -> SemanticResult:
    return semantic_r_precision(ground_truth_of(gt, 1, similarity.names, **flags), predictions_of(dt), similarity)


def test_perfect_near_and_wrong_labels() -> None:
    gt = [(0, 0, 0, 0, 10, 10)]
    assert score(gt, [(0, 0, 0.5, 0, 0, 10, 10)]).metrics["srp/SRP"] == 1.0
    near = score(gt, [(0, 1, 0.5, 0, 0, 10, 10)]).metrics
    assert near["srp/SRP"] == pytest.approx((0.9 - 0.6) / 0.4, abs=1e-6)
    assert near["srp/near_miss_share"] == near["srp/SRP"]
    assert (near["srp/SRP1"], near["srp/SRP_loc"]) == (0.0, 1.0)
    assert score(gt, [(0, 2, 0.5, 0, 0, 10, 10)]).metrics["srp/SRP"] == 0.0


def test_nothing_misnamed_leaves_near_miss_share_undefined() -> None:
    assert score([(0, 0, 0, 0, 10, 10)], [(0, 0, 0.5, 0, 0, 10, 10)]).metrics["srp/near_miss_share"] is None
    assert score([(0, 0, 0, 0, 10, 10)], []).metrics["srp/near_miss_share"] is None


def test_generic_label_is_the_best_single_word() -> None:
    gt = [(0, 2, 0, 0, 10, 10), (0, 0, 50, 0, 10, 10), (0, 1, 100, 0, 10, 10)]
    result = score(gt, [(0, 2, 0.5, *row[2:]) for row in gt])
    corrected = chance_corrected(THREE.matrix)
    assert result.generic_label in ("couch", "sofa")
    assert result.metrics["srp/generic_label"] == pytest.approx((1 + corrected[0, 1]) / 3)
    assert result.metrics["srp/permuted_label"] == result.metrics["srp/SRP"] == pytest.approx(1 / 3)


def test_random_label_is_the_mean_over_many_labellings() -> None:
    rng = np.random.default_rng(3)
    similarity = random_similarity(rng, 5)
    gt = [(0, i % 5, 30 * i, 0, 10, 10) for i in range(12)]
    sampled = [score(gt, [(0, rng.integers(5), 0.5, *row[2:]) for row in gt], similarity) for _ in range(400)]
    mean = np.mean([number(result.metrics["srp/SRP"]) for result in sampled])
    assert sampled[0].metrics["srp/random_label"] == pytest.approx(mean, abs=0.02)


def test_crowd_is_no_object_and_boxes_on_it_are_neither_right_nor_wrong() -> None:
    gt = [(0, 0, 0, 0, 10, 10), (0, 0, 100, 100, 100, 100)]
    on_crowd, on_object = (0, 0, 0.9, 120, 120, 20, 20), (0, 0, 0.5, 0, 0, 10, 10)
    result = score(gt, [on_crowd, on_object], crowd=[False, True])
    assert (result.metrics["srp/SRP"], result.metrics["srp/objects"]) == (1.0, 1.0)
    assert any("crowd region" in note for note in result.notes)
    # the same box on empty ground spends the budget of one
    elsewhere = (0, 0, 0.9, 300, 300, 20, 20)
    assert score(gt, [elsewhere, on_object], crowd=[False, True]).metrics["srp/SRP"] == 0.0


def test_lvis_reads_ignore_and_not_iscrowd() -> None:
    gt = [(0, 0, 0, 0, 10, 10), (0, 0, 50, 0, 10, 10)]
    assert score(gt, [], federated=True, crowd=[True, True]).metrics["srp/objects"] == 2.0
    assert score(gt, [], federated=True, ignore=[True, False]).metrics["srp/objects"] == 1.0
    assert score(gt, [], ignore=[True, False]).metrics["srp/objects"] == 2.0


def test_federated_admits_only_boxes_on_annotated_objects() -> None:
    gt = [(0, 0, 0, 0, 10, 10)]
    dt = [(0, 2, 0.9, 300, 300, 20, 20), (0, 0, 0.5, 0, 0, 10, 10)]
    assert score(gt, dt).metrics["srp/SRP"] == 0.0
    federated = score(gt, dt, federated=True)
    assert federated.metrics["srp/SRP"] == 1.0
    assert federated.scope == "label quality given localisation"


def test_unknown_labels_are_counted_and_unknown_images_refused() -> None:
    gt = [(0, 0, 0, 0, 10, 10)]
    result = score(gt, [(0, 7, 0.9, 0, 0, 10, 10), (0, 0, 0.5, 0, 0, 10, 10)])
    assert result.metrics["srp/SRP"] == 1.0
    assert result.notes == ("1 detections have a category_id outside the vocabulary and are left out",)
    with pytest.raises(DataError, match="record 1: image_id 50 is not"):
        score(gt, [(0, 0, 0.9, 0, 0, 10, 10), (4, 0, 0.5, 0, 0, 10, 10)])


# ------------------------------------------------------------------------------------------------- similarity matrix


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"matrix": np.eye(2, dtype=np.float32)}, "expected float32"),
        ({"matrix": np.eye(3)}, "expected float32"),
        ({"names": ("a", "b", "a")}, "3 names, 2 different"),
        ({"matrix": np.array([[1, 0.1, 0], [0.2, 1, 0], [0, 0, 1]], np.float32)}, "not symmetric"),
        ({"matrix": np.diag(np.array([1, 1, 0.9], np.float32))}, "'zebra' with itself"),
        ({"matrix": np.array([[1, np.nan, 0], [np.nan, 1, 0], [0, 0, 1]], np.float32)}, "not a cosine"),
        ({"matrix": np.array([[1, 7, 0], [7, 1, 0], [0, 0, 1]], np.float32)}, "not a cosine"),
        ({"weights_sha256": "abc"}, "64 hex digits"),
    ],
)
def test_similarity_matrix_is_validated(change: dict[str, Any], message: str) -> None:
    with pytest.raises(DataError, match=message):
        dataclasses.replace(THREE, **change)


def test_content_hash_covers_every_field() -> None:
    changed = THREE.matrix.copy()
    changed[0, 1] = changed[1, 0] = 0.25
    variants: list[dict[str, Any]] = [
        {"matrix": changed},
        {"names": ("couch", "settee", "zebra")},
        {"judge": "other"},
        {"weights_sha256": hashlib.sha256(b"other").hexdigest()},
        {"template": "{}"},
    ]
    hashes = {dataclasses.replace(THREE, **v).content_sha256 for v in variants} | {THREE.content_sha256}
    assert len(hashes) == len(variants) + 1
    assert dataclasses.replace(THREE).content_sha256 == THREE.content_sha256


def test_alignment_by_name() -> None:
    assert THREE.aligned(["zebra", "couch"])[0, 1] == np.float32(0.3)
    with pytest.raises(DataError, match=r"lacks 2 of 3 classes \('dog', 'cat'\)"):
        THREE.aligned(["couch", "dog", "cat"])


def test_classes_outside_the_vocabulary_do_not_move_chance() -> None:
    gt, dt = [(0, 0, 0, 0, 10, 10)], [(0, 1, 0.5, 0, 0, 10, 10)]
    larger = np.eye(5, dtype=np.float32)
    larger[:3, :3] = THREE.matrix
    ground_truth = ground_truth_of(gt, 1, NAMES)
    result = semantic_r_precision(ground_truth, predictions_of(dt), similarity_of(larger, (*NAMES, "moon", "sun")))
    assert result.metrics["srp/SRP"] == score(gt, dt).metrics["srp/SRP"]


def test_indistinguishable_names_are_reported() -> None:
    assert THREE.indistinguishable() == ()
    twin = similarity_of([[1, 0.2, 1], [0.2, 1, 0.2], [1, 0.2, 1]], ("Mouse", "cat", "mouse"))
    assert twin.indistinguishable() == (("Mouse", "mouse"),)
