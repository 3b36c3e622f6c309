"""AP-Pool against a plain accumulation of lvis-api's own per-image matches."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
import pytest

from ovd_bench.metrics.errors import DataError
from ovd_bench.metrics.evaluate import evaluate
from ovd_bench.metrics.pooled import pooled_ap
from ovd_bench.metrics.protocol import PROTOCOLS
from ovd_bench.tests import oracles
from ovd_bench.tests.metrics.small_sets import Json, random_set

if TYPE_CHECKING:
    from lvis import LVISEval


def _reference(evaluator: LVISEval, classes: list[int]) -> npt.NDArray[np.float64] | None:
    """Precision (10, 101) of the classes taken as one, straight from the definition."""
    images = len(evaluator.params.img_ids)
    areas = len(evaluator.params.area_rng)
    parts = [evaluator.eval_imgs[k * areas * images + i] for i in range(images) for k in classes]
    parts = [part for part in parts if part is not None]
    positives = sum(int(np.sum(part["gt_ignore"] == 0)) for part in parts)
    if positives == 0:
        return None
    scores = np.concatenate([part["dt_scores"] for part in parts])
    order = np.argsort(-scores, kind="mergesort")
    matched = np.concatenate([part["dt_matches"] for part in parts], axis=1)[:, order] != 0
    ignored = np.concatenate([part["dt_ignore"] for part in parts], axis=1)[:, order]
    precision = np.zeros((10, 101))
    for t in range(10):
        tp = np.cumsum(matched[t] & ~ignored[t]).astype(float)
        fp = np.cumsum(~matched[t] & ~ignored[t]).astype(float)
        values = tp / (fp + tp + np.spacing(1))
        for i in range(len(values) - 1, 0, -1):
            values[i - 1] = max(values[i - 1], values[i])
        for r, threshold in enumerate(evaluator.params.rec_thrs):
            reached = np.flatnonzero(tp / positives >= threshold)
            precision[t, r] = values[reached[0]] if len(reached) else 0
    return precision


@pytest.mark.parametrize("seed", range(6))
def test_equals_pooled_accumulation(seed: int) -> None:
    annotations, results = random_set(seed, 25, 7, 25, odd=True)
    gt, dt = oracles.ground_truth(annotations), oracles.predictions(results)
    ours = pooled_ap(evaluate(gt, dt, PROTOCOLS["lvis"], keep_records=True), dt)
    evaluator = oracles.run_lvis(annotations, results)
    everything = _reference(evaluator, list(range(7)))
    assert everything is not None
    expected = {"APpool": np.mean(everything), "APpool50": np.mean(everything[0])}
    for group, letter in enumerate("rcf"):
        pool = _reference(evaluator, [k for k in range(7) if k % 3 == group])
        expected[f"APpool-{letter}"] = None if pool is None else np.mean(pool)
    assert ours == expected


def test_rewards_scores_that_compare_between_classes() -> None:
    """Halving the scores of one class leaves AP alone and lowers AP-Pool: its hits now rank behind others' misses."""
    boxes = {1: [0, 0, 50, 50], 2: [200, 200, 50, 50]}
    lists: Json = {"neg_category_ids": [], "not_exhaustive_category_ids": []}
    annotations = {
        "images": [{"id": 1, **lists}],
        "categories": [{"id": k, "name": str(k), "frequency": "f"} for k in boxes],
        "annotations": [{"id": k, "image_id": 1, "category_id": k, "bbox": b, "area": 2500} for k, b in boxes.items()],
    }
    gt = oracles.ground_truth(annotations)
    outcomes = []
    for factor in (1.0, 0.5):
        results = [
            {"image_id": 1, "category_id": k, "bbox": box, "score": score * (factor if k == 1 else 1)}
            for k in boxes
            for box, score in ((boxes[k], 0.9), ([400, 400, 9, 9], 0.8))
        ]
        dt = oracles.predictions(results)
        evaluation = evaluate(gt, dt, PROTOCOLS["lvis"], keep_records=True)
        outcomes.append((evaluation.metrics["AP"], pooled_ap(evaluation, dt)["APpool"]))
    assert outcomes[0] == pytest.approx((1.0, 1.0))
    assert outcomes[1][0] == pytest.approx(1.0)
    # recall 0.5 at precision 1, recall 1 at precision 2 / 3
    assert outcomes[1][1] == pytest.approx((51 + 50 * 2 / 3) / 101)


def test_needs_records() -> None:
    annotations, results = random_set(9, 5, 2, 5)
    dt = oracles.predictions(results)
    with pytest.raises(DataError, match="keep_records=True"):
        pooled_ap(evaluate(oracles.ground_truth(annotations), dt, PROTOCOLS["lvis"]), dt)
