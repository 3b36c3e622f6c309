"""AP on classes without training images."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest

from ovd_bench.benchmarks.data.files.predictions import read_predictions
from ovd_bench.benchmarks.scoring.extra_metrics import EXTRA_METRICS
from ovd_bench.benchmarks.scoring.score import ScoreRequest, score
from ovd_bench.metrics.bootstrap import bootstrap, resample_weights
from ovd_bench.metrics.evaluate import evaluate
from ovd_bench.metrics.protocol import PROTOCOLS
from ovd_bench.metrics.unseen import mean_over, unseen_ap, unseen_classes
from ovd_bench.tests.metrics.small_sets import random_set


@pytest.fixture
def files(tmp_path: Path) -> tuple[Path, Path]:
    """Twelve classes, every third without a training image; the last of these without ground truth too."""
    annotations, results = random_set(3, 60, 12, 20)
    for k, category in enumerate(annotations["categories"]):
        category["image_count"] = k % 3
    last = annotations["categories"][9]["id"]
    annotations["annotations"] = [box for box in annotations["annotations"] if box["category_id"] != last]
    (tmp_path / "gt.json").write_text(json.dumps(annotations))
    (tmp_path / "dt.json").write_text(json.dumps(results))
    return tmp_path / "gt.json", tmp_path / "dt.json"


def test_mean_over_the_unseen_classes(files: tuple[Path, Path]) -> None:
    outcome = score(ScoreRequest(files[1], files[0], "lvis", ["unseen"], resamples=60, seed=5))
    ap, ap50 = outcome.evaluation.per_class_ap, outcome.evaluation.per_class_ap50
    assert unseen_classes(outcome.evaluation).tolist() == [0, 3, 6, 9]
    assert np.isnan(ap[9])
    assert outcome.metrics["unseen/APu"] == pytest.approx(np.mean(ap[[0, 3, 6]]), abs=1e-15)
    assert outcome.metrics["unseen/AP50u"] == pytest.approx(np.mean(ap50[[0, 3, 6]]), abs=1e-15)
    assert outcome.metrics["unseen/classes"] == 3
    # the spread, from its definition
    gt = outcome.gt
    evaluation = evaluate(gt, read_predictions(files[1]), PROTOCOLS["lvis"], keep_records=True)
    weights = resample_weights(gt.num_images, 60, 5)
    per_class = bootstrap(gt, evaluation, weights, per_class=True).per_class_ap
    assert per_class is not None
    expected = np.std(np.nanmean(per_class[:, [0, 3, 6, 9]].astype(float), axis=1), ddof=1)
    assert outcome.sd["unseen/APu"] == pytest.approx(expected, rel=1e-12)
    # the official numbers do not depend on it
    plain = score(ScoreRequest(files[1], files[0], "lvis", [], resamples=60, seed=5))
    assert {name: outcome.sd[name] for name in plain.sd} == plain.sd


def test_undefined_without_such_a_class(files: tuple[Path, Path]) -> None:
    outcome = score(ScoreRequest(files[1], files[0], "lvis", ["unseen"], resamples=5))
    for count in (-1, 7):
        categories = dataclasses.replace(outcome.gt.categories, image_count=np.full(12, count))
        evaluation = dataclasses.replace(outcome.evaluation, categories=categories)
        assert unseen_ap(evaluation) == {"unseen/APu": None, "unseen/AP50u": None, "unseen/classes": 0}


def test_a_remark_says_why_it_is_undefined(files: tuple[Path, Path]) -> None:
    document = json.loads(files[0].read_text())
    for category in document["categories"]:
        category["image_count"] = 4
    files[0].write_text(json.dumps(document))
    outcome = score(ScoreRequest(files[1], files[0], "lvis", ["unseen"], resamples=5))
    assert outcome.metrics["unseen/APu"] is None
    assert "unseen/APu" not in outcome.sd
    assert any(note.startswith("unseen: undefined") for note in outcome.notes)
    assert "unseen" in EXTRA_METRICS


def test_mean_over_leaves_undefined_classes_out() -> None:
    rows = np.array([[0.5, np.nan, 0.1], [np.nan, np.nan, 0.9]], np.float32)
    np.testing.assert_allclose(mean_over(rows, np.array([0, 1])), [0.5, np.nan])
    np.testing.assert_allclose(mean_over(rows, np.array([0, 2])), [0.3, 0.9], rtol=1e-6)
    assert np.isnan(mean_over(rows, np.array([], np.intp))).all()
