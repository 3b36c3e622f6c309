"""Presence: against a slow reference with scipy's assignment, and on detectors whose figures are known."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy.optimize import linear_sum_assignment

from ovd_bench.metrics import cgf1
from ovd_bench.metrics.errors import DataError
from ovd_bench.metrics.presence import presence
from ovd_bench.metrics.protocol import PROTOCOLS, Protocol
from ovd_bench.metrics.types import Ragged
from ovd_bench.tests.metrics.diagnosis_sets import random_set, real_federated_set
from ovd_bench.tests.metrics.semantic_sets import ground_truth_of, predictions_of
from ovd_bench.tests.oracles import ground_truth, predictions

Json = dict[str, Any]
Pair = tuple[int, int]

COCO = PROTOCOLS["coco"]
LVIS = PROTOCOLS["lvis"]
IOU_LEVELS = np.linspace(0.5, 0.95, 10)


def overlap(a: list[float], b: list[float]) -> float:
    w = min(a[0] + a[2], b[0] + b[2]) - max(a[0], b[0])
    h = min(a[1] + a[3], b[1] + b[3]) - max(a[1], b[1])
    return max(w, 0.0) * max(h, 0.0)


@dataclass
class Slow:
    """The definitions of ``metrics.presence`` and ``metrics.cgf1``, pair by pair."""

    annotations: Json
    results: list[Json]
    federated: bool

    def __post_init__(self) -> None:
        flag = "ignore" if self.federated else "iscrowd"
        classes = [c["id"] for c in self.annotations["categories"]]
        self.truth: dict[Pair, list[list[float]]] = {}
        self.ignored: dict[Pair, list[list[float]]] = {}
        for a in self.annotations["annotations"]:
            side = self.ignored if a[flag] else self.truth
            side.setdefault((a["image_id"], a["category_id"]), []).append(a["bbox"])
        self.positive = set(self.truth)
        self.unclear: set[Pair] = set()
        if self.federated:
            images = self.annotations["images"]
            self.unclear = {(i["id"], c) for i in images for c in i["not_exhaustive_category_ids"]}
            candidates = {(i["id"], c) for i in images for c in i["neg_category_ids"]}
        else:
            candidates = {(i["id"], c) for i in self.annotations["images"] for c in classes}
        self.negative = candidates - self.positive - set(self.ignored) - self.unclear
        self.found: dict[Pair, list[Json]] = {pair: [] for pair in self.positive | self.negative}
        for r in self.results:
            if (r["image_id"], r["category_id"]) in self.found:
                self.found[r["image_id"], r["category_id"]].append(r)
        self.best = {pair: max((r["score"] for r in rs), default=-np.inf) for pair, rs in self.found.items()}

    def hard(self, groups: dict[int, int]) -> set[Pair]:
        present = {(image, groups[label]) for image, label in self.positive if groups[label] >= 0}
        return {(image, label) for image, label in self.negative if (image, groups[label]) in present}

    def auroc(self, negative: set[Pair], label: int | None = None) -> float | None:
        positives = [self.best[p] for p in self.positive if label in (None, p[1])]
        negatives = [self.best[p] for p in negative if label in (None, p[1])]
        wins = [(p > n) + 0.5 * (p == n) for p in positives for n in negatives]
        return float(np.mean(wins)) if wins else None

    def fpr95(self, negative: set[Pair], label: int | None = None) -> float | None:
        positives = [self.best[p] for p in self.positive if label in (None, p[1])]
        negatives = [self.best[p] for p in negative if label in (None, p[1])]
        if not positives or not negatives:
            return None
        threshold = max(t for t in positives if 100 * sum(p >= t for p in positives) >= 95 * len(positives))
        return float(np.mean([n >= threshold for n in negatives]))

    def macro(self, name: str, negative: set[Pair]) -> float | None:
        values = [getattr(self, name)(negative, c["id"]) for c in self.annotations["categories"]]
        defined = [v for v in values if v is not None]
        return float(np.mean(defined)) if defined else None

    def pm_f1(self, threshold: float) -> float:
        tp, fp, fn = np.zeros(10), np.zeros(10), np.zeros(10)
        for pair, boxes in self.truth.items():
            chosen = [r["bbox"] for r in self.found[pair] if r["score"] >= threshold]
            iou = np.array([[self.iou(d, g) for g in boxes] for d in chosen]).reshape(len(chosen), len(boxes))
            matched = np.zeros(len(chosen))
            rows, columns = linear_sum_assignment(-iou)
            matched[rows] = iou[rows, columns]
            excuse = np.array([self.excuse(pair, d) for d in chosen])
            for t, level in enumerate(IOU_LEVELS):
                hits = np.count_nonzero(matched >= level)
                tp[t] += hits
                fp[t] += np.count_nonzero((matched < level) & (excuse < level))
                fn[t] += len(boxes) - hits
        return float(np.mean(2 * tp / (2 * tp + fp + fn)))

    def excuse(self, pair: Pair, box: list[float]) -> float:
        if pair in self.unclear:
            return np.inf
        regions = self.ignored.get(pair, [])
        if self.federated:
            return max((self.iou(box, region) for region in regions), default=0.0)
        return max((overlap(box, region) / (box[2] * box[3]) for region in regions), default=0.0)

    @staticmethod
    def iou(a: list[float], b: list[float]) -> float:
        inter = overlap(a, b)
        return inter / (a[2] * a[3] + b[2] * b[3] - inter)

    def il(self, threshold: float) -> tuple[float, float]:
        """IL_MCC, IL_FPR."""
        tp = sum(self.best[p] >= threshold for p in self.positive)
        fp = sum(self.best[p] >= threshold for p in self.negative)
        fn, tn = len(self.positive) - tp, len(self.negative) - fp
        norm = ((tp + fp) * (tp + fn) * (tn + fp) * (tn + fn)) ** 0.5
        return (tp * tn - fp * fn) / norm if norm else 0.0, fp / len(self.negative)

    def cg_f1(self, threshold: float) -> float:
        return self.pm_f1(threshold) * self.il(threshold)[0]


def sets(seed: int, federated: bool) -> tuple[Json, list[Json]]:
    annotations, results = random_set(
        seed,
        classes=3 + seed,
        detections=[3, 30][seed % 2],
        federated=federated,
        crowd=0.2,
        ignore=0.2,
    )
    if seed % 3 == 0:  # ties
        for r in results:
            r["score"] = round(r["score"], 1)
    return annotations, results


@pytest.mark.parametrize("federated", [False, True])
@pytest.mark.parametrize("seed", range(8))
def test_equals_the_slow_reference(seed: int, federated: bool) -> None:
    annotations, results = sets(seed, federated)
    slow = Slow(annotations, results, federated)
    gt = ground_truth(annotations)
    groups = np.random.default_rng(seed).integers(-1, 2, gt.num_classes)
    by_id = dict(zip(gt.categories.ids.tolist(), groups.tolist(), strict=True))
    metrics = presence(gt, predictions(results), LVIS if federated else COCO, groups, score_threshold=0.3).metrics
    assert metrics["presence/positives"] == len(slow.positive)
    for suffix, negative in (("", slow.negative), ("_hard", slow.hard(by_id))):
        assert metrics[f"presence/negatives{suffix}"] == len(negative)
        assert metrics[f"presence/auroc{suffix}"] == pytest.approx(slow.auroc(negative), abs=1e-12)
        assert metrics[f"presence/fpr95{suffix}"] == pytest.approx(slow.fpr95(negative), abs=1e-12)
        assert metrics[f"presence/auroc_macro{suffix}"] == pytest.approx(slow.macro("auroc", negative), abs=1e-12)
        assert metrics[f"presence/fpr95_macro{suffix}"] == pytest.approx(slow.macro("fpr95", negative), abs=1e-12)
    assert metrics["presence/score_threshold"] == 0.3
    assert (metrics["presence/IL_MCC"], metrics["presence/IL_FPR"]) == pytest.approx(slow.il(0.3))
    assert metrics["presence/pmF1"] == pytest.approx(slow.pm_f1(0.3))
    assert metrics["presence/cgF1"] == pytest.approx(slow.cg_f1(0.3))


def test_equals_the_slow_reference_on_real_annotations(real_data: Path) -> None:
    annotations, results = real_federated_set(real_data)
    slow = Slow(annotations, results, federated=True)
    metrics = presence(ground_truth(annotations), predictions(results), LVIS).metrics
    assert (metrics["presence/positives"], metrics["presence/negatives"]) == (len(slow.positive), len(slow.negative))
    assert metrics["presence/auroc"] == pytest.approx(slow.auroc(slow.negative), abs=1e-12)
    assert metrics["presence/cgF1"] == pytest.approx(slow.cg_f1(0.5))


@pytest.mark.parametrize("federated", [False, True])
@pytest.mark.parametrize("seed", range(4))
def test_best_threshold_is_the_best_of_all(seed: int, federated: bool) -> None:
    annotations, results = random_set(seed, images=5, detections=6, federated=federated, crowd=0.2)
    slow = Slow(annotations, results, federated)
    best = presence(ground_truth(annotations), predictions(results), LVIS if federated else COCO).best
    assert best is not None
    assert best.cg_f1 == pytest.approx(max(slow.cg_f1(r["score"]) for r in results))
    assert best.cg_f1 == pytest.approx(slow.cg_f1(best.score_threshold))


def scene(images: int = 20, classes: int = 4) -> list[tuple[float, ...]]:
    """Image i shows class i mod classes, two objects."""
    return [(i, i % classes, 30 * k, 0, 20, 20) for i in range(images) for k in range(2)]


NAMES = ["a", "b", "c", "d"]


def test_a_perfect_detector() -> None:
    rows = scene()
    found = predictions_of([(i, c, 0.9, *box) for i, c, *box in rows])
    result = presence(ground_truth_of(rows, 20, NAMES), found, COCO, np.zeros(4, np.int32))
    assert result.hard is not None
    for kind in (result.random, result.hard):
        assert (kind.auroc, kind.auroc_macro, kind.fpr95, kind.fpr95_macro) == (1, 1, 0, 0)
    assert result.operating.cg_f1 == pytest.approx(1)
    assert result.operating.il_fpr == 0
    assert result.best is not None
    assert result.best.score_threshold == 0.9


def test_a_mute_detector_has_no_presence_information() -> None:
    result = presence(ground_truth_of(scene(), 20, NAMES), predictions_of([]), COCO)
    assert (result.random.auroc, result.random.fpr95) == (0.5, 1)
    assert (result.operating.pm_f1, result.operating.il_mcc, result.operating.cg_f1) == (0, 0, 0)
    assert result.best is None


def test_a_shotgun_detector_has_no_presence_information() -> None:
    rows = scene()
    found = predictions_of([(i, c, 0.9, *box) for i, _, *box in rows for c in range(4)])
    result = presence(ground_truth_of(rows, 20, NAMES), found, COCO, np.zeros(4, np.int32))
    assert result.hard is not None
    for kind in (result.random, result.hard):
        assert (kind.auroc, kind.auroc_macro, kind.fpr95) == (0.5, 0.5, 1)
    assert result.operating.pm_f1 == pytest.approx(1)  # it finds everything …
    assert result.operating.cg_f1 == 0  # … and knows nothing
    assert result.best is not None
    assert result.best.cg_f1 == 0


def test_random_scores_are_a_coin_toss() -> None:
    # Images i and i + 20 show the same object; the detector scores every class, mirrored around 0.5 in the second.
    rows = scene()
    gt = ground_truth_of(rows + [(i + 20, c, *box) for i, c, *box in rows], 40, NAMES)
    scores = np.random.default_rng(1).random((20, 4))
    found = predictions_of(
        [(i, c, scores[i, c], 0, 0, 20, 20) for i in range(20) for c in range(4)]
        + [(i + 20, c, 1 - scores[i, c], 0, 0, 20, 20) for i in range(20) for c in range(4)]
    )
    assert presence(gt, found, COCO).random.auroc == pytest.approx(0.5, abs=1e-12)


def test_one_generic_label_for_everything() -> None:
    rows = scene()
    found = predictions_of([(i, 0, 0.9, *box) for i, _, *box in rows])
    result = presence(ground_truth_of(rows, 20, NAMES), found, COCO)
    assert (result.random.auroc, result.random.auroc_macro) == (0.5, 0.5)
    assert result.operating.il_mcc == pytest.approx(0, abs=1e-12)
    assert result.operating.cg_f1 == pytest.approx(0, abs=1e-12)


def test_confusing_siblings_shows_in_the_hard_figures_only() -> None:
    rows = scene()
    sibling = {0: 1, 1: 0, 2: 3, 3: 2}
    found = predictions_of([(i, label, 0.9, *box) for i, c, *box in rows for label in (c, sibling[int(c)])])
    result = presence(ground_truth_of(rows, 20, NAMES), found, COCO, np.array([0, 0, 7, 7]))
    assert result.hard is not None
    assert (result.hard.auroc, result.hard.negatives) == (0.5, 20)
    assert result.random.auroc == pytest.approx((40 + 20 / 2) / 60)
    assert presence(ground_truth_of(rows, 20, NAMES), found, COCO).metrics["presence/auroc_hard"] is None


def test_only_verified_pairs_count_on_federated_data() -> None:
    gt = ground_truth_of([(0, 0, 0, 0, 20, 20)], 2, NAMES, federated=True)
    gt = replace(gt, neg=Ragged.from_lists([[1, 2], [0]]), not_exhaustive=Ragged.from_lists([[2], []]))
    found = predictions_of([(0, c, 0.9, 50, 0, 20, 20) for c in (1, 2, 3)] + [(0, 0, 0.8, 0, 0, 20, 20)])
    result = presence(gt, found, LVIS)
    assert (result.positives, result.random.negatives) == (1, 2)  # class 2 is listed as absent and as not exhaustive
    assert result.random.auroc == 0.5  # above the silent pair, below the hallucinated one
    assert result.operating.il_fpr == 0.5


def test_coco_rules_do_not_read_the_federated_lists() -> None:
    gt = ground_truth_of([(0, 0, 0, 0, 20, 20)], 1, NAMES, federated=True)
    gt = replace(gt, not_exhaustive=Ragged.from_lists([[0, 1]]))
    found = predictions_of([(0, 0, 0.9, 0, 0, 20, 20), (0, 0, 0.9, 50, 0, 20, 20)])
    result = presence(gt, found, COCO)
    assert result.random.negatives == 3
    assert result.operating.pm_f1 == pytest.approx(2 / 3)


def test_equal_scores_count_half_and_silence_is_lowest() -> None:
    gt = ground_truth_of([(0, 0, 0, 0, 9, 9), (1, 0, 0, 0, 9, 9), (2, 1, 0, 0, 9, 9)], 3, ["a", "b"])
    found = predictions_of([(0, 0, 0.5, 0, 0, 9, 9), (0, 1, 0.5, 0, 0, 9, 9), (2, 1, 0.7, 0, 0, 9, 9)])
    separation = presence(gt, found, COCO).random
    # positives 0.5, silent, 0.7; negatives (image 0, b) 0.5, (1, b) silent, (2, a) silent
    assert separation.auroc == pytest.approx((0.5 + 2 + 0 + 0.5 * 2 + 3) / 9)
    assert separation.fpr95 == 1
    assert separation.roc is not None
    assert separation.roc.threshold.tolist() == [0.7, 0.5, -np.inf]
    assert separation.roc.tpr.tolist() == pytest.approx([1 / 3, 2 / 3, 1])
    assert separation.roc.fpr.tolist() == pytest.approx([0, 1 / 3, 1])


def test_fpr95_threshold_lets_one_positive_of_twenty_go() -> None:
    rows = [(i, 0, 0, 0, 9, 9) for i in range(20)]
    gt = ground_truth_of(rows, 40, ["a"])
    found = [(i, 0, 0.5 if i else 0.1, 0, 0, 9, 9) for i in range(20)] + [
        (20, 0, 0.5, 0, 0, 9, 9),
        (21, 0, 0.4, 0, 0, 9, 9),
    ]
    assert presence(gt, predictions_of(found), COCO).random.fpr95 == 1 / 20
    found[1] = (1, 0, 0.2, 0, 0, 9, 9)  # now the threshold has to go down to 0.2
    assert presence(gt, predictions_of(found), COCO).random.fpr95 == 2 / 20


def test_a_crowd_only_pair_is_neither_present_nor_absent() -> None:
    gt = ground_truth_of([(0, 0, 0, 0, 9, 9), (1, 0, 0, 0, 9, 9)], 2, ["a", "b"], crowd=[False, True])
    result = presence(gt, predictions_of([(1, 0, 0.9, 0, 0, 9, 9)]), COCO, np.zeros(2, np.int32))
    assert (result.positives, result.random.negatives) == (1, 2)
    assert result.hard is not None
    assert result.hard.negatives == 1


def test_the_cap_silences_classes() -> None:
    gt = ground_truth_of([(0, 0, 0, 0, 9, 9)], 2, ["a", "b"], federated=True)
    gt = replace(gt, neg=Ragged.from_lists([[1], []]))
    found = predictions_of([(0, 1, 0.9, 0, 0, 9, 9), (0, 0, 0.8, 0, 0, 9, 9)])
    assert presence(gt, found, LVIS).operating.pm_f1 == pytest.approx(1)
    assert presence(gt, found, Protocol("one", "lvis", image_cap=1)).operating.pm_f1 == 0


@pytest.mark.parametrize("federated", [False, True])
def test_order_of_records_does_not_matter(federated: bool) -> None:
    annotations, results = sets(3, federated)
    gt, found, protocol = ground_truth(annotations), predictions(results), LVIS if federated else COCO
    shuffled = found.take(np.random.default_rng(0).permutation(len(found)))
    assert presence(gt, found, protocol).metrics == presence(gt, shuffled, protocol).metrics


def test_without_one_kind_of_pair_figures_are_undefined() -> None:
    found = predictions_of([(0, 0, 0.9, 0, 0, 9, 9)])
    everywhere = presence(ground_truth_of([(0, 0, 0, 0, 9, 9)], 1, ["a"]), found, COCO)
    assert (everywhere.random.auroc, everywhere.operating.cg_f1, everywhere.best) == (None, None, None)
    assert everywhere.operating.pm_f1 == pytest.approx(1)
    nowhere = presence(ground_truth_of([], 1, ["a"]), found, COCO)
    assert (nowhere.random.fpr95_macro, nowhere.operating.pm_f1, nowhere.operating.il_fpr) == (None, None, 1)


def test_the_number_of_threads_does_not_matter(monkeypatch: pytest.MonkeyPatch) -> None:
    annotations, results = random_set(0, images=40)
    gt, found = ground_truth(annotations), predictions(results)
    metrics = []
    for threads in (1, 3):
        monkeypatch.setattr(cgf1, "default_threads", lambda threads=threads: threads)
        metrics.append(presence(gt, found, COCO).metrics)
    assert metrics[0] == metrics[1]


def test_wrong_groups() -> None:
    gt = ground_truth_of(scene(), 20, NAMES)
    with pytest.raises(DataError, match=r"groups has shape \(3,\), expected \(4,\)"):
        presence(gt, predictions_of([]), COCO, np.zeros(3, np.int32))
