"""What must not change a single bit: threads, float width, order of records, images and classes."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import pytest

from ovd_bench.metrics.evaluate import Evaluation, evaluate
from ovd_bench.metrics.protocol import PROTOCOLS
from ovd_bench.metrics.types import Predictions
from ovd_bench.tests import oracles
from ovd_bench.tests.metrics.small_sets import random_set

NAMES = sorted(PROTOCOLS)


def _same(a: Evaluation, b: Evaluation) -> None:
    assert a.metrics == b.metrics
    np.testing.assert_array_equal(a.precision, b.precision)
    np.testing.assert_array_equal(a.recall, b.recall)
    np.testing.assert_array_equal(a.per_class_ap, b.per_class_ap)


def _untied(seed: int) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    annotations, results = random_set(seed, 60, 8, 40, odd=True)
    for rank, result in enumerate(results):
        result["score"] = float(np.float32((rank * 7919 % len(results)) / len(results)))
    return annotations, results


@pytest.mark.parametrize("name", NAMES)
def test_threads(name: str) -> None:
    annotations, results = random_set(11, 200, 30, 40, odd=True)
    gt, dt = oracles.ground_truth(annotations), oracles.predictions(results * 12)  # several row blocks
    one, two, five = (evaluate(gt, dt, PROTOCOLS[name], keep_records=True, threads=n) for n in (1, 2, 5))
    for other in (two, five):
        _same(one, other)
        assert one.matches.counts == other.matches.counts
        for field in dataclasses.fields(one.matches.records):  # type: ignore[arg-type]
            np.testing.assert_array_equal(
                getattr(one.matches.records, field.name), getattr(other.matches.records, field.name)
            )


@pytest.mark.parametrize("name", NAMES)
def test_float32_columns_equal_float64(name: str) -> None:
    annotations, results = random_set(12, 50, 6, 30, odd=True)
    wide = oracles.predictions(results)
    narrow = Predictions(wide.image_id, wide.category_id, *(getattr(wide, c).astype(np.float32) for c in _FLOATS))
    widened = Predictions(wide.image_id, wide.category_id, *(getattr(narrow, c).astype(np.float64) for c in _FLOATS))
    gt = oracles.ground_truth(annotations)
    _same(evaluate(gt, narrow, PROTOCOLS[name]), evaluate(gt, widened, PROTOCOLS[name]))


_FLOATS = ("score", "x", "y", "w", "h")


@pytest.mark.parametrize("name", NAMES)
def test_permuting_records(name: str) -> None:
    """Without score ties the order of the records does not matter."""
    annotations, results = _untied(13)
    gt, dt = oracles.ground_truth(annotations), oracles.predictions(results)
    shuffled = dt.take(np.random.default_rng(0).permutation(len(dt)))
    _same(evaluate(gt, dt, PROTOCOLS[name]), evaluate(gt, shuffled, PROTOCOLS[name]))


@pytest.mark.parametrize("name", NAMES)
def test_renaming_images(name: str) -> None:
    """Without ties other image ids, and so another order of images, change nothing."""
    annotations, results = _untied(14)
    before = evaluate(oracles.ground_truth(annotations), oracles.predictions(results), PROTOCOLS[name])
    ids = [image["id"] for image in annotations["images"]]
    new = dict(zip(ids, np.random.default_rng(1).permutation(10_000)[: len(ids)].tolist(), strict=True))
    for image in annotations["images"]:
        image["id"] = new[image["id"]]
    for row in [*annotations["annotations"], *results]:
        row["image_id"] = new[row["image_id"]]
    after = evaluate(oracles.ground_truth(annotations), oracles.predictions(results), PROTOCOLS[name])
    _same(before, after)


@pytest.mark.parametrize("name", NAMES)
def test_renaming_classes(name: str) -> None:
    """Classes may stand in any order; only the order of summation of their mean can move the last bit."""
    annotations, results = _untied(15)
    before = evaluate(oracles.ground_truth(annotations), oracles.predictions(results), PROTOCOLS[name])
    order = np.random.default_rng(2).permutation(8)
    new = {k + 1: int(order[k]) + 1 for k in range(8)}
    for category in annotations["categories"]:
        category["id"] = new[category["id"]]
    for image in annotations["images"]:
        for key in ("neg_category_ids", "not_exhaustive_category_ids"):
            image[key] = [new[k] for k in image[key]]
    for row in [*annotations["annotations"], *results]:
        row["category_id"] = new.get(row["category_id"], row["category_id"])
    after = evaluate(oracles.ground_truth(annotations), oracles.predictions(results), PROTOCOLS[name])
    np.testing.assert_array_equal(before.per_class_ap, after.per_class_ap[order])
    np.testing.assert_array_equal(before.precision, after.precision[:, :, order])
    for key, value in before.metrics.items():
        assert after.metrics[key] == pytest.approx(value, abs=1e-15)


def test_per_class_ap_is_the_mean_of_the_official_array() -> None:
    annotations, results = random_set(16, 40, 9, 20, odd=True)
    official = oracles.run_lvis(annotations, results).eval["precision"]
    ours = evaluate(oracles.ground_truth(annotations), oracles.predictions(results), PROTOCOLS["lvis"])
    for k in range(9):
        plane = official[:, :, k, 0]
        assert ours.per_class_ap[k] == np.mean(plane[plane > -1])
        assert ours.per_class_ap50[k] == np.mean(plane[0])


def test_no_detection_at_all() -> None:
    annotations, _ = random_set(17, 5, 3, 0)
    ours = evaluate(oracles.ground_truth(annotations), oracles.predictions([]), PROTOCOLS["lvis"])
    assert ours.metrics["AP"] == 0.0
    assert ours.matches.counts.total == 0
