"""COCO's protocol with changed parameters: numbers as pycocotools gives them, names that state the change."""

from __future__ import annotations

import contextlib
import copy
import io
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from ovd_bench.metrics.bootstrap import bootstrap
from ovd_bench.metrics.comparison import compare
from ovd_bench.metrics.departure import departed, departure_text, is_protocol, protocol_named
from ovd_bench.metrics.errors import DataError
from ovd_bench.metrics.evaluate import evaluate
from ovd_bench.metrics.pooled import pooled_ap
from ovd_bench.metrics.presence import presence
from ovd_bench.metrics.protocol import AREA_RANGES, IOU_THRESHOLDS, PROTOCOLS, Protocol
from ovd_bench.tests import oracles
from ovd_bench.tests.metrics.small_sets import federated_sets, random_set

Json = dict[str, Any]
Change = tuple[str | None, str | None, tuple[str, ...]]
OPTIONS: list[Change] = [
    ("1,10,300", None, ()),
    ("2,3,5", None, ()),
    (None, "0.5", ()),
    (None, "0.75", ()),
    (None, "0.3:0.7:0.1", ()),
    (None, "0.1,0.6,1", ()),
    (None, None, ("small=0:16^2", "medium=16^2:96^2")),
    (None, None, ("large=50:",)),
    ("1,2,4", "0.5,0.55,0.75", ("small=0:64,medium=64:2000,large=2000:1e4",)),
]
NAMES = ("AP", "AP50", "AP75", "APs", "APm", "APl", "AR@{}", "AR@{}", "AR@{}", "ARs@{}", "ARm@{}", "ARl@{}")


def protocol_of(change: Change) -> Protocol:
    max_dets, iou, areas = change
    name = departed("coco", max_dets, iou, areas)
    assert name is not None
    return protocol_named(name)


def official(annotations: Json, results: list[Json], protocol: Protocol) -> Any:
    with contextlib.redirect_stdout(io.StringIO()):
        gt = COCO()
        gt.dataset = copy.deepcopy(annotations)
        gt.createIndex()
        evaluator = COCOeval(gt, gt.loadRes(copy.deepcopy(results)), "bbox")
        evaluator.params.iouThrs = np.array(protocol.iou_thresholds)
        evaluator.params.areaRng = [list(area) for area in protocol.area_ranges]
        evaluator.params.maxDets = list(protocol.max_dets)
        evaluator.evaluate()
        evaluator.accumulate()
        if len(protocol.max_dets) == 3:
            evaluator.summarize()
    return evaluator


def check(annotations: Json, results: list[Json], protocol: Protocol) -> None:
    theirs = official(annotations, results, protocol)
    ours = evaluate(oracles.ground_truth(annotations), oracles.predictions(results), protocol)
    np.testing.assert_array_equal(ours.precision, theirs.eval["precision"])
    np.testing.assert_array_equal(ours.recall, theirs.eval["recall"])
    limits = [*protocol.max_dets, *[protocol.max_dets[-1]] * 3]
    names = [name.format(limit) for name, limit in zip(NAMES, [0] * 6 + limits, strict=True)]
    stats = dict(zip(names, oracles.statistics(theirs.stats), strict=True))
    # summarize() looks for the limit 100 in AP alone; the array has the limit that was asked for
    plane = theirs.eval["precision"][:, :, :, 0, -1]
    stats["AP"] = float(np.mean(plane[plane > -1])) if np.any(plane > -1) else None
    for name, threshold in (("AP50", 0.5), ("AP75", 0.75)):
        assert (name in ours.metrics) is (threshold in protocol.iou_thresholds)
        if name not in ours.metrics:
            assert stats.pop(name) is None
    assert ours.metrics == stats


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(federated_sets(), st.sampled_from(OPTIONS))
def test_small_sets_are_scored_as_by_pycocotools(data: tuple[Json, list[Json]], change: Change) -> None:
    check(*data, protocol_of(change))


@pytest.mark.parametrize("change", OPTIONS)
def test_many_detections_are_scored_as_by_pycocotools(change: Change) -> None:
    check(*random_set(7, 8, 3, 400), protocol_of(change))


