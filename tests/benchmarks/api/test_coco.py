"""``ovd_bench.coco`` in place of pycocotools: the same programs, statistics and arrays."""

from __future__ import annotations

import contextlib
import copy
import io
import json
import pickle
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pycocotools.coco
import pycocotools.cocoeval
import pytest
from hypothesis import HealthCheck, given, settings

import ovd_bench.coco
from ovd_bench.metrics.errors import DataError
from ovd_bench.tests.metrics.small_sets import federated_sets, random_set

Json = dict[str, Any]
THEIRS = SimpleNamespace(COCO=pycocotools.coco.COCO, COCOeval=pycocotools.cocoeval.COCOeval)
OURS = ovd_bench.coco
BOX = [10.0, 10.0, 100.0, 100.0]


def _loaded(module: Any, annotations: Json) -> Any:
    gt = module.COCO()
    gt.dataset = copy.deepcopy(annotations)
    gt.createIndex()
    return gt


def _evaluated(
    module: Any, annotations: Json, results: Any, change: Callable[[Any], None] = lambda params: None
) -> tuple[Any, list[str]]:
    """An evaluator that went all the way, and the lines of its summary."""
    with contextlib.redirect_stdout(io.StringIO()) as printed:
        gt = _loaded(module, annotations)
        evaluator = module.COCOeval(gt, gt.loadRes(copy.deepcopy(results)), "bbox")
        change(evaluator.params)
        evaluator.evaluate()
        evaluator.accumulate()
        evaluator.summarize()
    return evaluator, [line for line in printed.getvalue().splitlines() if "@[" in line]


def _assert_same(annotations: Json, results: Any, change: Callable[[Any], None] = lambda params: None) -> Any:
    theirs, their_lines = _evaluated(THEIRS, annotations, results, change)
    ours, our_lines = _evaluated(OURS, annotations, results, change)
    for name in ("precision", "recall", "scores"):
        np.testing.assert_array_equal(ours.eval[name], theirs.eval[name])
    np.testing.assert_allclose(ours.stats, theirs.stats, rtol=0, atol=1e-12)
    assert our_lines == their_lines
    assert len(our_lines) == 12
    assert list(ours.eval["counts"]) == list(theirs.eval["counts"])
    return ours


@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(federated_sets())
def test_small_sets(data: tuple[Json, list[Json]]) -> None:
    _assert_same(*data)


CHANGES: dict[str, Json] = {
    "nothing": {},
    "images, one of them unknown": {"imgIds": [0, 3, 5, 8, 8, 20, 21, 10**9]},
    "classes, one of them unknown": {"catIds": [4, 2, 2, 77]},
    "no classes": {"useCats": 0},
    "some classes as one": {"useCats": 0, "catIds": [5, 1]},
    "one IoU": {"iouThrs": np.array([0.5])},
    "many IoUs": {"iouThrs": np.linspace(0.1, 1.0, 19)},
    "IoUs out of order": {"iouThrs": np.array([0.75, 0.3, 0.5])},
    "one limit more": {"maxDets": [1, 10, 100, 300]},
    "other limits": {"maxDets": [1000, 100, 300]},
    "recalls": {"recThrs": [0.0, 0.1, 0.9]},
    "many recalls": {"recThrs": np.linspace(0, 1, 1001)},
    "areas": {"areaRng": [[0, 1e10], [0, 64**2], [64**2, 1e10], [0, 10]], "areaRngLbl": ["all", "small", "big", "dot"]},
    "six areas": {"areaRng": [[0, 1e10]] + [[0, 1e3 * k] for k in range(1, 6)], "areaRngLbl": ["all", "small"]},
}


@pytest.mark.parametrize("name", CHANGES)
@pytest.mark.parametrize("odd", [False, True])
def test_parameters(name: str, odd: bool) -> None:
    def change(params: Any) -> None:
        for key, value in CHANGES[name].items():
            setattr(params, key, copy.deepcopy(value))

    annotations, results = random_set(11, 30, 6, 40, odd=odd)
    _assert_same(annotations, results, change)


