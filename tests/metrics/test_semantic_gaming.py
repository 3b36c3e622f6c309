"""Attempts to game Semantic R-precision, and what must not change it."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pytest

from ovd_bench.metrics.semantic import SemanticResult, SimilarityMatrix, semantic_r_precision
from ovd_bench.metrics.types import FloatArray, GroundTruth
from ovd_bench.tests.metrics.semantic_sets import ground_truth_of, predictions_of, similarity_of
from ovd_bench.tests.values import defined

CLASSES, FAMILY, OBJECTS, PER_IMAGE = 60, 5, 1800, 6


@dataclass(frozen=True)
class World:
    """Objects on a grid and the boxes of one detector; labellers only choose the labels."""

    ground_truth: GroundTruth
    similarity: SimilarityMatrix
    boxes: FloatArray  # (N, 7) image, honest label, score, xywh
    true: npt.NDArray[np.int64]  # (N,) class of the object under the box, -1 for a false positive


def make_world() -> World:
    """60 classes in 12 families (cosine 0.85 inside, 0.70 outside), 1,800 objects, 85 % found, 40 % false positives."""
    rng = np.random.default_rng(7)
    family = np.arange(CLASSES) // FAMILY
    matrix = np.where(family[:, None] == family, 0.85, 0.70)
    np.fill_diagonal(matrix, 1)
    gt, dt, true = [], [], []
    for image in range(OBJECTS // PER_IMAGE):
        cells = rng.permutation(12)
        for slot, cell in enumerate(cells[: PER_IMAGE + 3]):
            w, h = rng.uniform(60, 120, 2)
            x, y = 160 * (cell % 4) + rng.uniform(0, 30), 160 * (cell // 4) + rng.uniform(0, 30)
            label = rng.integers(CLASSES)
            if slot < PER_IMAGE:
                gt.append((image, label, x, y, w, h))
            if slot < PER_IMAGE and rng.random() < 0.85:
                shift = rng.normal(0, 0.03, 4) * (w, h, w, h)
                dt.append((image, honest_label(rng, label), rng.uniform(0.3, 1), *(np.array([x, y, w, h]) + shift)))
                true.append(label)
            elif slot >= PER_IMAGE and rng.random() < 0.8:
                dt.append((image, label, rng.uniform(0, 0.7), x, y, w, h))
                true.append(-1)
    similarity = similarity_of(matrix)
    ground_truth = ground_truth_of(gt, OBJECTS // PER_IMAGE, similarity.names)
    return World(ground_truth, similarity, np.array(dt), np.array(true))


def honest_label(rng: np.random.Generator, label: int) -> int:
    """60 % right, 20 % of the same family, 20 % any."""
    draw = rng.random()
    if draw < 0.6:
        return label
    return FAMILY * (label // FAMILY) + rng.integers(FAMILY) if draw < 0.8 else rng.integers(CLASSES)


@pytest.fixture(scope="module")
def world() -> World:
    return make_world()


def play(world: World, rows: FloatArray) -> SemanticResult:
    return semantic_r_precision(world.ground_truth, predictions_of(rows), world.similarity)


def scores_of(world: World, rows: FloatArray) -> dict[str, float]:
    return defined(play(world, rows).metrics)


def relabel(world: World, labels: npt.ArrayLike) -> FloatArray:
    rows = world.boxes.copy()
    rows[:, 1] = labels
    return rows


def shotgun(world: World, score_factor: npt.ArrayLike) -> FloatArray:
    """Every label of the family on every box; ``score_factor`` (5,) scales the scores, own label first."""
    own = world.boxes[:, 1].astype(int)
    shots = []
    for step in range(FAMILY):
        rows = relabel(world, FAMILY * (own // FAMILY) + (own + step) % FAMILY)
        rows[:, 2] *= np.asarray(score_factor)[step]
        shots.append(rows)
    return np.concatenate(shots)


def test_ranking_of_labellers(world: World) -> None:
    rng = np.random.default_rng(0)
    oracle = scores_of(world, relabel(world, np.where(world.true >= 0, world.true, world.boxes[:, 1])))
    honest = scores_of(world, world.boxes)
    random = scores_of(world, relabel(world, rng.integers(CLASSES, size=len(world.true))))
    generic = scores_of(world, relabel(world, 17))
    located = honest["srp/SRP_loc"]
    assert all(m["srp/SRP_loc"] == located for m in (oracle, random, generic))
    assert oracle["srp/SRP"] == located > 0.7
    assert 0.6 * located < honest["srp/SRP"] < 0.85 * located
    for empty in (random, generic):
        assert empty["srp/SRP"] < 0.15
        assert empty["srp/SRP1"] < 0.05
    # the printed baselines tell the same without a labeller
    for result in (oracle, honest):
        assert result["srp/random_label"] == pytest.approx(random["srp/SRP"], abs=0.02)
        assert random["srp/SRP"] - 0.02 < result["srp/generic_label"] < 0.15
    assert generic["srp/permuted_label"] == pytest.approx(generic["srp/SRP"], abs=1e-12)


def test_shotgun_gains_nothing_and_is_exposed_without_suppression(world: World) -> None:
    honest = scores_of(world, world.boxes)
    falling = scores_of(world, shotgun(world, [1, 0.999, 0.998, 0.997, 0.996]))
    assert falling["srp/SRP"] == honest["srp/SRP"]
    assert honest["srp/SRP_raw"] == honest["srp/SRP"]
    assert falling["srp/SRP_raw"] < 0.5 * honest["srp/SRP_raw"]


def test_shotgun_that_does_not_know_its_best_label_scores_as_its_family(world: World) -> None:
    rng = np.random.default_rng(1)
    rows = shotgun(world, np.ones(FAMILY))
    rows = rows[rng.permutation(len(rows))]
    honest, blind = scores_of(world, world.boxes), scores_of(world, rows)
    assert blind["srp/SRP"] < honest["srp/SRP"] - 0.05
    assert blind["srp/SRP1"] < 0.5 * honest["srp/SRP1"]
    assert blind["srp/SRP_raw"] < 0.5 * honest["srp/SRP_raw"]


def test_shotgun_that_dodges_the_suppression_spends_its_budget(world: World) -> None:
    rows = shotgun(world, [1, 0.999, 0.998, 0.997, 0.996])
    step = np.repeat(np.arange(FAMILY), len(world.boxes))
    # five boxes of half the area each way around the object: IoU with each other below 0.7
    rows[:, 3] += np.array([0, -0.22, 0.22, 0, 0])[step] * rows[:, 5]
    rows[:, 4] += np.array([0, 0, 0, -0.22, 0.22])[step] * rows[:, 6]
    assert scores_of(world, rows)["srp/SRP"] < 0.5 * scores_of(world, world.boxes)["srp/SRP"]


def test_more_boxes_cannot_help(world: World) -> None:
    """With the budget filled, lower-scored boxes change nothing; without, they only earn objects not found yet."""
    rng = np.random.default_rng(2)
    spare = world.boxes.copy()
    spare[:, 3:5] += 1000
    full = np.concatenate([world.boxes, spare])
    full[len(spare) :, 2] *= 0.01
    extra = np.concatenate([relabel(world, rng.integers(CLASSES, size=len(world.true))), spare])
    extra[:, 2] = rng.uniform(-1, 0, len(extra))
    assert scores_of(world, full)["srp/SRP_loc"] <= scores_of(world, world.boxes)["srp/SRP_loc"]
    before, after = play(world, full), play(world, np.concatenate([full, extra]))
    assert after.metrics == before.metrics


# ------------------------------------------------------------------------------------------------------- invariances


def test_order_of_records_images_and_classes_does_not_matter(world: World) -> None:
    rng = np.random.default_rng(4)
    base = play(world, world.boxes)
    assert play(world, world.boxes[rng.permutation(len(world.boxes))]).metrics == base.metrics

    gt = world.ground_truth
    image_to, class_to = rng.permutation(gt.num_images), rng.permutation(CLASSES)
    rows = np.column_stack([image_to[gt.image_index], class_to[gt.class_index], gt.boxes_xywh])
    rows = rows[rng.permutation(len(rows))]
    back = np.argsort(class_to)
    similarity = similarity_of(world.similarity.matrix[np.ix_(back, back)])
    boxes = world.boxes.copy()
    boxes[:, 0], boxes[:, 1] = image_to[boxes[:, 0].astype(int)], class_to[boxes[:, 1].astype(int)]
    moved = semantic_r_precision(
        ground_truth_of(rows, gt.num_images, similarity.names), predictions_of(boxes), similarity
    )
    assert moved.metrics == base.metrics
    for name, numerator in moved.numerators.items():
        np.testing.assert_array_equal(numerator[image_to], base.numerators[name])


def test_numerators_give_the_score_of_a_subset_of_images(world: World) -> None:
    base = play(world, world.boxes)
    images = np.arange(world.ground_truth.num_images) % 3 == 0
    gt = world.ground_truth
    inside = images[gt.image_index]
    rows = np.column_stack([gt.image_index, gt.class_index, gt.boxes_xywh])[inside]
    boxes = world.boxes[images[world.boxes[:, 0].astype(int)]]
    alone = semantic_r_precision(
        ground_truth_of(rows, gt.num_images, world.similarity.names), predictions_of(boxes), world.similarity
    )
    for name, numerator in base.numerators.items():
        expected = math.fsum(numerator[images]) / base.denominator[images].sum()
        assert alone.metrics[f"srp/{name}"] == pytest.approx(expected, abs=1e-12)