@pytest.mark.parametrize("max_dets", ["7", "1,300"])
def test_fewer_than_three_limits(max_dets: str) -> None:
    annotations, results = random_set(3, 8, 3, 200)
    protocol = protocol_of((max_dets, None, ()))
    theirs = official(annotations, results, protocol)
    ours = evaluate(oracles.ground_truth(annotations), oracles.predictions(results), protocol)
    np.testing.assert_array_equal(ours.precision, theirs.eval["precision"])
    np.testing.assert_array_equal(ours.recall, theirs.eval["recall"])
    assert f"AR@{protocol.max_dets[-1]}" in ours.metrics


@pytest.mark.parametrize("change", OPTIONS)
def test_the_bootstrap_resamples_the_changed_statistics(change: Change) -> None:
    annotations, results = random_set(5, 30, 4, 40)
    gt, dt, protocol = oracles.ground_truth(annotations), oracles.predictions(results), protocol_of(change)
    made = evaluate(gt, dt, protocol, keep_records=True)
    drawn = bootstrap(gt, made, np.ones((2, gt.num_images), np.uint8), per_class=True)
    assert {"AP", "APs", "APm", "APl"} <= {*drawn.estimates, *(k for k, v in made.metrics.items() if v is None)}
    for name, estimate in drawn.estimates.items():
        assert estimate.value == made.metrics[name]
        np.testing.assert_allclose(estimate.samples, estimate.value, rtol=1e-12)
        assert np.nanmean(estimate.classes.values) == pytest.approx(estimate.value, abs=1e-9)
    assert drawn.per_class_ap is not None
    np.testing.assert_allclose(drawn.per_class_ap[0], made.per_class_ap, rtol=1e-6)
    with pytest.raises(DataError, match="under one protocol"):
        compare(gt, made, evaluate(gt, dt, PROTOCOLS["coco"], keep_records=True), resamples=2)


def test_other_statistics_keep_their_iou() -> None:
    annotations, results = random_set(6, 20, 4, 30)
    gt, dt = oracles.ground_truth(annotations), oracles.predictions(results)
    strict = protocol_of((None, "0.9", ()))
    usual = presence(gt, dt, PROTOCOLS["coco"], None)
    assert presence(gt, dt, strict, None).metrics == usual.metrics
    half, both = (
        pooled_ap(evaluate(gt, dt, protocol_of((None, iou, ())), keep_records=True), dt) for iou in ("0.5", "0.5,0.9")
    )
    assert half["APpool"] == half["APpool50"] == both["APpool50"]
    only = pooled_ap(evaluate(gt, dt, strict, keep_records=True), dt)
    assert only["APpool50"] is None
    assert only["APpool"] is not None
    assert half["APpool"] is not None
    assert both["APpool"] == pytest.approx((half["APpool"] + only["APpool"]) / 2)


@pytest.mark.parametrize("change", OPTIONS)
def test_a_name_states_the_whole_change(change: Change) -> None:
    protocol = protocol_of(change)
    assert protocol.name != "coco"
    assert protocol_named(protocol.name) == protocol
    assert departure_text(protocol)
    assert set(protocol.as_dict()) >= set(PROTOCOLS["coco"].as_dict())
    assert not set(protocol.name) - set("abcdefghijklmnopqrstuvwxyz0123456789._-")  # a folder, a word of the shell


def test_changes_have_different_names() -> None:
    assert len({protocol_of(change).name for change in OPTIONS}) == len(OPTIONS)


thresholds = st.lists(st.integers(1, 1000), min_size=1, max_size=10, unique=True).map(sorted)
ranges = st.lists(st.integers(0, 10**5), min_size=2, max_size=2, unique=True).map(sorted)