def test_recall_thresholds_may_change_after_matching() -> None:
    annotations, results = random_set(12, 10, 2, 20)
    ours, theirs = (_evaluated(module, annotations, results)[0] for module in (OURS, THEIRS))
    for one in (ours, theirs):
        one.params.recThrs = np.linspace(0, 1, 11)
        with contextlib.redirect_stdout(io.StringIO()):
            one.accumulate()
    assert ours.eval["params"] is ours.params
    np.testing.assert_array_equal(ours.eval["precision"], theirs.eval["precision"])


def test_real_coco(real_data: Path) -> None:
    annotations = json.loads((real_data / "faster_coco_eval" / "instances_val2014_100.json").read_bytes())
    results = json.loads((real_data / "cocoapi" / "instances_val2014_fakebbox100_results.json").read_bytes())
    ours = _assert_same(annotations, results)
    assert f"{ours.stats[0]:.3f}" == "0.505"


def test_forms_of_results(tmp_path: Path) -> None:
    annotations, results = random_set(13, 10, 3, 20)
    array = np.array([[r["image_id"], *r["bbox"], r["score"], r["category_id"]] for r in results])
    path = tmp_path / "results.json"
    path.write_text(json.dumps(results))
    singles = [{**r, "bbox": list(np.array(r["bbox"], np.float32))} for r in results]
    for form in (results, array, array.astype(np.float32), str(path), singles):
        _assert_same(annotations, form)
    stats = [_evaluated(OURS, annotations, form)[0].stats for form in (results, array, path, tuple(results))]
    assert all(np.array_equal(stats[0], other) for other in stats)


def test_results_of_ones_own_with_areas_of_their_own() -> None:
    """Trainers fill two data sets by hand; areas are theirs then."""
    annotations, results = random_set(14, 20, 3, 20)
    found = {**annotations, "annotations": [{**r, "id": k + 1, "area": 500.0 * (k % 7)} for k, r in enumerate(results)]}
    evaluators = []
    for module in (OURS, THEIRS):
        with contextlib.redirect_stdout(io.StringIO()):
            evaluator = module.COCOeval(_loaded(module, annotations), _loaded(module, found), iouType="bbox")
            evaluator.evaluate()
            evaluator.accumulate()
            evaluator.summarize()
        evaluators.append(evaluator)
    np.testing.assert_array_equal(evaluators[0].eval["precision"], evaluators[1].eval["precision"])
    np.testing.assert_array_equal(evaluators[0].stats, evaluators[1].stats)


def test_objects_of_pycocotools_are_evaluated() -> None:
    annotations, results = random_set(15, 10, 3, 20)
    theirs, _ = _evaluated(THEIRS, annotations, results)
    ours = OURS.COCOeval(theirs.cocoGt, theirs.cocoDt, "bbox")
    ours.evaluate()
    ours.accumulate()
    np.testing.assert_array_equal(ours.eval["precision"], theirs.eval["precision"])


def test_no_results() -> None:
    annotations, _ = random_set(16, 5, 2, 3)
    for results in (OURS.COCO(), _loaded(OURS, annotations).loadRes([])):
        evaluator = OURS.COCOeval(_loaded(OURS, annotations), results, "bbox")
        evaluator.evaluate()
        evaluator.accumulate()
        evaluator.summarize()
        assert evaluator.stats[0] == 0


def _step_by_step(evaluator: Any) -> list[Any]:
    """A custom ``evaluate``, as the evaluators of DETR and its successors have it."""
    p = evaluator.params
    evaluator._prepare()
    classes = p.catIds if p.useCats else [-1]
    evaluator.ious = {(image, k): evaluator.computeIoU(image, k) for image in p.imgIds for k in classes}
    entries = [
        evaluator.evaluateImg(image, k, area, p.maxDets[-1])
        for k in classes
        for area in p.areaRng
        for image in p.imgIds
    ]
    evaluator._paramsEval = copy.deepcopy(p)
    return entries


