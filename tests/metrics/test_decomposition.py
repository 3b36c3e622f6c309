"""Error decomposition: against tidecv and hotcoco, and on cases whose errors are known by construction."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

import hotcoco
import numpy as np
import pytest
from tidecv import TIDE, Data
from tidecv.errors.main_errors import (
    BackgroundError,
    BoxError,
    ClassError,
    DuplicateError,
    FalsePositiveError,
    MissedError,
    OtherError,
)

from ovd_bench.metrics import decomposition
from ovd_bench.metrics.decomposition import ERRORS, ORACLES, decompose
from ovd_bench.metrics.evaluate import evaluate
from ovd_bench.metrics.protocol import PROTOCOLS, Protocol
from ovd_bench.tests.metrics.diagnosis_sets import random_set, real_federated_set
from ovd_bench.tests.metrics.semantic_sets import ground_truth_of, predictions_of
from ovd_bench.tests.oracles import ground_truth, predictions

Json = dict[str, Any]

TIDE_NAMES = dict(
    zip(ERRORS, (ClassError, BoxError, OtherError, DuplicateError, BackgroundError, MissedError), strict=True)
)
COCO = PROTOCOLS["coco"]
LVIS = PROTOCOLS["lvis"]


def run_tide(annotations: Json, results: list[Json], max_dets: int = 10**9, leave_out_excused: bool = True) -> Any:
    """Run tidecv on the detections that count: those it excuses itself (crowd, not exhaustive) are left out."""
    for _ in range(2 if leave_out_excused else 1):
        gt, found = Data("gt", max_dets=max_dets), Data("found", max_dets=max_dets)
        for image in annotations["images"]:
            gt.add_image(image["id"], "")
            found.add_image(image["id"], "")
            for label in image.get("not_exhaustive_category_ids", ()):
                gt.add_ignore_region(image["id"], label)
        for a in annotations["annotations"]:
            add = gt.add_ignore_region if a["iscrowd"] else gt.add_ground_truth
            add(a["image_id"], a["category_id"], a["bbox"])
        for r in results:
            found.add_detection(r["image_id"], r["category_id"], r["score"], r["bbox"])
        run = TIDE().evaluate(gt, found, mode=TIDE.BOX)
        results = [r for r, p in zip(results, run.preds.annotations, strict=True) if p.get("used", False) is not None]
    return run


def tide_class_aps(run: Any, oracle: str) -> dict[int, float]:
    """AP per category id after an oracle; categories without ground truth and detections are not in it."""
    if oracle == "none":
        data = run.ap_data
    elif oracle == "fp":
        data = run.fix_errors(transform=FalsePositiveError.fix)
    elif oracle == "fn":
        data = run.fix_errors(false_neg_dict=run.false_negatives)
    else:
        data = run.fix_errors(lambda error: isinstance(error, TIDE_NAMES[oracle]))
    return {label: ap.get_ap() / 100 for label, ap in data.objs.items() if not ap.is_empty()}


def assert_equals_tide(annotations: Json, results: list[Json], protocol: Protocol, counted: list[Json]) -> None:
    """Same counts, same AP of every class after every oracle; ``counted`` are the results that take part."""
    run = run_tide(annotations, counted)
    gt = ground_truth(annotations)
    result = decompose(gt, predictions(results), protocol)
    assert result.overall.counts == {kind: len(run.error_dict[error]) for kind, error in TIDE_NAMES.items()}

    with_truth = {a["category_id"] for a in annotations["annotations"] if not a["iscrowd"]}
    for oracle in ("none", *ORACLES):
        reference = tide_class_aps(run, oracle)
        for label, ap in zip(gt.categories.ids.tolist(), result.class_ap50[oracle], strict=True):
            if label not in with_truth:
                assert np.isnan(ap)
            elif label in reference:
                assert ap == pytest.approx(reference[label], abs=1e-9), (oracle, label)
            else:  # nothing left to find and nothing found: tidecv drops the class
                assert oracle in ("miss", "fn")
                assert ap == 1.0


def verified_only(annotations: Json, results: list[Json]) -> list[Json]:
    verified = {(a["image_id"], a["category_id"]) for a in annotations["annotations"]}
    verified |= {(image["id"], label) for image in annotations["images"] for label in image["neg_category_ids"]}
    return [r for r in results if (r["image_id"], r["category_id"]) in verified]


@pytest.fixture
def tide_recall_levels(monkeypatch: pytest.MonkeyPatch) -> None:
    """Recall levels of tidecv: i / 100 differs from linspace(0, 1, 101) in the last bit of some."""
    monkeypatch.setattr(decomposition, "RECALL_THRESHOLDS", np.arange(101) / 100)


@pytest.mark.usefixtures("tide_recall_levels")
@pytest.mark.parametrize("seed", range(8))
def test_equals_tidecv_on_random_sets(seed: int) -> None:
    annotations, results = random_set(seed, classes=1 + seed % 6, crowd=0.2 * (seed % 2))
    assert_equals_tide(annotations, results, COCO, results)


@pytest.mark.usefixtures("tide_recall_levels")
@pytest.mark.parametrize("seed", range(8))
def test_equals_tidecv_on_verified_detections_of_federated_sets(seed: int) -> None:
    annotations, results = random_set(seed, classes=3 + 2 * (seed % 6), federated=True)
    counted = verified_only(annotations, results)
    assert 0 < len(counted) < len(results)
    assert_equals_tide(annotations, results, LVIS, counted)


@pytest.mark.usefixtures("tide_recall_levels")
def test_equals_tidecv_on_real_federated_annotations(real_data: Path) -> None:
    annotations, results = real_federated_set(real_data)
    assert_equals_tide(annotations, results, LVIS, verified_only(annotations, results))


@pytest.mark.usefixtures("tide_recall_levels")
def test_equals_tidecv_on_real_files(real_data: Path) -> None:
    annotations = json.loads((real_data / "faster_coco_eval/instances_val2014_100.json").read_text())
    results = json.loads((real_data / "cocoapi/instances_val2014_fakebbox100_results.json").read_text())
    for row, result in enumerate(results):
        result["score"] -= row * 1e-9  # tidecv orders equal scores its own way after an oracle
    assert_equals_tide(annotations, results, COCO, results)


@pytest.mark.usefixtures("tide_recall_levels")
def test_relation_to_the_mean_of_tidecv() -> None:
    annotations, results = random_set(3, classes=4)
    annotations["categories"].append({"id": 5, "name": "absent"})
    results.append({"image_id": 1, "category_id": 5, "bbox": [0, 0, 5, 5], "score": 0.5})
    run, result = run_tide(annotations, results), decompose(ground_truth(annotations), predictions(results), COCO)
    assert result.overall.ap50 is not None
    assert run.ap / 100 == pytest.approx(result.overall.ap50 * 4 / 5)  # tidecv counts the absent class as AP 0
    both = result.overall.delta_ap["both"]
    assert both is not None
    assert run.fix_main_errors()[OtherError] / 100 == pytest.approx(both * 4 / 5)


@pytest.mark.parametrize("seed", range(4))
def test_equals_hotcoco_without_crowd(seed: int, tmp_path: Path) -> None:
    annotations, results = random_set(seed)
    for name, document in (("gt", annotations), ("dt", results)):
        (tmp_path / f"{name}.json").write_text(json.dumps(document))
    gt = hotcoco.COCO(str(tmp_path / "gt.json"))
    evaluator = hotcoco.COCOeval(gt, gt.load_res(str(tmp_path / "dt.json")), "bbox")
    evaluator.evaluate()
    reference = evaluator.tide_errors()
    overall = decompose(ground_truth(annotations), predictions(results), COCO).overall
    assert {kind.lower(): count for kind, count in reference["counts"].items()} == overall.counts
    assert {name.lower(): gain for name, gain in reference["delta_ap"].items()} == pytest.approx(overall.delta_ap)


@pytest.mark.parametrize("federated", [False, True])
def test_base_is_the_official_ap50(federated: bool) -> None:
    annotations, results = random_set(5, federated=federated, crowd=0.0 if federated else 0.2)
    gt, found, protocol = ground_truth(annotations), predictions(results), LVIS if federated else COCO
    ap50 = decompose(gt, found, protocol).overall.ap50
    assert ap50 == pytest.approx(evaluate(gt, found, protocol).metrics["AP50"], abs=1e-14)


def test_one_error_of_each_kind() -> None:
    gt = ground_truth_of(
        [(0, 0, 0, 0, 10, 10), (0, 1, 100, 0, 10, 10), (0, 0, 200, 0, 10, 10), (0, 0, 300, 0, 10, 10)], 1, ["a", "b"]
    )
    found = predictions_of(
        [
            (0, 0, 0.9, 0, 0, 10, 10),  # right
            (0, 0, 0.8, 0, 0, 10, 9),  # dupe
            (0, 0, 0.7, 100, 0, 10, 10),  # cls: is b
            (0, 0, 0.6, 200, 6, 10, 10),  # loc: IoU 0.25
            (0, 1, 0.5, 200, 6, 10, 10),  # both
            (0, 1, 0.4, 400, 0, 10, 10),  # bkg
        ]
    )
    result = decompose(gt, found, COCO)
    assert [ERRORS[code] for code in result.detection_error[1:]] == ["dupe", "cls", "loc", "both", "bkg"]
    assert result.detection_error[0] == -1
    assert result.overall.counts == dict.fromkeys(ERRORS, 1)
    assert result.missed.tolist() == [False, False, False, True]
    # class a: TP, FP, FP, FP of 3; class b: FP, FP of 1
    share = 34 / 101  # recall levels up to 1/3
    assert result.class_ap50["none"].tolist() == pytest.approx([share, 0])
    assert result.class_ap50["cls"].tolist() == pytest.approx([share, 1])
    assert result.class_ap50["loc"].tolist() == pytest.approx([share + 33 / 101 * 2 / 4, 0])
    assert result.class_ap50["miss"].tolist() == pytest.approx([51 / 101, 0])
    assert result.class_ap50["fn"].tolist() == pytest.approx([1, 0])


def test_two_errors_at_one_object_are_mended_once() -> None:
    gt = ground_truth_of([(0, 0, 0, 0, 10, 10)], 1, ["a", "b"])
    found = predictions_of([(0, 1, 0.4, 0, 0, 10, 10), (0, 1, 0.6, 0, 0, 10, 10), (0, 0, 0.5, 0, 6, 10, 10)])
    result = decompose(gt, found, COCO)
    assert result.overall.counts == {"cls": 2, "loc": 1, "both": 0, "dupe": 0, "bkg": 0, "miss": 0}
    # cls: the better one becomes class a at score 0.6, before the false positive; loc: a cls error points there too
    assert result.overall.delta_ap["cls"] == pytest.approx(1)
    assert result.overall.delta_ap["loc"] == 0


def test_confusion_goes_before_duplicate() -> None:
    gt = ground_truth_of([(0, 0, 0, 0, 10, 10), (0, 1, 0, 0, 10, 8)], 1, ["a", "b"])
    found = predictions_of([(0, 0, 0.9, 0, 0, 10, 10), (0, 0, 0.8, 0, 0, 10, 10)])
    counts = decompose(gt, found, COCO).overall.counts
    assert (counts["cls"], counts["dupe"]) == (1, 0)


def federated_truth() -> Json:
    def annotation(row: int, label: int, x: float) -> Json:
        return {"id": row, "image_id": 1, "category_id": label, "bbox": [x, 0, 10, 10], "area": 100, "iscrowd": 0}

    return {
        "images": [{"id": 1, "neg_category_ids": [3], "not_exhaustive_category_ids": [2]}],
        "annotations": [annotation(1, 1, 0), annotation(2, 2, 100)],
        "categories": [{"id": c, "name": str(c), "frequency": "rccf"[c - 1]} for c in (1, 2, 3, 4)],
    }


def result_at(label: int, x: float, score: float, width: float = 10) -> Json:
    return {"image_id": 1, "category_id": label, "bbox": [x, 0, width, 10], "score": score}


def test_an_unverified_name_is_no_naming_error() -> None:
    gt = ground_truth(federated_truth())
    found = predictions([result_at(4, 0, 0.9), result_at(2, 100, 0.8)])
    result = decompose(gt, found, LVIS)
    assert result.overall.counts == {"cls": 0, "loc": 0, "both": 0, "dupe": 0, "bkg": 0, "miss": 1}
    assert result.detection_error.tolist() == [-1, -1]


def test_a_verified_absent_name_is_a_naming_error() -> None:
    gt = ground_truth(federated_truth())
    result = decompose(gt, predictions([result_at(3, 0, 0.9), result_at(2, 100, 0.8)]), LVIS)
    assert result.overall.counts == {"cls": 1, "loc": 0, "both": 0, "dupe": 0, "bkg": 0, "miss": 0}
    assert result.overall.delta_ap["cls"] == pytest.approx(0.5)  # class 1 is found, class 2 was right already
    assert result.by_frequency["r"].delta_ap["cls"] == pytest.approx(1)  # the gain is where the object is …
    assert result.by_frequency["c"].counts["cls"] == 1  # … the error where the detection is
    assert result.by_frequency["f"].ap50 is None
    assert result.metrics["tide/dAP_cls_f"] is None
    assert result.metrics["tide/count_cls_c"] == 1


def test_what_the_protocol_excuses_or_drops_is_no_error() -> None:
    gt = ground_truth(federated_truth())
    not_exhaustive, no_area = result_at(2, 50, 0.9), result_at(3, 0, 0.9, width=0)
    result = decompose(gt, predictions([not_exhaustive, no_area, result_at(1, 0, 0.5)]), LVIS)
    assert result.overall.counts == {"cls": 0, "loc": 0, "both": 0, "dupe": 0, "bkg": 0, "miss": 1}


def test_the_cap_comes_first() -> None:
    gt = ground_truth(federated_truth())
    found = predictions([result_at(4, 50, 0.9), result_at(3, 50, 0.5), result_at(1, 0, 0.4)])
    assert decompose(gt, found, LVIS).overall.counts["bkg"] == 1
    capped = decompose(gt, found, Protocol("two", "lvis", image_cap=2)).overall.counts
    assert (capped["bkg"], capped["miss"]) == (1, 2)
    assert decompose(gt, found, Protocol("one", "lvis", image_cap=1)).overall.counts["bkg"] == 0


def test_ground_truth_as_predictions_has_no_errors() -> None:
    rows = [(0, k % 2, 20 * k, 0, 10, 10) for k in range(102)]
    gt = ground_truth_of(rows, 1, ["a", "b"])
    found = predictions_of([(i, c, 1 - 0.001 * k, *box) for k, (i, c, *box) in enumerate(rows)])
    result = decompose(gt, found, COCO)
    assert result.overall.counts == dict.fromkeys(ERRORS, 0)
    assert result.overall.ap50 == pytest.approx(1)
    assert result.overall.delta_ap == pytest.approx(dict.fromkeys(ORACLES, 0), abs=1e-12)
    # tidecv cuts at 100 detections per image over all classes and calls the rest missed
    annotations: Json = {
        "images": [{"id": 10}],
        "annotations": [{"image_id": 10, "category_id": c + 1, "bbox": box, "iscrowd": 0} for _, c, *box in rows],
    }
    results = [{**a, "score": 1 - 0.001 * k} for k, a in enumerate(annotations["annotations"])]
    assert len(run_tide(annotations, results, max_dets=100).error_dict[MissedError]) == 2


def test_a_detection_in_a_crowd_is_no_error() -> None:
    annotations, results = random_set(0, crowd=0.3)
    counts = decompose(ground_truth(annotations), predictions(results), COCO).overall.counts
    everything = run_tide(annotations, results, leave_out_excused=False)
    excused = [error for error in everything.errors if hasattr(error, "pred") and error.pred["used"] is None]
    assert len(excused) > 0  # tidecv counts them as errors, though they cost nothing
    assert sum(counts.values()) == len(everything.errors) - len(excused)


def test_a_silent_detector_only_misses() -> None:
    gt = ground_truth_of([(0, 0, 0, 0, 10, 10), (0, 1, 0, 0, 10, 10)], 1, ["a", "b"])
    result = decompose(gt, predictions_of([]), COCO)
    assert result.overall.counts["miss"] == 2
    assert result.overall.delta_ap == {**dict.fromkeys(ORACLES, 0.0), "miss": 1.0, "fn": 1.0}


def test_a_shotgun_labeller_is_exposed_as_misnaming() -> None:
    boxes = [(image, 20 * k, 0, 10, 10) for image in range(6) for k in range(3)]
    gt = ground_truth_of([(i, (i + x) % 5, x, y, w, h) for i, x, y, w, h in boxes], 6, list("abcde"))
    found = predictions_of([(i, c, 0.5, x, y, w, h) for i, x, y, w, h in boxes for c in range(5)])
    result = decompose(gt, found, COCO)
    assert result.overall.counts == {"cls": 18 * 4, "loc": 0, "both": 0, "dupe": 0, "bkg": 0, "miss": 0}
    assert result.overall.ap50 is not None
    assert result.overall.ap50 < 0.5
    assert result.overall.delta_ap["cls"] == pytest.approx(1 - result.overall.ap50)


@pytest.mark.parametrize("federated", [False, True])
def test_order_of_records_does_not_matter(federated: bool) -> None:
    annotations, results = random_set(8, federated=federated)
    gt, found, protocol = ground_truth(annotations), predictions(results), LVIS if federated else COCO
    order = np.random.default_rng(0).permutation(len(results))
    first, second = decompose(gt, found, protocol), decompose(gt, found.take(order), protocol)
    assert first.metrics == second.metrics
    assert first.detection_error[order].tolist() == second.detection_error.tolist()
    assert Counter(first.detection_error.tolist()).keys() == {-1, 0, 1, 2, 3, 4}


def test_no_ground_truth_is_undefined() -> None:
    result = decompose(ground_truth_of([], 1, ["a"]), predictions_of([(0, 0, 0.5, 0, 0, 1, 1)]), COCO)
    assert result.overall.ap50 is None
    assert set(result.overall.delta_ap.values()) == {None}
    assert result.overall.counts["bkg"] == 1
