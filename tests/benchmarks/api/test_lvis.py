"""``ovd_bench.lvis`` in place of lvis-api: the same programs, results and arrays."""

from __future__ import annotations

import contextlib
import copy
import io
import json
import logging
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings

import lvis
import ovd_bench.lvis
from ovd_bench.metrics.errors import DataError
from ovd_bench.tests import oracles  # noqa: F401 - restores the alias of numpy that lvis-api needs
from ovd_bench.tests.metrics.small_sets import federated_sets, random_set

Json = dict[str, Any]
Change = Callable[[Any], None]


def _evaluated(module: Any, folder: Path, data: tuple[Json, list[Json]], change: Change, cap: int) -> Any:
    """An evaluator that went all the way, and the lines it prints."""
    path = folder / "gt.json"
    path.write_text(json.dumps(data[0]))
    logging.disable(logging.WARNING)
    try:
        gt = module.LVIS(str(path))
        evaluator = module.LVISEval(gt, module.LVISResults(gt, copy.deepcopy(data[1]), max_dets=cap), "bbox")
        change(evaluator.params)
        evaluator.run()
    finally:
        logging.disable(logging.NOTSET)
    with contextlib.redirect_stdout(io.StringIO()) as printed:
        evaluator.print_results()
    return evaluator, printed.getvalue()


def _assert_same(
    folder: Path, data: tuple[Json, list[Json]], change: Change = lambda params: None, cap: int = 300
) -> Any:
    theirs, their_lines = _evaluated(lvis, folder, data, change, cap)
    ours, our_lines = _evaluated(ovd_bench.lvis, folder, data, change, cap)
    for name in ("precision", "recall"):
        np.testing.assert_array_equal(ours.eval[name], theirs.eval[name])
    assert list(ours.get_results()) == list(theirs.get_results())
    np.testing.assert_allclose(list(ours.results.values()), list(theirs.results.values()), rtol=0, atol=1e-12)
    assert our_lines == their_lines
    assert our_lines.count("\n") == 13
    assert ours.eval["counts"] == theirs.eval["counts"]
    assert ours.freq_groups == theirs.freq_groups
    assert ours.lvis_dt.anns.keys() == theirs.lvis_dt.anns.keys()
    for number, row in theirs.lvis_dt.anns.items():
        assert {key: row[key] for key in row if key != "segmentation"} == ours.lvis_dt.anns[number]
    return ours


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("lvis")


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(federated_sets())
def test_small_sets(folder: Path, data: tuple[Json, list[Json]]) -> None:
    _assert_same(folder, data)


CHANGES: dict[str, Json] = {
    "nothing": {},
    "images": {"img_ids": [8, 3, 3]},
    "classes in another order": {"cat_ids": [5, 1, 2]},
    "one IoU": {"iou_thrs": np.array([0.5])},
    "many IoUs": {"iou_thrs": np.linspace(0.1, 1.0, 19)},
    "recalls": {"rec_thrs": [0.0, 0.1, 0.9]},
    "areas": {"area_rng": [[0, 1e10], [0, 64**2], [64**2, 1e10], [0, 10], [5, 99]], "area_rng_lbl": ["all", "small"]},
    "letters": {"img_count_lbl": ["f", "c", "r"]},
    "name of the recalls": {"max_dets": -1},
}


@pytest.mark.parametrize("name", CHANGES)
@pytest.mark.parametrize("odd", [False, True])
def test_parameters(folder: Path, name: str, odd: bool) -> None:
    annotations, results = random_set(21, 30, 6, 40, odd=odd)
    known = sorted(image["id"] for image in annotations["images"])

    def change(params: Any) -> None:
        for key, value in CHANGES[name].items():
            setattr(params, key, copy.deepcopy(value))
        if "img_ids" in CHANGES[name]:
            params.img_ids = [known[k] for k in params.img_ids]

    _assert_same(folder, (annotations, results), change)