def _in_batches(
    module: Any, annotations: Json, results: list[Json], use_cats: int = 1, *, step_by_step: bool = False
) -> Any:
    """As detection trainers do: each process evaluates its batches, one gathers and accumulates."""
    images = sorted(image["id"] for image in annotations["images"])
    gt = _loaded(module, annotations)
    ids: list[int] = []
    parts = []
    evaluator = module.COCOeval(gt, iouType="bbox")
    evaluator.params.useCats = use_cats
    for batch in (images[:7], images[7:8], images[4:9], images[9:]):  # some images twice, as samplers do
        found = [result for result in copy.deepcopy(results) if result["image_id"] in batch]
        evaluator.cocoDt = module.COCO.loadRes(gt, found) if found else module.COCO()
        evaluator.params.imgIds = list(batch)
        if step_by_step:
            entries = _step_by_step(evaluator)
        else:
            evaluator.evaluate()
            entries = evaluator.evalImgs
        p = evaluator.params
        parts.append(np.asarray(entries).reshape(-1, len(p.areaRng), len(p.imgIds)))
        ids += p.imgIds
    kept, first = np.unique(ids, return_index=True)
    evaluator = module.COCOeval(gt, iouType="bbox")
    evaluator.params.useCats = use_cats
    evaluator.evalImgs = pickle.loads(pickle.dumps(list(np.concatenate(parts, 2)[..., first].flatten())))
    evaluator.params.imgIds = list(kept)
    evaluator._paramsEval = copy.deepcopy(evaluator.params)
    evaluator.accumulate()
    evaluator.summarize()
    return evaluator


@pytest.mark.parametrize("step_by_step", [False, True])
@pytest.mark.parametrize("use_cats", [1, 0])
def test_batch_by_batch(use_cats: int, step_by_step: bool) -> None:
    annotations, results = random_set(27, 15, 4, 20, odd=True)
    empty = sorted(image["id"] for image in annotations["images"])[7]
    results = [result for result in results if result["image_id"] != empty]
    with contextlib.redirect_stdout(io.StringIO()):
        ours, theirs = (
            _in_batches(module, annotations, results, use_cats, step_by_step=step_by_step) for module in (OURS, THEIRS)
        )

    def change(params: Any) -> None:
        params.useCats = use_cats

    whole, _ = _evaluated(OURS, annotations, results, change)
    for name in ("precision", "recall", "scores"):
        np.testing.assert_array_equal(ours.eval[name], theirs.eval[name])
        np.testing.assert_array_equal(ours.eval[name], whole.eval[name])
    np.testing.assert_array_equal(ours.stats, theirs.stats)
    places = [entry is None for entry in whole.evalImgs]
    assert places == [entry is None for entry in _evaluated(THEIRS, annotations, results, change)[0].evalImgs]


@pytest.mark.parametrize("change", [{}, {"useCats": 0, "catIds": [3, 1]}, {"maxDets": [1, 2, 4]}])
def test_overlaps(change: Json) -> None:
    def set_all(params: Any) -> None:
        for name, value in change.items():
            setattr(params, name, value)

    annotations, results = random_set(29, 8, 3, 30, odd=True)
    ours, theirs = (_evaluated(module, annotations, results, set_all)[0] for module in (OURS, THEIRS))
    assert ours.ious.keys() == theirs.ious.keys()
    for key, overlaps in theirs.ious.items():
        np.testing.assert_array_equal(ours.ious[key], overlaps)


def test_entries_that_do_not_fit() -> None:
    annotations, results = random_set(28, 5, 2, 5)
    evaluator, _ = _evaluated(OURS, annotations, results)
    theirs, _ = _evaluated(THEIRS, annotations, results)
    assert OURS.COCOeval(iouType="bbox").evalImgs == []
    for entries, words in (
        (evaluator.evalImgs[1:], "evalImgs has 39 entries: expected 2 categories × 4 area ranges × 5 images"),
        (theirs.evalImgs, "join only entries that evaluate"),
        ([*evaluator.evalImgs[1:], evaluator.evalImgs[0]], "join only entries that evaluate"),
    ):
        evaluator.evalImgs = entries
        with pytest.raises(DataError, match=words):
            evaluator.accumulate()
    evaluator.evaluate()
    evaluator.accumulate()


