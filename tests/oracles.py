"""The official evaluators, run in memory, and the conversion of their dictionaries to columns."""

from __future__ import annotations

import contextlib
import copy
import io
import logging
from typing import Any

import numpy as np

from ovd_bench.metrics.types import Categories, GroundTruth, Predictions, Ragged, positions

setattr(np, "float", float)  # noqa: B010  # lvis 0.5.3 uses the alias that numpy 1.24 removed
from pycocotools.coco import COCO  # noqa: E402
from pycocotools.cocoeval import COCOeval  # noqa: E402

from lvis import LVIS, LVISEval, LVISResults  # noqa: E402

Json = dict[str, Any]


def run_lvis(annotations: Json, results: list[Json], *, fixed: bool = False) -> LVISEval:
    """lvis-api on box results; ``fixed`` = the recipe of large-vocab-devil's ``evaluate_ap_fixed.py``."""
    logging.getLogger("lvis.lvis").setLevel(logging.ERROR)
    annotations, results = copy.deepcopy(annotations), copy.deepcopy(results)  # lvis-api writes into both
    if fixed:
        by_class: dict[int, list[Json]] = {}
        for result in results:
            by_class.setdefault(result["category_id"], []).append(result)
        results = [
            r for rows in by_class.values() for r in sorted(rows, key=lambda r: r["score"], reverse=True)[:10000]
        ]
    gt = LVIS.__new__(LVIS)
    gt.logger = logging.getLogger("lvis.lvis")
    gt.dataset = annotations
    gt._create_index()
    with _quiet_logs():
        evaluator = LVISEval(gt, LVISResults(gt, results, max_dets=-1 if fixed else 300), "bbox")
        if fixed:
            evaluator.params.max_dets = -1
        evaluator.run()
    return evaluator


def run_coco(annotations: Json, results: list[Json]) -> COCOeval:
    """Pycocotools on box results."""
    with contextlib.redirect_stdout(io.StringIO()):
        gt = COCO()
        gt.dataset = copy.deepcopy(annotations)
        gt.createIndex()
        evaluator = COCOeval(gt, gt.loadRes(copy.deepcopy(results)), "bbox")
        evaluator.evaluate()
        evaluator.accumulate()
        evaluator.summarize()
    return evaluator


@contextlib.contextmanager
def _quiet_logs() -> Any:
    previous = logging.root.manager.disable
    logging.disable(logging.CRITICAL)
    try:
        yield
    finally:
        logging.disable(previous)


def ground_truth(annotations: Json) -> GroundTruth:
    """Columns of an annotation dictionary; annotations of unknown images and classes are left out."""
    images = sorted(annotations["images"], key=lambda image: image["id"])
    categories = sorted(annotations["categories"], key=lambda category: category["id"])
    image_ids = np.array([image["id"] for image in images], np.int64)
    category_ids = np.array([category["id"] for category in categories], np.int64)
    rows = [
        a
        for a in annotations["annotations"]
        if a["image_id"] in set(image_ids.tolist()) and a["category_id"] in set(category_ids.tolist())
    ]

    def lists(key: str) -> Ragged:
        found = [positions(category_ids, np.array(image.get(key, []), np.int64)) for image in images]
        return Ragged.from_lists([row[row >= 0].tolist() for row in found])

    return GroundTruth(
        image_ids=image_ids,
        image_sizes=np.array([[i.get("width", 0), i.get("height", 0)] for i in images], np.int32).reshape(-1, 2),
        categories=Categories(
            ids=category_ids,
            names=tuple(category["name"] for category in categories),
            frequency=tuple(category.get("frequency", "") for category in categories),
            image_count=np.array([category.get("image_count", -1) for category in categories], np.int64),
            synset=tuple(category.get("synset", "") for category in categories),
            synonyms=tuple(tuple(category.get("synonyms", ())) for category in categories),
            supercategory=tuple(category.get("supercategory", "") for category in categories),
        ),
        ann_ids=np.array([a["id"] for a in rows], np.int64),
        image_index=positions(image_ids, np.array([a["image_id"] for a in rows], np.int64)),
        class_index=positions(category_ids, np.array([a["category_id"] for a in rows], np.int64)),
        boxes_xywh=np.array([a["bbox"] for a in rows], np.float64).reshape(-1, 4),
        area=np.array([a["area"] for a in rows], np.float64),
        iscrowd=np.array([bool(a.get("iscrowd", 0)) for a in rows], np.bool_),
        ignore=np.array([bool(a.get("ignore", 0)) for a in rows], np.bool_),
        neg=lists("neg_category_ids"),
        not_exhaustive=lists("not_exhaustive_category_ids"),
        federated=all("neg_category_ids" in image for image in images),
    )


def predictions(results: list[Json]) -> Predictions:
    """Columns (float64) of a result list."""
    return Predictions.from_boxes(
        [r["image_id"] for r in results],
        [r["category_id"] for r in results],
        np.array([r["score"] for r in results], np.float64),
        [r["bbox"] for r in results],
    )


def statistics(values: Any) -> list[float | None]:
    """Official statistics as a list, -1 (undefined) as None."""
    return [None if value == -1 else float(value) for value in values]