@pytest.mark.parametrize("cap", [300, 20, -1])
def test_caps(folder: Path, cap: int) -> None:
    ours = _assert_same(folder, random_set(22, 12, 4, 330, odd=True), cap=cap)
    assert len(ours.lvis_dt.anns) == 12 * (330 if cap < 0 else cap)


def test_real_lvis_v05(real_data: Path, folder: Path) -> None:
    annotations = json.loads((real_data / "lvis-api" / "lvis_val_100.json").read_bytes())
    rng = np.random.default_rng(5)
    results = [
        {
            "image_id": row["image_id"],
            "category_id": row["category_id"] if rng.random() < 0.7 else int(rng.integers(1, 1231)),
            "bbox": (np.array(row["bbox"]) * rng.normal(1, 0.1, 4)).tolist(),
            "score": rng.random(),
        }
        for row in annotations["annotations"]
        for _ in range(3)
    ]
    ours = _assert_same(folder, (annotations, results))
    assert ours.results["AP"] > 0.1


PROGRAM = """
from lvis import LVIS, LVISEval, LVISResults

gt = LVIS(annotations)
evaluator = LVISEval(gt, LVISResults(gt, results, max_dets=100), "bbox")
evaluator.run()
evaluator.print_results()
found = dict(evaluator.get_results())
short = LVISEval(annotations, results, iou_type="bbox")
short.run()
top = short.lvis_dt.get_top_results(gt.get_img_ids()[0], 0.5)
found_short = dict(short.get_results())
"""


def test_only_the_import_line_changes(tmp_path: Path) -> None:
    annotations, results = random_set(23, 12, 4, 120)
    (tmp_path / "gt.json").write_text(json.dumps(annotations))
    (tmp_path / "dt.json").write_text(json.dumps(results))
    found = []
    for program in (PROGRAM, PROGRAM.replace("from lvis", "from ovd_bench.lvis")):
        names: Json = {"annotations": str(tmp_path / "gt.json"), "results": str(tmp_path / "dt.json")}
        with contextlib.redirect_stdout(io.StringIO()) as printed:
            exec(program, names)
        top = [{key: row[key] for key in row if key != "segmentation"} for row in names["top"]]
        found.append((names["found"], names["found_short"], top, printed.getvalue()))
        assert ("ovd_bench" in names["LVIS"].__module__) == ("ovd_bench" in program)
    assert found[0] == found[1]


def test_getters(tmp_path: Path) -> None:
    annotations, _ = random_set(24, 12, 3, 1)
    annotations["annotations"][0]["area"] = 0
    (tmp_path / "gt.json").write_text(json.dumps(annotations))
    ours, theirs = (module.LVIS(tmp_path / "gt.json") for module in (ovd_bench.lvis, lvis))
    for name in ("anns", "cats", "imgs", "img_ann_map", "cat_img_map"):
        assert getattr(ours, name) == getattr(theirs, name)
    some = [image["id"] for image in annotations["images"][:4]]
    calls: list[tuple[str, Json]] = [
        ("get_ann_ids", {}),
        ("get_ann_ids", {"img_ids": [*some, 10**9]}),
        ("get_ann_ids", {"cat_ids": [1, 2]}),
        ("get_ann_ids", {"img_ids": some, "cat_ids": [2], "area_rng": [0, 1000]}),
        ("get_cat_ids", {}),
        ("get_img_ids", {}),
        ("load_anns", {}),
        ("load_anns", {"ids": [1, 2]}),
        ("load_cats", {"ids": [2]}),
        ("load_imgs", {"ids": some}),
        ("load_imgs", {"ids": None}),
    ]
    for name, arguments in calls:
        assert getattr(ours, name)(**arguments) == getattr(theirs, name)(**arguments), (name, arguments)