PROGRAM = """
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

gt = COCO(annotations)
dt = gt.loadRes(results)
evaluator = COCOeval(gt, dt, "bbox")
evaluator.params.imgIds = [image["id"] for image in gt.loadImgs(gt.getImgIds())]
evaluator.evaluate()
evaluator.accumulate()
evaluator.summarize()
per_class = {
    category["name"]: evaluator.eval["precision"][:, :, k, 0, -1].mean()
    for k, category in enumerate(gt.loadCats(gt.getCatIds()))
}
stats = evaluator.stats.tolist()
"""


def test_only_the_import_line_changes(tmp_path: Path) -> None:
    annotations, results = random_set(17, 20, 4, 20)
    (tmp_path / "gt.json").write_text(json.dumps(annotations))
    (tmp_path / "dt.json").write_text(json.dumps(results))
    found = []
    for program in (
        PROGRAM,
        PROGRAM.replace("pycocotools.cocoeval", "ovd_bench.coco").replace("pycocotools", "ovd_bench"),
    ):
        names: Json = {"annotations": str(tmp_path / "gt.json"), "results": str(tmp_path / "dt.json")}
        with contextlib.redirect_stdout(io.StringIO()) as printed:
            exec(program, names)
        lines = [line for line in printed.getvalue().splitlines() if "@[" in line]
        found.append((names["stats"], names["per_class"], lines))
        assert ("ovd_bench" in names["COCO"].__module__) == ("ovd_bench" in program)
    assert found[0] == found[1]


GETTERS: list[tuple[str, Json]] = [
    ("getAnnIds", {}),
    ("getAnnIds", {"imgIds": 3}),
    ("getAnnIds", {"imgIds": [0, 3, 8, 10**9], "catIds": [1, 2]}),
    ("getAnnIds", {"catIds": 2}),
    ("getAnnIds", {"areaRng": [0, 1000.0]}),
    ("getAnnIds", {"iscrowd": True}),
    ("getAnnIds", {"imgIds": np.array([3, 8]), "iscrowd": False}),
    ("getCatIds", {}),
    ("getCatIds", {"catNms": ["class 1", "class 0"]}),
    ("getCatIds", {"supNms": ["even"], "catIds": [1, 2, 3]}),
    ("getImgIds", {}),
    ("getImgIds", {"imgIds": [3, 8, 10**9]}),
    ("getImgIds", {"catIds": 1}),
    ("getImgIds", {"catIds": [1, 2]}),
    ("getImgIds", {"imgIds": [0, 3, 8], "catIds": [1]}),
    ("loadAnns", {"ids": [1, 2]}),
    ("loadAnns", {"ids": 5}),
    ("loadCats", {"ids": np.array([1, 2])}),
    ("loadImgs", {"ids": ()}),
]


def test_getters() -> None:
    annotations, _ = random_set(18, 12, 3, 1)
    for category in annotations["categories"]:
        category["supercategory"] = "even" if category["id"] % 2 == 0 else "odd"
    with contextlib.redirect_stdout(io.StringIO()):
        ours, theirs = _loaded(OURS, annotations), _loaded(THEIRS, annotations)
    for name, arguments in GETTERS:
        found, expected = (getattr(coco, name)(**arguments) for coco in (ours, theirs))
        assert (sorted(found) if name == "getImgIds" else found) == (
            sorted(expected) if name == "getImgIds" else expected
        ), (name, arguments)
    for name in ("anns", "cats", "imgs", "imgToAnns", "catToImgs"):
        assert getattr(ours, name) == getattr(theirs, name)
    assert ours.imgToAnns[-5] == []
    assert ours.getCatIds(catNms="class 1") == [2]  # pycocotools also finds names that are part of the text


