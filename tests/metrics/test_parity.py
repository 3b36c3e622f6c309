"""Bit-identity with lvis-api and pycocotools: every statistic, the whole precision and recall arrays."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings

from ovd_bench.metrics.errors import DataError
from ovd_bench.metrics.evaluate import Evaluation, evaluate
from ovd_bench.metrics.protocol import PROTOCOLS
from ovd_bench.tests import oracles
from ovd_bench.tests.metrics.small_sets import federated_sets, random_set

Json = dict[str, Any]


def assert_equals_lvis(annotations: Json, results: list[Json], protocol: str = "lvis") -> Evaluation:
    gt, dt = oracles.ground_truth(annotations), oracles.predictions(results)
    official = oracles.run_lvis(annotations, results, fixed=protocol == "lvis-fixed")
    ours = evaluate(gt, dt, PROTOCOLS[protocol])
    np.testing.assert_array_equal(ours.precision, official.eval["precision"])
    np.testing.assert_array_equal(ours.recall, official.eval["recall"])
    assert list(ours.metrics) == list(official.results)
    assert list(ours.metrics.values()) == oracles.statistics(official.results.values())
    return ours


def assert_equals_coco(annotations: Json, results: list[Json]) -> Evaluation:
    official = oracles.run_coco(annotations, results)
    ours = evaluate(oracles.ground_truth(annotations), oracles.predictions(results), PROTOCOLS["coco"])
    np.testing.assert_array_equal(ours.precision, official.eval["precision"])
    np.testing.assert_array_equal(ours.recall, official.eval["recall"])
    assert list(ours.metrics.values()) == oracles.statistics(official.stats)
    return ours


@settings(max_examples=1200, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(federated_sets())
def test_small_sets(data: tuple[Json, list[Json]]) -> None:
    assert_equals_lvis(*data)
    assert_equals_lvis(*data, protocol="lvis-fixed")
    assert_equals_coco(*data)


@pytest.mark.full
@settings(max_examples=15_000, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(federated_sets())
def test_many_small_sets(data: tuple[Json, list[Json]]) -> None:
    test_small_sets.hypothesis.inner_test(data)  # type: ignore[attr-defined]


@pytest.mark.parametrize("odd", [False, True])
def test_seeded_1000_images(odd: bool) -> None:
    annotations, results = random_set(1, 1000, 60, 30, odd=odd)
    ours = assert_equals_lvis(annotations, results)
    assert ours.metrics["AP"] is not None
    assert ours.metrics["AP"] > 0.1
    assert_equals_lvis(annotations, results, "lvis-fixed")


def test_seeded_1000_images_coco() -> None:
    annotations, results = random_set(2, 1000, 20, 30)
    assert assert_equals_coco(annotations, results).matches.counts.kept > 20_000


def test_caps_bite() -> None:
    """More than 300 per image, with ties at the cap, and more than 10,000 of one class."""
    annotations, results = random_set(3, 40, 4, 330, odd=True)
    ours = assert_equals_lvis(annotations, results)
    assert ours.matches.counts.over_image_cap >= 40 * 30
    annotations, results = random_set(4, 120, 1, 130, odd=True)
    fixed = assert_equals_lvis(annotations, results, "lvis-fixed")
    assert fixed.matches.counts.over_class_cap > 1000


def test_real_lvis_v05(real_data: Path) -> None:
    annotations = json.loads((real_data / "lvis-api" / "lvis_val_100.json").read_bytes())
    rng = np.random.default_rng(5)
    results = []
    for a in annotations["annotations"]:
        for _ in range(3):
            box = (np.array(a["bbox"]) * rng.normal(1, 0.1, 4)).tolist()
            label = a["category_id"] if rng.random() < 0.7 else int(rng.integers(1, 1231))
            results.append({"image_id": a["image_id"], "category_id": label, "bbox": box, "score": rng.random()})
    for protocol in ("lvis", "lvis-fixed"):
        ours = assert_equals_lvis(annotations, results, protocol)
        assert ours.metrics["AP"] is not None
        assert ours.metrics["APr"] is not None


def test_real_coco(real_data: Path) -> None:
    annotations = json.loads((real_data / "faster_coco_eval" / "instances_val2014_100.json").read_bytes())
    results = json.loads((real_data / "cocoapi" / "instances_val2014_fakebbox100_results.json").read_bytes())
    ours = assert_equals_coco(annotations, results)
    # the expected table that cocoapi ships, to its three digits
    table = "0.505 0.697 0.573 0.586 0.519 0.501 0.387 0.594 0.595 0.640 0.566 0.564"
    assert " ".join(f"{value:.3f}" for value in ours.metrics.values()) == table


# One image 640 x 480, classes 1 r, 2 c, 3 f, box B of class 1, a far box F: what the evaluators disagree on.
B, F = [10.0, 10.0, 100.0, 100.0], [300.0, 300.0, 50.0, 50.0]


def _gt(*boxes: Json, **image: Any) -> Json:
    lists: Json = {"neg_category_ids": [], "not_exhaustive_category_ids": []}
    return {
        "images": [{"id": 1, "width": 640, "height": 480, **lists, **image}],
        "categories": [{"id": k, "name": str(k), "frequency": letter} for k, letter in ((1, "r"), (2, "c"), (3, "f"))],
        "annotations": [
            {"id": i + 1, "image_id": 1, "category_id": 1, "area": b["bbox"][2] * b["bbox"][3], "iscrowd": 0, **b}
            for i, b in enumerate(boxes)
        ],
    }


def _dt(box: list[float], score: float = 0.9, category: int = 1) -> Json:
    return {"image_id": 1, "category_id": category, "bbox": box, "score": score}


REPROS = {
    "zero-area detection is dropped": (_gt({"bbox": B}), [_dt([300, 300, 0, 50], 0.95), _dt(B)], 1.0, 1.0),
    "zero-area ground truth vanishes": (_gt({"bbox": B}, {"bbox": F, "area": 0}), [_dt(B)], 1.0, 1.0),
    "zero-area ground truth alone verifies nothing": (
        _gt({"bbox": B}, {"bbox": F, "area": 0, "category_id": 2}),
        [_dt(B), _dt(F, category=2)],
        1.0,
        1.0,
    ),
    "ground truth id 0 reads as unmatched": (
        _gt({"bbox": B, "id": 0}, {"bbox": F, "id": 1}),
        [_dt(B), _dt(F, 0.8)],
        0.2524752475247525,
        0.5,
    ),
    "iscrowd is not read": (_gt({"bbox": B, "iscrowd": 1}, {"bbox": F}), [_dt(F)], 0.5049504950495048, 0.5),
    "ignore is read": (_gt({"bbox": B, "ignore": 1}, {"bbox": F}), [_dt(B), _dt(F)], 1.0, 1.0),
    "the cap counts unverified classes": (
        _gt({"bbox": B}),
        [_dt(F, 0.9, category=3) for _ in range(300)] + [_dt(B, 0.1)],
        0.0,
        0.0,
    ),
    "not exhaustive without ground truth": (
        _gt({"bbox": B}, not_exhaustive_category_ids=[2]),
        [_dt(B), _dt(F, category=2)],
        1.0,
        1.0,
    ),
    "not exhaustive and negative": (
        _gt({"bbox": B}, not_exhaustive_category_ids=[1], neg_category_ids=[1]),
        [_dt(F, 0.95), _dt(B)],
        1.0,
        1.0,
    ),
    "negative and present": (_gt({"bbox": B}, neg_category_ids=[1]), [_dt(F, 0.95), _dt(B)], 0.5, 1.0),
    "negative width": (_gt({"bbox": B}), [_dt([50, 50, -5, 10], 0.95), _dt(B)], 1.0, 1.0),
    "two negative sides have a positive area": (_gt({"bbox": B}), [_dt([50, 50, -5, -10], 0.95), _dt(B)], 0.5, 1.0),
    "unknown class": (_gt({"bbox": B}), [_dt(B, category=77), _dt(B)], 1.0, 1.0),
    "IoU of exactly 0.5": (_gt({"bbox": [0, 0, 10, 20]}), [_dt([0, 0, 10, 10])], 0.1, 0.1),
    "equal IoU, the later ground truth wins": (
        _gt({"bbox": [0, 0, 10, 10]}, {"bbox": [0, 0, 10, 10]}),
        [_dt([0, 0, 10, 10], 0.9), _dt([0, 0, 10, 10], 0.8)],
        1.0,
        1.0,
    ),
    "equal IoU, the later ground truth is taken and the earlier stays free": (
        _gt({"bbox": [0, 0, 20, 10]}, {"bbox": [4, 0, 20, 10]}),
        [_dt([2, 0, 20, 10], 0.9), _dt([0, 0, 20, 10], 0.8)],
        0.7757425742574258,  # the first misses at IoU 0.85 and above: 7 x 1 + 3 x 0.2525
        0.85,
    ),
    "IoU of exactly 0.5 beside another ground truth": (
        _gt({"bbox": [0, 0, 10, 20]}, {"bbox": [0, 0, 10, 20]}),
        [_dt([0, 0, 10, 10], 0.9), _dt([0, 0, 10, 10], 0.8)],
        0.1,
        0.1,
    ),
    "tie at the cap, first in the file is kept": (
        _gt({"bbox": B}),
        [_dt(B, 0.5), *(_dt(F, 0.5, category=3) for _ in range(300))],
        1.0,
        1.0,
    ),
    "tie at the cap, last in the file is dropped": (
        _gt({"bbox": B}),
        [*(_dt(F, 0.5, category=3) for _ in range(300)), _dt(B, 0.5)],
        0.0,
        0.0,
    ),
    "minus zero ties with zero": (_gt({"bbox": B}), [_dt(F, -0.0), _dt(B, 0.0)], 0.5, 1.0),
}


@pytest.mark.parametrize("name", REPROS)
def test_small_repros(name: str) -> None:
    annotations, results, ap, ar = REPROS[name]
    ours = assert_equals_lvis(annotations, results)
    assert ours.metrics["AP"] == pytest.approx(ap, abs=1e-12)
    assert ours.metrics["AR@300"] == pytest.approx(ar, abs=1e-12)
    if not any(a["area"] == 0 or "ignore" in a for a in annotations["annotations"]):
        assert_equals_coco(annotations, results)


@pytest.mark.parametrize("hit", [0, 10_000])
def test_tie_at_the_cap_per_class(hit: int) -> None:
    """Of 10,001 equal scores the last in the file goes."""
    results = [_dt(B if row == hit else F, 0.5) for row in range(10_001)]
    ours = assert_equals_lvis(_gt({"bbox": B}), results, "lvis-fixed")
    assert ours.metrics["AR@-1"] == (1.0 if hit == 0 else 0.0)


def test_capped_file_two_images() -> None:
    annotations = _gt({"bbox": B})
    annotations["images"].append({"id": 2, "neg_category_ids": [1], "not_exhaustive_category_ids": []})
    results = [{**_dt(F, 0.9), "image_id": 2} for _ in range(351)] + [_dt(B, 0.1)]
    ours = assert_equals_lvis(annotations, results)
    assert ours.matches.counts.over_image_cap == 51
    assert ours.metrics["AR@300"] == 1.0


def test_unknown_image_is_an_error() -> None:
    with pytest.raises(DataError, match=r"^record 1: image_id 9 is not among the annotations' images$"):
        evaluate(
            oracles.ground_truth(_gt({"bbox": B})),
            oracles.predictions([_dt(B), {**_dt(B), "image_id": 9}]),
            PROTOCOLS["lvis"],
        )


def test_counts_name_every_dropped_detection() -> None:
    gt = _gt({"bbox": B}, neg_category_ids=[2])
    results = [
        _dt(B),
        _dt([0, 0, 0, 5]),
        _dt([0, 0, -1, 5]),
        _dt(B, category=77),
        _dt(B, category=3),
        _dt(F, category=2),
    ]
    counts = evaluate(oracles.ground_truth(gt), oracles.predictions(results), PROTOCOLS["lvis"]).matches.counts
    assert (counts.total, counts.unknown_class, counts.no_area, counts.negative_size) == (6, 1, 2, 1)
    assert (counts.unverified, counts.kept) == (1, 2)
