"""Calibration: against a slow reference and hotcoco, and on scores whose error is known."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import hotcoco
import numpy as np
import pytest

from ovd_bench.metrics.calibration import calibration
from ovd_bench.metrics.errors import DataError
from ovd_bench.metrics.protocol import PROTOCOLS, Protocol
from ovd_bench.metrics.types import Ragged
from ovd_bench.tests.metrics.diagnosis_sets import random_set
from ovd_bench.tests.metrics.semantic_sets import ground_truth_of, predictions_of
from ovd_bench.tests.oracles import ground_truth, predictions

Json = dict[str, Any]

COCO = PROTOCOLS["coco"]
LVIS = PROTOCOLS["lvis"]


def overlap(a: list[float], b: list[float]) -> float:
    w = min(a[0] + a[2], b[0] + b[2]) - max(a[0], b[0])
    h = min(a[1] + a[3], b[1] + b[3]) - max(a[1], b[1])
    return max(w, 0.0) * max(h, 0.0)


def iou(a: list[float], b: list[float]) -> float:
    inter = overlap(a, b)
    return inter / (a[2] * a[3] + b[2] * b[3] - inter)


class Slow:
    """Outcomes detection by detection, errors bin by bin."""

    def __init__(self, annotations: Json, results: list[Json], federated: bool) -> None:
        self.results, self.federated = results, federated
        self.images = {image["id"]: image for image in annotations["images"]}
        self.truth = [a for a in annotations["annotations"] if federated or not a["iscrowd"]]
        self.crowd = [a for a in annotations["annotations"] if not federated and a["iscrowd"]]
        self.classes = sorted({a["category_id"] for a in self.truth})
        self.right: set[float] = set()  # scores of the true positives at IoU 0.5
        self.right = {row[1] for row in self.outcomes() if row[2]}

    def excused(self, r: Json) -> bool:
        if self.federated:
            return r["category_id"] in self.images[r["image_id"]]["not_exhaustive_category_ids"]
        return r["score"] not in self.right and any(
            self.same_pair(r, a) and overlap(r["bbox"], a["bbox"]) >= 0.5 * r["bbox"][2] * r["bbox"][3]
            for a in self.crowd
        )

    def verified(self, r: Json) -> bool:
        here = any(self.same_pair(r, a) for a in self.truth)
        return not self.federated or here or r["category_id"] in self.images[r["image_id"]]["neg_category_ids"]

    @staticmethod
    def same_pair(r: Json, a: Json) -> bool:
        return bool(r["image_id"] == a["image_id"] and r["category_id"] == a["category_id"])

    def outcomes(self, any_overlap: bool = False) -> list[tuple[int, float, bool, float]]:
        """(class, score, true positive, IoU) of the counted detections by descending score."""
        taken: set[int] = set()
        rows = []
        for r in sorted(self.results, key=lambda r: -r["score"]):
            free = [a for a in self.truth if self.same_pair(r, a) and a["id"] not in taken]
            best = max(free, key=lambda a: iou(r["bbox"], a["bbox"]), default=None)
            value = 0.0 if best is None else iou(r["bbox"], best["bbox"])
            if best is not None and (value > 0 if any_overlap else value >= 0.5):
                taken.add(best["id"])
                rows.append((r["category_id"], r["score"], True, value))
            elif self.verified(r) and not self.excused(r):
                rows.append((r["category_id"], r["score"], False, 0.0))
        return rows

    def lrp(self, label: int, threshold: float) -> float:
        rows = [row for row in self.outcomes() if row[0] == label and row[1] >= threshold]
        tp = sum(row[2] for row in rows)
        fn = sum(a["category_id"] == label for a in self.truth) - tp
        misplaced = sum((1 - row[3]) / 0.5 for row in rows if row[2])
        return float((misplaced + len(rows) - tp + fn) / (len(rows) + fn))

    def olrp(self, label: int) -> tuple[float, float]:
        """Smallest LRP and its threshold."""
        scores = [row[1] for row in self.outcomes() if row[0] == label]
        return min(((self.lrp(label, s), s) for s in [np.inf, *scores]), key=lambda pair: (pair[0], -pair[1]))


def ece(rows: list[tuple[float, float]], bins: int) -> float:
    """Σ |D_m| / |D| |mean target - mean score| of (score, target) rows."""
    total = 0.0
    for m in range(bins):
        low, high = m / bins, (m + 1) / bins
        inside = [row for row in rows if low < row[0] <= high or (m == 0 and row[0] == 0)]
        if inside:
            score, target = np.mean(inside, axis=0)
            total += len(inside) / len(rows) * abs(target - score)
    return total


def class_ece(rows: list[tuple[int, float, bool, float]], classes: list[int]) -> float:
    per_class = [[(score, value) for k, score, _, value in rows if k == label] for label in classes]
    return float(np.mean([ece(own, 25) for own in per_class if own]))


@pytest.mark.parametrize("federated", [False, True])
@pytest.mark.parametrize("seed", range(5))
def test_equals_the_slow_reference(seed: int, federated: bool) -> None:
    annotations, results = random_set(seed, images=8, classes=3 + seed, federated=federated, crowd=0.2, detections=15)
    slow = Slow(annotations, results, federated)
    result = calibration(
        ground_truth(annotations), predictions(results), LVIS if federated else COCO, min_score=0.2 * (seed % 2)
    )
    half, touching = slow.outcomes(), slow.outcomes(any_overlap=True)
    optimal = {label: slow.olrp(label) for label in slow.classes}
    assert result.olrp == pytest.approx(np.mean([lrp for lrp, _ in optimal.values()]))
    ids = [c["id"] for c in annotations["categories"]]
    found = dict(zip(ids, result.optimal_lrp.threshold.tolist(), strict=True))
    assert {k: found[k] for k in slow.classes} == {k: threshold for k, (_, threshold) in optimal.items()}

    for error, least in (
        (result.all, dict.fromkeys(ids, result.min_score)),
        (result.operating, {k: optimal.get(k, (1, np.inf))[1] for k in ids}),
    ):
        rows = [row for row in half if row[1] >= least[row[0]]]
        assert error.detections == len(rows) > 0
        assert error.d_ece == pytest.approx(ece([(row[1], float(row[2])) for row in rows], 10))
        assert error.la_ece == pytest.approx(class_ece(rows, slow.classes))
        rows = [row for row in touching if row[1] >= least[row[0]]]
        assert error.la_ece_0 == pytest.approx(class_ece(rows, slow.classes))


@pytest.mark.parametrize("crowd", [0.0, 0.2])
def test_d_ece_equals_hotcoco(crowd: float, tmp_path: Path) -> None:
    annotations, results = random_set(1, crowd=crowd)
    for name, document in (("gt", annotations), ("dt", results)):
        (tmp_path / f"{name}.json").write_text(json.dumps(document))
    gt = hotcoco.COCO(str(tmp_path / "gt.json"))
    evaluator = hotcoco.COCOeval(gt, gt.load_res(str(tmp_path / "dt.json")), "bbox")
    evaluator.evaluate()
    reference = evaluator.calibration(n_bins=10, iou_threshold=0.5)
    result = calibration(ground_truth(annotations), predictions(results), COCO).all
    assert result.d_ece == pytest.approx(reference["ece"])
    assert result.detections == reference["num_detections"]
    assert result.reliability.count.tolist() == [b["count"] for b in reference["bins"]]


def test_scores_that_say_the_precision() -> None:
    # ten boxes of score 0.3, three of them right: D-ECE 0; the score is below the IoU 1 of the right ones, but equal on
    # average, so LaECE is 0 too
    gt = ground_truth_of([(0, 0, 20 * k, 0, 10, 10) for k in range(3)], 1, ["a"])
    found = predictions_of([(0, 0, 0.3, 20 * k, 0, 10, 10) for k in range(10)])
    result = calibration(gt, found, COCO)
    assert result.all.d_ece == pytest.approx(0)
    assert result.all.la_ece == pytest.approx(0)
    assert result.all.reliability.count.tolist() == [0, 0, 10, *[0] * 7]
    assert result.all.reliability.precision[2] == pytest.approx(0.3)


def test_la_ece_wants_the_iou() -> None:
    gt = ground_truth_of([(0, 0, 0, 0, 10, 10)], 1, ["a"])
    found = predictions_of([(0, 0, 0.8, 0, 0, 10, 8)])
    result = calibration(gt, found, COCO)
    assert result.all.d_ece == pytest.approx(0.2)
    assert result.all.la_ece == pytest.approx(0)
    assert result.all.reliability.mean_iou[7] == pytest.approx(0.8)
    weak = calibration(gt, predictions_of([(0, 0, 0.2, 0, 0, 10, 2)]), COCO)
    assert (weak.all.la_ece, weak.all.la_ece_0) == pytest.approx((0.2, 0))


def test_classes_weigh_the_same_in_la_ece() -> None:
    gt = ground_truth_of([(0, c, 0, 0, 10, 10) for c in range(3)], 1, ["a", "b", "silent"])
    found = predictions_of([(0, 0, 1.0, 0, 0, 10, 10)] + [(0, 1, 1.0, 50, 0, 10, 10)] * 9)
    result = calibration(gt, found, COCO)
    assert result.all.d_ece == pytest.approx(0.9)
    assert result.all.la_ece == pytest.approx(0.5)
    assert result.all.class_la_ece.tolist() == pytest.approx([0, 1, np.nan], nan_ok=True)


def test_a_class_without_ground_truth_counts_in_d_ece_only() -> None:
    gt = ground_truth_of([(0, 0, 0, 0, 10, 10)], 1, ["a", "absent"])
    result = calibration(gt, predictions_of([(0, 0, 1.0, 0, 0, 10, 10), (0, 1, 1.0, 0, 0, 10, 10)]), COCO)
    assert (result.all.d_ece, result.all.la_ece, result.olrp) == (0.5, 0, 0)
    assert result.operating.detections == 1


def test_equal_scores_stay_together_in_lrp() -> None:
    gt = ground_truth_of([(0, 0, 0, 0, 10, 10)], 1, ["a"])
    found = predictions_of([(0, 0, 0.6, 0, 0, 10, 10), (0, 0, 0.6, 50, 0, 10, 10), (0, 0, 0.5, 80, 0, 10, 10)])
    result = calibration(gt, found, COCO)
    assert (result.olrp, result.operating.detections) == (0.5, 2)


def test_a_tail_of_low_scores_does_not_hide_the_top_at_the_operating_point() -> None:
    gt = ground_truth_of([(0, 0, 0, 0, 10, 10)], 1, ["a"])
    tail = [(0, 0, 0.01, 20 * k, 50, 10, 10) for k in range(99)]
    result = calibration(gt, predictions_of([(0, 0, 0.6, 0, 0, 10, 10), *tail]), COCO)
    assert result.all.d_ece == pytest.approx((0.4 + 99 * 0.01) / 100)
    assert result.operating.d_ece == pytest.approx(0.4)
    assert result.operating_thresholds.tolist() == [0.6]
    assert result.olrp == 0


def test_given_operating_thresholds() -> None:
    gt = ground_truth_of([(0, c, 0, 0, 10, 10) for c in range(2)], 1, ["a", "b"])
    found = predictions_of([(0, c, score, 0, 0, 10, 10) for c in range(2) for score in (0.9, 0.4)])
    result = calibration(gt, found, COCO, operating_thresholds=np.array([0.5, np.nan]))
    assert result.operating.detections == 1
    assert result.operating.d_ece == pytest.approx(0.1)
    assert result.metrics["calibration/d_ece_operating"] == result.operating.d_ece
    with pytest.raises(DataError, match=r"operating_thresholds has shape \(1,\), expected \(2,\)"):
        calibration(gt, found, COCO, operating_thresholds=np.zeros(1))


def test_only_what_the_protocol_counts() -> None:
    gt = ground_truth_of([(0, 0, 0, 0, 10, 10), (0, 1, 0, 0, 10, 10)], 1, list("abcd"), federated=True)
    gt = replace(gt, neg=Ragged.from_lists([[2]]), not_exhaustive=Ragged.from_lists([[1]]))
    found = predictions_of([(0, c, 0.9 - 0.1 * c, 50, 0, 10, 10) for c in range(4)] + [(0, 2, 0.1, 0, 0, 0, 10)])
    assert calibration(gt, found, LVIS).all.detections == 2  # b is excused, d unverified, the last has no area
    assert calibration(gt, found, Protocol("one", "lvis", image_cap=1)).all.detections == 1


def test_a_shotgun_labeller_is_overconfident() -> None:
    rows = [(i, i % 4, 0, 0, 10, 10) for i in range(20)]
    found = predictions_of([(i, c, 0.9, *box) for i, _, *box in rows for c in range(4)])
    result = calibration(ground_truth_of(rows, 20, list("abcd")), found, COCO)
    assert result.all.d_ece == pytest.approx(0.9 - 0.25)
    assert result.all.la_ece == pytest.approx(0.9 - 0.25)


@pytest.mark.parametrize("federated", [False, True])
def test_order_of_records_does_not_matter(federated: bool) -> None:
    annotations, results = random_set(2, federated=federated)
    gt, found, protocol = ground_truth(annotations), predictions(results), LVIS if federated else COCO
    shuffled = found.take(np.random.default_rng(0).permutation(len(found)))
    assert calibration(gt, found, protocol).metrics == calibration(gt, shuffled, protocol).metrics


def test_undefined_without_detections() -> None:
    result = calibration(ground_truth_of([(0, 0, 0, 0, 1, 1)], 1, ["a"]), predictions_of([]), COCO)
    assert (result.all.d_ece, result.all.la_ece, result.all.la_ece_0, result.olrp) == (None, None, None, 1)
    assert calibration(ground_truth_of([], 1, ["a"]), predictions_of([]), COCO).olrp is None


def test_scores_beyond_one_are_refused() -> None:
    gt = ground_truth_of([(0, 0, 0, 0, 1, 1)], 1, ["a"])
    with pytest.raises(DataError, match=r"record 1: score is 3\.5; calibration needs probabilities"):
        calibration(gt, predictions_of([(0, 0, 0.5, 0, 0, 1, 1), (0, 0, 3.5, 0, 0, 1, 1)]), COCO)