def test_what_cannot_be_done_is_said() -> None:
    annotations, results = random_set(19, 4, 2, 5)
    gt = _loaded(OURS, annotations)
    dt = gt.loadRes(results)

    def evaluator(**changes: Any) -> Any:
        made = OURS.COCOeval(gt, dt, "bbox")
        for name, value in changes.items():
            setattr(made.params, name, value)
        return made

    def after_evaluate(**changes: Any) -> None:
        made = evaluator()
        made.evaluate()
        for name, value in changes.items():
            setattr(made.params, name, value)
        made.accumulate()

    def summarized(**changes: Any) -> None:
        made = evaluator(**changes)
        made.evaluate()
        made.accumulate()
        made.summarize()

    bad_row = {**results[0], "score": "high"}
    lacking = copy.deepcopy(annotations)
    del lacking["annotations"][0]["area"]
    wrong: list[tuple[str, Callable[[], Any]]] = [
        ("iouType is 'segm': only boxes", lambda: OURS.COCOeval(gt, dt)),
        ("iouType is 'keypoints': only boxes", lambda: OURS.COCOeval(gt, dt, "keypoints")),
        ("useSegm is 1: only boxes", lambda: evaluator(useSegm=1).evaluate()),
        ("params.imgIds is empty", lambda: evaluator(imgIds=[]).evaluate()),
        ("params.catIds is empty", lambda: evaluator(catIds=[]).evaluate()),
        ("params.iouThrs: iou_thresholds is empty", lambda: evaluator(iouThrs=[]).evaluate()),
        ("params.iouThrs is ['x']: expected numbers", lambda: evaluator(iouThrs=["x"]).evaluate()),
        ("params.recThrs: ", lambda: evaluator(recThrs=[1, 0]).evaluate()),
        ("params.maxDets: ", lambda: evaluator(maxDets=[0, 1]).evaluate()),
        ("params.maxDets is [1.5]: expected whole numbers", lambda: evaluator(maxDets=[1.5]).evaluate()),
        ("params.areaRng is [3]: expected pairs", lambda: evaluator(areaRng=[3]).evaluate()),
        ("evaluate() needs cocoGt and cocoDt", lambda: OURS.COCOeval(gt, iouType="bbox").evaluate()),
        ("params.imgIds is empty", lambda: OURS.COCOeval(iouType="bbox").evaluate()),
        ("call evaluate() before", lambda: evaluator().accumulate()),
        ("call accumulate() before", lambda: evaluator().summarize()),
        ("params.maxDets was changed", lambda: after_evaluate(maxDets=[1])),
        ("params.iouThrs was changed", lambda: after_evaluate(iouThrs=[0.5])),
        ("params.catIds was changed", lambda: after_evaluate(catIds=[1])),
        ("params.maxDets is [1]: summarize() needs three", lambda: summarized(maxDets=[1])),
        ("params.areaRngLbl is", lambda: summarized(areaRng=[[0, 1e10]])),
        ("result 0: image_id 77777", lambda: gt.loadRes([{**results[0], "image_id": 77777}])),
        (
            "result 1: expected 'image_id' and 'bbox'",
            lambda: gt.loadRes([results[0], {"image_id": 1, "segmentation": {}}]),
        ),
        ("expected (N, 7)", lambda: gt.loadRes(np.zeros((3, 6)))),
        ("'score' is high", lambda: OURS.COCOeval(gt, gt.loadRes([bad_row]), "bbox").evaluate()),
        ("annotation with id 1: no 'area'", lambda: OURS.COCOeval(_loaded(OURS, lacking), dt, "bbox").evaluate()),
        ("No such file", lambda: OURS.COCO("nosuch.json")),
    ]
    for words, call in wrong:
        with pytest.raises(DataError) as caught:
            call()
        assert words in str(caught.value)
        assert "\n" not in str(caught.value)
    with pytest.raises(AttributeError, match="kpt_oks_sigmas"):
        evaluator(kpt_oks_sigmas=[1])


def test_files_that_are_something_else(tmp_path: Path) -> None:
    (tmp_path / "list.json").write_text("[]")
    (tmp_path / "cut.json").write_text('{"images": [')
    with pytest.raises(DataError, match=r"list\.json: expected an object, found a list"):
        OURS.COCO(tmp_path / "list.json")
    with pytest.raises(DataError, match=r"cut\.json: not JSON"):
        OURS.COCO(tmp_path / "cut.json")


def test_detections_by_hand_need_ids_from_1() -> None:
    annotations, results = random_set(20, 4, 2, 5)
    found = {**annotations, "annotations": [{**r, "id": k, "area": 1.0} for k, r in enumerate(results)]}
    with pytest.raises(DataError, match="result with id 0: expected ids from 1 up"):
        OURS.COCOeval(_loaded(OURS, annotations), _loaded(OURS, found), "bbox").evaluate()
