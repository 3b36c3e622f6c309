"""Arrays on custom axes against pycocotools and lvis-api with the same parameters."""

from __future__ import annotations

import contextlib
import copy
import io
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from ovd_bench.metrics.errors import DataError
from ovd_bench.metrics.evaluate import evaluate
from ovd_bench.metrics.grid import Grid, evaluate_grid
from ovd_bench.metrics.protocol import AREA_RANGES, IOU_THRESHOLDS, PROTOCOLS, RECALL_THRESHOLDS
from ovd_bench.tests import oracles
from ovd_bench.tests.metrics.small_sets import federated_sets, random_set

Json = dict[str, Any]
OFFICIAL = Grid(tuple(IOU_THRESHOLDS), tuple(RECALL_THRESHOLDS), AREA_RANGES, (1, 10, 100))
#: More and fewer of everything than one pass of the engine serves.
WIDE = Grid(
    iou_thresholds=(0.75, *np.linspace(0.05, 1, 20).tolist(), 0.5),
    recall_thresholds=tuple(np.linspace(0, 1, 205)),
    areas=(*AREA_RANGES, (0, 100), (50, 5000), (1e4, np.inf)),
    limits=(1, 2, 3, 5, 300),
)
NARROW = Grid((0.3,), (0.0, 0.5), ((0, 5000),), (2,))


def _official(annotations: Json, results: list[Json], grid: Grid) -> Any:
    with contextlib.redirect_stdout(io.StringIO()):
        gt = COCO()
        gt.dataset = copy.deepcopy(annotations)
        gt.createIndex()
        evaluator = COCOeval(gt, gt.loadRes(copy.deepcopy(results)), "bbox")
        evaluator.params.iouThrs = np.array(grid.iou_thresholds)
        evaluator.params.recThrs = np.array(grid.recall_thresholds)
        evaluator.params.areaRng = [list(area) for area in grid.areas]
        evaluator.params.maxDets = list(grid.limits)
        evaluator.evaluate()
        evaluator.accumulate()
    return evaluator.eval


def _assert_equal(annotations: Json, results: list[Json], grid: Grid) -> None:
    official = _official(annotations, results, grid)
    gt, dt = oracles.ground_truth(annotations), oracles.predictions(results)
    ours = evaluate_grid(gt, dt, PROTOCOLS["coco"], grid, want_scores=True)
    for name in ("precision", "recall", "scores"):
        np.testing.assert_array_equal(getattr(ours, name), official[name])


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(federated_sets(), st.sampled_from([OFFICIAL, WIDE, NARROW]))
def test_small_sets(data: tuple[Json, list[Json]], grid: Grid) -> None:
    _assert_equal(*data, grid)


@pytest.mark.parametrize("grid", [OFFICIAL, WIDE, NARROW])
def test_more_detections_than_a_byte_counts(grid: Grid) -> None:
    _assert_equal(*random_set(7, 6, 2, 700), grid)


def test_lvis_rules() -> None:
    annotations, results = random_set(8, 60, 9, 30, odd=True)
    official = oracles.run_lvis(annotations, results)
    gt, dt = oracles.ground_truth(annotations), oracles.predictions(results)
    ours = evaluate_grid(gt, dt, PROTOCOLS["lvis"], replace(OFFICIAL, limits=()), want_scores=True)
    np.testing.assert_array_equal(ours.precision[..., 0], official.eval["precision"])
    np.testing.assert_array_equal(ours.recall[..., 0], official.eval["recall"])
    assert ours.scores is not None
    assert ours.scores.shape == ours.precision.shape
    np.testing.assert_array_equal(ours.precision[..., 0], evaluate(gt, dt, PROTOCOLS["lvis"]).precision)


def test_areas_of_detections_may_be_given() -> None:
    annotations, results = random_set(9, 10, 1, 20)
    gt, dt = oracles.ground_truth(annotations), oracles.predictions(results)
    arrays = [
        evaluate_grid(gt, dt, PROTOCOLS["coco"], OFFICIAL, detection_area=area)
        for area in (None, dt.w * dt.h, np.full(len(dt), 1e9))
    ]
    np.testing.assert_array_equal(arrays[0].precision, arrays[1].precision)
    assert np.any(arrays[0].precision != arrays[2].precision)


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        ({"iou_thresholds": ()}, "iou_thresholds is empty"),
        ({"iou_thresholds": (np.nan,)}, "finite numbers are needed"),
        ({"recall_thresholds": (0.5, 0.1)}, "that do not decrease"),
        ({"recall_thresholds": (1.5,)}, "from 0 to 1"),
        ({"areas": ((0, np.nan),)}, "a bound of areas is NaN"),
        ({"limits": (0, 1)}, "from 1 up"),
        ({"limits": (10, 1)}, "do not decrease"),
    ],
)
def test_grids_that_mean_nothing(wrong: dict[str, Any], words: str) -> None:
    with pytest.raises(DataError, match=words):
        replace(OFFICIAL, **wrong)
