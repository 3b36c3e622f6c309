"""Bit-identity with the official evaluators at their real size: 1,203 classes, 300 detections per image, odd input."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from ovd_bench.benchmarks.data.files.annotations import read_ground_truth
from ovd_bench.benchmarks.data.files.predictions import read_predictions, write_predictions
from ovd_bench.metrics.evaluate import evaluate
from ovd_bench.metrics.protocol import PROTOCOLS
from ovd_bench.perf.synthetic import coco_scale, lvis_scale
from ovd_bench.tests import oracles

pytestmark = pytest.mark.full


@pytest.mark.parametrize("edge", [False, True])
@pytest.mark.parametrize("protocol", ["lvis", "lvis-fixed"])
def test_lvis_scale(tmp_path: Path, protocol: str, edge: bool) -> None:
    annotations, predictions = lvis_scale(3, 1000 if not edge else 400, edge=edge)
    gt, dt = tmp_path / "gt.json", tmp_path / "dt.json"
    gt.write_text(json.dumps(annotations))
    write_predictions(dt, predictions)
    ours = evaluate(read_ground_truth(gt), read_predictions(dt), PROTOCOLS[protocol])
    official = oracles.run_lvis(annotations, json.loads(dt.read_text()), fixed=protocol == "lvis-fixed")
    np.testing.assert_array_equal(ours.precision, official.eval["precision"])
    np.testing.assert_array_equal(ours.recall, official.eval["recall"])
    assert list(ours.metrics.values()) == oracles.statistics(official.results.values())


def test_coco_scale(tmp_path: Path) -> None:
    annotations, predictions = coco_scale(3, images=1000, detections=100_000)
    gt, dt = tmp_path / "gt.json", tmp_path / "dt.json"
    gt.write_text(json.dumps(annotations))
    write_predictions(dt, predictions)
    ours = evaluate(read_ground_truth(gt), read_predictions(dt), PROTOCOLS["coco"])
    official = oracles.run_coco(annotations, json.loads(dt.read_text()))
    np.testing.assert_array_equal(ours.precision, official.eval["precision"])
    np.testing.assert_array_equal(ours.recall, official.eval["recall"])
    assert list(ours.metrics.values()) == oracles.statistics(official.stats)