@given(
    st.lists(st.integers(1, 10**6), min_size=1, max_size=3, unique=True).map(sorted),
    thresholds,
    st.dictionaries(st.sampled_from(["small", "medium", "large"]), ranges),
)
def test_every_change_survives_its_name(limits: list[int], steps: list[int], areas: dict[str, list[int]]) -> None:
    asked = [f"{size}={low / 8}:{high / 8}" for size, (low, high) in areas.items()]
    protocol = protocol_of((",".join(map(str, limits)), ",".join(str(step / 1000) for step in steps), tuple(asked)))
    assert protocol_named(protocol.name) == protocol
    assert protocol.max_dets == tuple(limits)
    np.testing.assert_allclose(protocol.iou_thresholds, np.array(steps) / 1000)
    for size, (low, high) in areas.items():
        assert protocol.area_ranges[("all", "small", "medium", "large").index(size)] == (low / 8, high / 8)


def test_a_change_to_what_is_usual_is_coco() -> None:
    usual = ("small=0:32^2, medium=32^2:96^2", "large=96^2:")
    assert departed("coco", "1,10,100", "0.5:0.95:0.05", usual) == "coco"
    assert departed("coco", None, ",".join(map(str, IOU_THRESHOLDS.tolist()))) == "coco"
    for name in (None, "coco", "lvis", "no such protocol"):
        assert departed(name) == name
    assert departure_text(PROTOCOLS["coco"]) == departure_text(PROTOCOLS["lvis"]) == ""
    assert PROTOCOLS["coco"].area_ranges == AREA_RANGES
    assert not {"iou", "areas"} & set(PROTOCOLS["coco"].as_dict())


@pytest.mark.parametrize(
    ("option", "wrong"),
    [
        *(
            ("--max-dets", text)
            for text in ("", "0,10", "10,1", "5,5", "1,2,3,4", "nan", "1.5", "-1", "9" * 12, "1,,2")
        ),
        *(("--iou", text) for text in ("", "nan", "0.9,0.5", "0.5,0.5", "0", "1.1", "-0.5", "inf", "0.5,", "half")),
        *(("--iou", text) for text in ("0.5:0.95", "0.5:0.95:0", "0.5:0.9:0.3", "0.9:0.5:0.1", "nan:1:0.1", ":::")),
        *(("--iou", text) for text in ("0.01:1:0.01", "0.5:1:1e-300", "0.5:0.95:nan", "0:0.9:0.1", "0.5:inf:0.1")),
        *(("--area", text) for text in ("", "small", "small=", "small=5", "tiny=0:9", "all=0:9", "small=9:0")),
        *(("--area", text) for text in ("small=nan:9", "small=-1:9", "small=3:3", "small=0:1e99", "large=1e999:")),
        ("--area", "small=0:9,small=0:8"),
    ],
)
def test_nonsense_is_refused_in_one_line(option: str, wrong: str) -> None:
    change = {"--max-dets": (wrong, None, ()), "--iou": (None, wrong, ()), "--area": (None, None, (wrong,))}[option]
    with pytest.raises(DataError) as caught:
        departed("coco", *change)
    assert str(caught.value).startswith(option)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("change", [("1,2,3", None, ()), (None, "0.5", ()), (None, None, ("small=0:9",))])
@pytest.mark.parametrize("name", [None, "lvis", "lvis-fixed", "grounding-recall", "coco_dets-5"])
def test_only_coco_is_changed(name: str | None, change: Change) -> None:
    with pytest.raises(DataError, match="changes COCO's protocol"):
        departed(name, *change)


MISSPELT = """
coco_ coco_dets coco_dets- coco_dets-1-10-100 coco_dets-010 coco_dets-3-2 coco_dets-5_dets-5 lvis_dets-5 COCO
coco_iou-0.50 coco_iou-nan coco_iou-0.5-0.5 coco_iou-0.5_dets-5 coco_iou-1_small-inf-inf
coco_tiny-0-9 coco_small-9 coco_small-0-1024 coco_small-1e1-2e1
"""


@pytest.mark.parametrize("name", ["", *MISSPELT.split()])
def test_names_that_are_not_written_so_are_no_protocols(name: str) -> None:
    assert not is_protocol(name)
    with pytest.raises(DataError, match="unknown protocol"):
        protocol_named(name)
