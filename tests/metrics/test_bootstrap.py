"""The bootstrap equals what it stands for: a full evaluation of the resampled data set."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest

from ovd_bench.metrics.bootstrap import bootstrap, bootstrap_ratio, resample_weights
from ovd_bench.metrics.comparison import compare
from ovd_bench.metrics.errors import DataError
from ovd_bench.metrics.evaluate import Evaluation, evaluate
from ovd_bench.metrics.protocol import IOU_THRESHOLDS, PROTOCOLS, RECALL_THRESHOLDS
from ovd_bench.metrics.types import GroundTruth
from ovd_bench.tests import oracles
from ovd_bench.tests.metrics.small_sets import Json, random_set
from ovd_bench.tests.values import number

NAMES = sorted(PROTOCOLS)


def _evaluated(seed: int, name: str, images: int = 30) -> tuple[GroundTruth, Evaluation]:
    annotations, results = random_set(seed, images, 6, 20, odd=True)
    gt = oracles.ground_truth(annotations)
    return gt, evaluate(gt, oracles.predictions(results), PROTOCOLS[name], keep_records=True)


def test_recall_thresholds_are_multiples() -> None:
    """The native code computes them as r * 0.01; linspace must do the same."""
    np.testing.assert_array_equal(RECALL_THRESHOLDS, np.arange(101) * 0.01)
    assert IOU_THRESHOLDS[0] == 0.5
    assert IOU_THRESHOLDS[5] == 0.75


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("seed", range(8))
def test_unit_weights_give_the_point_estimate(name: str, seed: int) -> None:
    gt, evaluation = _evaluated(seed, name)
    samples = bootstrap(gt, evaluation, np.ones((2, gt.num_images), np.uint8), per_class=True)
    for statistic, values in samples.samples.items():
        point = evaluation.metrics[statistic]
        expected = np.nan if point is None else point
        np.testing.assert_allclose(values, expected, rtol=0, atol=4e-16)
    assert samples.per_class_ap is not None
    np.testing.assert_array_equal(samples.per_class_ap[1], evaluation.per_class_ap.astype(np.float32))


@pytest.mark.parametrize("positives", [7, 29, 50, 100, 101, 200, 300])
def test_recall_on_the_edge_of_a_threshold(positives: int) -> None:
    """Recalls such as 29 / 100 meet thresholds that differ from them in the last bit or not at all."""
    lists: dict[str, list[int]] = {"neg_category_ids": [], "not_exhaustive_category_ids": []}
    boxes = [[20 * n, 0, 10, 10] for n in range(positives)]
    annotations = {
        "images": [{"id": 1, **lists}],
        "categories": [{"id": 1, "name": "x", "frequency": "f"}],
        "annotations": [
            {"id": n + 1, "image_id": 1, "category_id": 1, "bbox": box, "area": 100} for n, box in enumerate(boxes)
        ],
    }
    results: list[dict[str, object]] = []
    for n, box in enumerate(boxes):  # a miss after every hit: precision falls at each step
        for y in (0, 500):
            score = 1 - len(results) / (2 * positives)
            results.append({"image_id": 1, "category_id": 1, "bbox": [box[0], y, 10, 10], "score": score})
        assert len(results) == 2 * n + 2
    gt = oracles.ground_truth(annotations)
    evaluation = evaluate(gt, oracles.predictions(results), PROTOCOLS["lvis-fixed"], keep_records=True)
    official = oracles.run_lvis(annotations, results, fixed=True).results["AP"]
    assert evaluation.metrics["AP"] == official
    for weight in (1, 2):
        samples = bootstrap(gt, evaluation, np.full((1, 1), weight, np.uint8)).samples["AP"]
        np.testing.assert_allclose(samples, official, rtol=0, atol=2e-15 if weight == 1 else 0.02)


def _replicated(annotations: Json, results: list[Json], weights: npt.NDArray[np.uint8]) -> tuple[Json, list[Json]]:
    """The data set in which image i stands weights[i] times, replicas next to each other."""
    images: list[Json] = []
    boxes: list[Json] = []
    detections: list[Json] = []
    copies: dict[int, list[int]] = {}
    for image, weight in zip(sorted(annotations["images"], key=lambda i: i["id"]), weights.tolist(), strict=True):
        for _ in range(weight):
            images.append({**image, "id": len(images) + 1})
            copies.setdefault(image["id"], []).append(len(images))
    for box in annotations["annotations"]:
        for image in copies.get(box["image_id"], []):
            boxes.append({**box, "image_id": image, "id": len(boxes) + 1})
    for detection in results:
        detections += [{**detection, "image_id": image} for image in copies.get(detection["image_id"], [])]
    return {**annotations, "images": images, "annotations": boxes}, detections


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("seed", range(6))
def test_weights_equal_physical_replicas(name: str, seed: int) -> None:
    annotations, results = random_set(seed, 30, 6, 20, odd=False)
    rng = np.random.default_rng(seed)
    for result, rank in zip(results, rng.permutation(len(results)).tolist(), strict=True):
        result["score"] = (rank + 1) / (len(results) + 1)  # ties would interleave the replicas
    gt = oracles.ground_truth(annotations)
    weights = rng.integers(0, 4, (3, gt.num_images)).astype(np.uint8)
    evaluation = evaluate(gt, oracles.predictions(results), PROTOCOLS[name], keep_records=True)
    samples = bootstrap(gt, evaluation, weights, per_class=True)
    for row, weight in enumerate(weights):
        more, detections = _replicated(annotations, results, weight)
        full = evaluate(oracles.ground_truth(more), oracles.predictions(detections), PROTOCOLS[name])
        for statistic, values in samples.samples.items():
            point = full.metrics[statistic]
            np.testing.assert_allclose(values[row], np.nan if point is None else point, rtol=0, atol=4e-16)
        assert samples.per_class_ap is not None
        np.testing.assert_allclose(samples.per_class_ap[row], full.per_class_ap, rtol=0, atol=1e-7)


def test_threads_and_batches_do_not_matter() -> None:
    """33 resamples leave a ragged last pass; each sample is what it is alone."""
    gt, evaluation = _evaluated(3, "lvis")
    weights = resample_weights(gt.num_images, 33, seed=5)
    together = bootstrap(gt, evaluation, weights)
    for row in (0, 31, 32):
        alone = bootstrap(gt, evaluation, weights[row : row + 1])
        for name, values in together.samples.items():
            np.testing.assert_array_equal(values[row], alone.samples[name][0])
    _, results = random_set(3, 30, 6, 20, odd=True)
    single = evaluate(gt, oracles.predictions(results), PROTOCOLS["lvis"], keep_records=True, threads=1)
    for name, values in bootstrap(gt, single, weights).samples.items():
        np.testing.assert_array_equal(values, together.samples[name])


def test_resample_weights() -> None:
    weights = resample_weights(50, 200, seed=1)
    assert (weights.sum(axis=1) == 50).all()
    np.testing.assert_array_equal(weights, resample_weights(50, 200, seed=1))
    assert (weights != resample_weights(50, 200, seed=2)).any()
    assert weights.mean(axis=0).std() < 0.15  # no image is preferred
    assert abs(weights.var() - 1) < 0.1  # draws with replacement: nearly Poisson


def test_ratio_of_sums_over_images() -> None:
    rng = np.random.default_rng(0)
    numerator, denominator = rng.random(40), rng.integers(0, 4, 40).astype(np.float64)
    weights = resample_weights(40, 130, seed=3)
    samples = bootstrap_ratio(weights, numerator, denominator)
    for row in (0, 64, 129):
        drawn = np.repeat(np.arange(40), weights[row])
        assert samples[row] == pytest.approx(numerator[drawn].sum() / denominator[drawn].sum())
    assert np.isnan(bootstrap_ratio(weights, np.zeros(40), np.zeros(40))).all()


def test_needs_records_and_matching_weights() -> None:
    gt, evaluation = _evaluated(5, "lvis")
    with pytest.raises(DataError, match="weights must be uint8"):
        bootstrap(gt, evaluation, np.ones((2, 3), np.uint8))
    _, results = random_set(5, 30, 6, 20, odd=True)
    bare = evaluate(gt, oracles.predictions(results), PROTOCOLS["lvis"])
    with pytest.raises(DataError, match="keep_records=True"):
        bootstrap(gt, bare, np.ones((1, gt.num_images), np.uint8))


def _pair(noise: float) -> tuple[GroundTruth, Evaluation, Evaluation]:
    annotations, results = random_set(7, 150, 6, 20)
    rng = np.random.default_rng(0)
    worse = [{**r, "bbox": (np.array(r["bbox"]) + rng.normal(0, noise, 4)).tolist()} for r in results]
    gt = oracles.ground_truth(annotations)
    a, b = (evaluate(gt, oracles.predictions(r), PROTOCOLS["lvis"], keep_records=True) for r in (worse, results))
    return gt, a, b


def test_comparison_finds_a_real_difference() -> None:
    gt, a, b = _pair(noise=6)
    result = compare(gt, a, b, resamples=300)
    ap = result.differences["AP"]
    delta = number(ap.delta)
    assert delta == number(b.metrics["AP"]) - number(a.metrics["AP"])
    assert delta > 0.02
    assert number(ap.p_greater) > 0.9999
    assert ap.ci95 is not None
    assert 0 < ap.ci95[0] < delta < ap.ci95[1]
    assert result.classes.wins == 6
    assert result.classes.sure_losses == 0
    back = compare(gt, b, a, resamples=300).differences["AP"]
    assert back.delta == -delta
    assert number(back.p_greater) < 0.0001


def test_comparison_of_a_run_with_itself() -> None:
    gt, a, _ = _pair(noise=1)
    result = compare(gt, a, a, resamples=50)
    ap = result.differences["AP"]
    assert (ap.delta, ap.sd, ap.ci95, ap.p_greater) == (0.0, 0.0, (0.0, 0.0), 0.5)
    assert (result.classes.wins, result.classes.losses, result.classes.ties) == (0, 0, 6)
    np.testing.assert_array_equal(result.classes.p_greater, 0.5)


def test_pairing_narrows_the_interval() -> None:
    """Two nearly equal runs: the paired difference is far surer than two separate numbers."""
    gt, a, b = _pair(noise=0.5)
    paired = compare(gt, a, b, resamples=300).differences["AP"].sd
    weights = [resample_weights(gt.num_images, 300, seed) for seed in (1, 2)]
    apart = np.std(bootstrap(gt, b, weights[0]).samples["AP"] - bootstrap(gt, a, weights[1]).samples["AP"])
    assert paired is not None
    assert paired < 0.5 * apart


def test_comparison_refuses_two_protocols() -> None:
    gt, a = _evaluated(8, "lvis")
    _, b = _evaluated(8, "coco")
    with pytest.raises(DataError, match="'lvis' and 'coco': compare under one protocol"):
        compare(gt, a, b)