def test_what_cannot_be_done_is_said(tmp_path: Path) -> None:
    annotations, results = random_set(25, 4, 2, 5)
    path = tmp_path / "gt.json"
    path.write_text(json.dumps(annotations))
    gt = ovd_bench.lvis.LVIS(path)

    def evaluator(**changes: Any) -> Any:
        made = ovd_bench.lvis.LVISEval(gt, results, "bbox")
        for name, value in changes.items():
            setattr(made.params, name, value)
        return made

    def after_evaluate(**changes: Any) -> None:
        made = evaluator()
        made.evaluate()
        for name, value in changes.items():
            setattr(made.params, name, value)
        made.accumulate()

    def changed(change: Callable[[Json], None]) -> Any:
        other = copy.deepcopy(annotations)
        change(other)
        (tmp_path / "other.json").write_text(json.dumps(other))
        ovd_bench.lvis.LVISEval(tmp_path / "other.json", results, "bbox").evaluate()

    wrong: list[tuple[str, Callable[[], Any]]] = [
        ("iou_type is 'segm': only boxes", lambda: ovd_bench.lvis.LVISEval(gt, results)),
        ("params.use_cats is 0", lambda: evaluator(use_cats=0).run()),
        ("params.img_ids is empty", lambda: evaluator(img_ids=[]).run()),
        ("params.img_ids: 77777 is not", lambda: evaluator(img_ids=[77777]).run()),
        ("params.cat_ids: 77777 is not", lambda: evaluator(cat_ids=[77777]).run()),
        ("params.cat_ids has a category twice", lambda: evaluator(cat_ids=[1, 1]).run()),
        ("params.iou_thrs: iou_thresholds is empty", lambda: evaluator(iou_thrs=[]).run()),
        ("params.rec_thrs: ", lambda: evaluator(rec_thrs=[2]).run()),
        ("params.area_rng is [1]: expected pairs", lambda: evaluator(area_rng=[1], area_rng_lbl=["all"]).run()),
        ("params.area_rng_lbl is", lambda: evaluator(area_rng=[[0, 1]]).run()),
        ("params.img_count_lbl is ['r']", lambda: evaluator(img_count_lbl=["r"]).run()),
        ("params.area_rng was changed", lambda: after_evaluate(area_rng=[[0, 1]])),
        ("call evaluate() before", lambda: evaluator().accumulate()),
        ("call accumulate() before", lambda: evaluator().summarize()),
        ("no 'neg_category_ids'", lambda: changed(lambda data: data["images"][0].pop("neg_category_ids"))),
        ("frequency is None", lambda: changed(lambda data: data["categories"][0].pop("frequency"))),
        ("other.json: no 'categories'", lambda: changed(lambda data: data.pop("categories"))),
        ("result 0: expected 'image_id' and 'bbox'", lambda: ovd_bench.lvis.LVISResults(gt, [{"image_id": 1}])),
        ("a result without 'image_id'", lambda: ovd_bench.lvis.LVISResults(gt, [{"bbox": [1, 2, 3, 4]}])),
        ("image_id 77777 is not", lambda: ovd_bench.lvis.LVISResults(gt, [{**results[0], "image_id": 77777}])),
        ("No such file", lambda: ovd_bench.lvis.LVIS("nosuch.json")),
    ]
    for words, call in wrong:
        with pytest.raises(DataError) as caught:
            call()
        assert words in str(caught.value)
        assert "\n" not in str(caught.value)
    with pytest.raises(AttributeError, match="imgIds"):
        evaluator(imgIds=[1])
    for name in ("eval_imgs", "ious"):
        with pytest.raises(AttributeError, match=f"{name}: the engine keeps no"):
            getattr(evaluator(), name)


def test_no_results(tmp_path: Path) -> None:
    (tmp_path / "gt.json").write_text(json.dumps(random_set(26, 5, 2, 3)[0]))
    evaluator = ovd_bench.lvis.LVISEval(tmp_path / "gt.json", [], "bbox")
    assert evaluator.get_results() == {}
    evaluator.run()
    assert evaluator.results["AP"] == 0


def test_the_package_lvis_is_not_hidden_in_a_checkout() -> None:
    """Python puts the working directory first."""
    root = Path(ovd_bench.__file__).parent
    code = "import lvis, ovd_bench.lvis; print(lvis.__file__); print(ovd_bench.lvis.LVIS.__module__)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=root)
    assert done.stdout.splitlines() == [lvis.__file__, "ovd_bench.benchmarks.api.lvis"]
