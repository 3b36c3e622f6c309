"""The classes of lvis-api over the suite's engine: boxes only, same results, same arrays.

Names of classes, methods and parameters are those of lvis-api 0.5.3, so that programs change one import line. Ids are
integers. Boxes are xywh in pixels of the original image, areas square pixels.
"""

from __future__ import annotations

import copy
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

import numpy as np
import numpy.typing as npt

from ovd_bench.benchmarks.api.annotation_rows import Columns, Row, box_results, read_json, to_columns
from ovd_bench.benchmarks.api.axes import check_unchanged, to_grid
from ovd_bench.benchmarks.api.paths import StrPath
from ovd_bench.metrics.errors import DataError
from ovd_bench.metrics.grid import evaluate_grid
from ovd_bench.metrics.protocol import (
    AREA_NAMES,
    AREA_RANGES,
    FREQUENCIES,
    IOU_THRESHOLDS,
    PROTOCOLS,
    RECALL_THRESHOLDS,
    Protocol,
)

_AXES = {"iou_thresholds": "iou_thrs", "recall_thresholds": "rec_thrs", "areas": "area_rng"}
#: Detections per image that count, over all classes.
_CAP = PROTOCOLS["lvis"].image_cap or -1
#: The rules without that cap: ``LVISResults`` applies it.
_RULES = Protocol("lvis", "lvis")


class LVIS:
    """Annotations and ways to find them.

    Attributes:
        dataset: content of the file.
        anns, cats, imgs: annotations, categories and images by id.
        img_ann_map: annotations by image id.
        cat_img_map: image ids by category id, one entry per annotation.
    """

    def __init__(self, annotation_path: StrPath) -> None:
        """Read annotations.

        Args:
            annotation_path: LVIS JSON.

        Raises:
            DataError: the file cannot be read, or is no JSON object with images, annotations and categories.
        """
        self._index(read_json(annotation_path, dict), str(annotation_path))

    def _index(self, dataset: dict[str, Any], name: str) -> None:
        for key in ("images", "annotations", "categories"):
            if key not in dataset:
                raise DataError(f"{name}: no '{key}'")
        self.dataset = dataset
        self.anns: dict[int, Row] = {row["id"]: row for row in dataset["annotations"]}
        self.cats: dict[int, Row] = {row["id"]: row for row in dataset["categories"]}
        self.imgs: dict[int, Row] = {row["id"]: row for row in dataset["images"]}
        self.img_ann_map: defaultdict[int, list[Row]] = defaultdict(list)
        self.cat_img_map: defaultdict[int, list[int]] = defaultdict(list)
        for row in dataset["annotations"]:
            self.img_ann_map[row["image_id"]].append(row)
            self.cat_img_map[row["category_id"]].append(row["image_id"])

    def get_ann_ids(
        self,
        img_ids: Iterable[int] | None = None,
        cat_ids: Iterable[int] | None = None,
        area_rng: Sequence[float] | None = None,
    ) -> list[int]:
        """Ids of annotations; None lets everything through.

        As in lvis-api, a filter by category also drops annotations without area.

        Args:
            img_ids: images.
            cat_ids: categories.
            area_rng: lower and upper bound of the area, both excluded.
        """
        if img_ids is None:
            rows = self.dataset["annotations"]
        else:
            rows = [row for image in img_ids if image in self.img_ann_map for row in self.img_ann_map[image]]
        if cat_ids is None and area_rng is None:
            return [row["id"] for row in rows]
        categories = None if cat_ids is None else set(cat_ids)
        low, high = area_rng if area_rng is not None else (0, np.inf)
        return [
            row["id"]
            for row in rows
            if (categories is None or row["category_id"] in categories) and low < row["area"] < high
        ]

    def get_cat_ids(self) -> list[int]:
        """Ids of all categories."""
        return list(self.cats)

    def get_img_ids(self) -> list[int]:
        """Ids of all images."""
        return list(self.imgs)

    def load_anns(self, ids: Iterable[int] | None = None) -> list[Row]:
        """Annotations with these ids; None = all."""
        return _chosen(self.anns, ids)

    def load_cats(self, ids: Iterable[int] | None = None) -> list[Row]:
        """Categories with these ids; None = all."""
        return _chosen(self.cats, ids)

    def load_imgs(self, ids: Iterable[int] | None = None) -> list[Row]:
        """Images with these ids; None = all."""
        return _chosen(self.imgs, ids)


class LVISResults(LVIS):
    """Results on the images of annotations, capped per image."""

    def __init__(self, lvis_gt: LVIS | StrPath, results: StrPath | Sequence[Row], max_dets: int = _CAP) -> None:
        """Take results.

        Args:
            lvis_gt: annotations, or their file.
            results: results JSON or its content: rows with ``image_id``, ``category_id``, ``bbox`` and ``score``. Rows
                are copied. No results at all are fine.
            max_dets: results per image that are kept, the best over all classes; negative = all.

        Raises:
            DataError: a file cannot be read, a result has no box or score, or is of an image that is not there.
        """
        truth = lvis_gt if isinstance(lvis_gt, LVIS) else LVIS(lvis_gt)
        rows = list(results if isinstance(results, list | tuple) else read_json(results, list))  # type: ignore[arg-type]
        if max_dets >= 0:
            rows = _best_of_each_image(rows, max_dets)
        self._index({**truth.dataset, "annotations": box_results(rows, truth.imgs)}, "annotations")

    def get_top_results(self, img_id: int, score_thrs: float) -> list[Row]:
        """Results of an image with scores above a threshold."""
        return [row for row in self.img_ann_map.get(img_id, []) if row["score"] > score_thrs]


@dataclass(slots=True)
class Params:
    """Parameters of an evaluation. There are no others: setting one raises ``AttributeError``.

    Attributes:
        img_ids: images that count.
        cat_ids: categories that count, in the order of the arrays.
        iou_thrs: T IoU thresholds.
        rec_thrs: R recall thresholds from 0 to 1, not decreasing.
        max_dets: as in lvis-api it only names the recalls; the cap itself is that of ``LVISResults``.
        area_rng: A area ranges in square pixels, inclusive at both ends.
        area_rng_lbl: names of the area ranges, by which ``summarize`` finds them.
        use_cats: 1.
        img_count_lbl: letters of the frequency groups, the first three for APr, APc and APf.
        iou_type: ``bbox``.
    """

    iou_type: str = "bbox"
    img_ids: Sequence[Any] = field(default_factory=list)
    cat_ids: Sequence[Any] = field(default_factory=list)
    iou_thrs: Sequence[float] | npt.NDArray[np.float64] = field(default_factory=IOU_THRESHOLDS.copy)
    rec_thrs: Sequence[float] | npt.NDArray[np.float64] = field(default_factory=RECALL_THRESHOLDS.copy)
    max_dets: int = _CAP
    area_rng: Sequence[Sequence[float]] = field(default_factory=lambda: [list(area) for area in AREA_RANGES])
    area_rng_lbl: Sequence[str] = field(default_factory=lambda: list(AREA_NAMES))
    use_cats: int = 1
    img_count_lbl: Sequence[str] = field(default_factory=lambda: list(FREQUENCIES))


class LVISEval:
    """Average precision and recall of boxes by the federated rules: ``run()``, then ``get_results()``.

    Attributes:
        lvis_gt: ground truth.
        lvis_dt: detections.
        params: what to evaluate; change it before ``evaluate()`` or ``run()``.
        eval: after ``accumulate()``: ``precision`` (T, R, K, A) and ``recall`` (T, K, A), -1 where a category has no
            ground truth in an area range; ``params``, ``counts`` [T, R, K, A] and ``date``.
        results: after ``summarize()``: the thirteen statistics by name, -1 = undefined.
        freq_groups: after ``evaluate()``: places of the categories of each frequency letter.
    """

    def __init__(
        self,
        lvis_gt: LVIS | StrPath,
        lvis_dt: LVISResults | StrPath | Sequence[Row],
        iou_type: str = "segm",
    ) -> None:
        """Prepare an evaluation of all images and categories.

        Args:
            lvis_gt: annotations, or their file.
            lvis_dt: results, or their file or content, of which the best 300 per image count.
            iou_type: ``bbox``. The default is that of lvis-api, and is refused.

        Raises:
            DataError: another ``iou_type``, or a file that cannot be read.
        """
        self.params = Params(iou_type)
        _check_parameters(self.params)
        self.lvis_gt = lvis_gt if isinstance(lvis_gt, LVIS) else LVIS(lvis_gt)
        self.lvis_dt = lvis_dt if isinstance(lvis_dt, LVISResults) else LVISResults(self.lvis_gt, lvis_dt)
        self.eval: dict[str, Any] = {}
        self.results: dict[str, float] = {}
        self.freq_groups: list[list[int]] = []
        self._columns: Columns | None = None
        self._evaluated = self.params
        self.params.img_ids = sorted(self.lvis_gt.get_img_ids())
        self.params.cat_ids = sorted(self.lvis_gt.get_cat_ids())

    @property
    def eval_imgs(self) -> Any:
        """Not here.

        Raises:
            AttributeError: always.
        """
        raise AttributeError("eval_imgs: the engine keeps no matches per image")

    @property
    def ious(self) -> Any:
        """Not here.

        Raises:
            AttributeError: always.
        """
        raise AttributeError("ious: the engine keeps no overlaps; ovd_bench.metrics.boxes.box_iou computes them")

    def run(self) -> None:
        """``evaluate()``, ``accumulate()`` and ``summarize()``.

        Raises:
            DataError: see there.
        """
        self.evaluate()
        self.accumulate()
        self.summarize()

    def evaluate(self) -> None:
        """Take images, categories, annotations and detections as they are now, for ``accumulate()``.

        Raises:
            DataError: a parameter is not legal, or annotations lack something.
        """
        p = self.params
        _check_parameters(p)
        for name in ("img_ids", "cat_ids"):
            if not len(getattr(p, name)):
                raise DataError(f"params.{name} is empty")
        p.img_ids = sorted(set(p.img_ids))
        if len(set(p.cat_ids)) < len(p.cat_ids):
            raise DataError("params.cat_ids has a category twice")
        for name, ids, known in (
            ("img_ids", p.img_ids, self.lvis_gt.imgs),
            ("cat_ids", p.cat_ids, self.lvis_gt.cats),
        ):
            unknown = [one for one in ids if one not in known]
            if unknown:
                raise DataError(f"params.{name}: {unknown[0]} is not in the annotations")
        to_grid(p, _AXES)
        self.freq_groups = self._frequency_groups()
        truth, results = (
            lvis.load_anns(lvis.get_ann_ids(img_ids=p.img_ids, cat_ids=p.cat_ids))
            for lvis in (self.lvis_gt, self.lvis_dt)
        )
        images = self.lvis_gt.load_imgs(p.img_ids)
        self._columns = to_columns(
            truth,
            results,
            p.img_ids,
            p.cat_ids,
            absent=_lists(images, "neg_category_ids"),
            not_exhaustive=_lists(images, "not_exhaustive_category_ids"),
        )
        self._evaluated = copy.deepcopy(p)
        self.eval = {}

    def accumulate(self) -> None:
        """Fill ``eval``.

        Raises:
            DataError: no ``evaluate()`` before, or a parameter besides ``rec_thrs`` and ``max_dets`` has changed since.
        """
        if self._columns is None:
            raise DataError("LVISEval: call evaluate() before accumulate()")
        check_unchanged(self.params, self._evaluated, but=("rec_thrs", "max_dets"))
        arrays = evaluate_grid(
            self._columns.gt,
            self._columns.predictions,
            _RULES,
            to_grid(self.params, _AXES),
            detection_area=self._columns.detection_area,
        )
        self.eval = {
            "params": self.params,
            "counts": list(arrays.precision.shape[:4]),
            "date": datetime.now().strftime("%Y-%m-%d %H:%M:%S"),
            "precision": arrays.precision[..., 0],
            "recall": arrays.recall[..., 0],
        }

    def summarize(self) -> None:
        """Fill ``results``.

        Raises:
            DataError: no ``accumulate()`` before.
        """
        if not self.eval:
            raise DataError("LVISEval: call accumulate() before summarize()")
        results = {
            "AP": self._mean("precision"),
            "AP50": self._mean("precision", iou=0.5),
            "AP75": self._mean("precision", iou=0.75),
        }
        for area in AREA_NAMES[1:]:
            results[f"AP{area[0]}"] = self._mean("precision", area=area)
        for letter, group in zip(FREQUENCIES, self.freq_groups, strict=False):
            results[f"AP{letter}"] = self._mean("precision", classes=group)
        most = self.params.max_dets
        results[f"AR@{most}"] = self._mean("recall")
        for area in AREA_NAMES[1:]:
            results[f"AR{area[0]}@{most}"] = self._mean("recall", area=area)
        self.results = results

    def get_results(self) -> dict[str, float]:
        """The thirteen statistics by name, AP to ``ARl@300``; empty before ``run()``."""
        return self.results

    def print_results(self) -> None:
        """Print the thirteen statistics, one per line."""
        p = self.params
        for name, value in self.results.items():
            kind = "Average Precision  (AP)" if name.startswith("AP") else "Average Recall     (AR)"
            suffix = name[2:].split("@")[0]
            iou = f"{int(suffix) / 100:0.2f}" if suffix.isdigit() else f"{p.iou_thrs[0]:0.2f}:{p.iou_thrs[-1]:0.2f}"
            area = suffix if suffix in ("s", "m", "l") else "all"
            group = suffix if suffix in FREQUENCIES else "all"
            where = f"IoU={iou:<9} | area={area:>6s} | maxDets={p.max_dets:>3d} catIds={group:>3s}"
            print(f" {kind} @[ {where}] = {value:0.3f}")

    def _frequency_groups(self) -> list[list[int]]:
        labels = list(self.params.img_count_lbl)
        if len(labels) < len(FREQUENCIES):
            raise DataError(f"params.img_count_lbl is {labels}: expected three letters, for APr, APc and APf")
        groups: list[list[int]] = [[] for _ in labels]
        for place, category in enumerate(self.lvis_gt.load_cats(self.params.cat_ids)):
            letter = category.get("frequency")
            if letter not in labels:
                raise DataError(f"category {category['id']}: frequency is {letter!r}, expected one of {labels}")
            groups[labels.index(letter)].append(place)
        return groups

    def _mean(
        self, kind: str, *, iou: float | None = None, area: str = "all", classes: Sequence[int] | None = None
    ) -> float:
        """Mean over the defined entries, -1 if there is none."""
        p = self.params
        plane = self.eval[kind]
        if iou is not None:
            plane = plane[np.flatnonzero(np.equal(p.iou_thrs, iou))]
        if classes is not None:
            plane = plane[:, :, np.array(classes, np.int64)]
        plane = plane[..., [place for place, name in enumerate(p.area_rng_lbl) if name == area]]
        defined = plane[plane > -1]
        return float(np.mean(defined)) if len(defined) else -1.0


def _chosen(rows: dict[int, Row], ids: Iterable[int] | None) -> list[Row]:
    return list(rows.values()) if ids is None else [rows[i] for i in ids]


def _best_of_each_image(rows: Sequence[Row], most: int) -> list[Row]:
    """The rows image by image; of an image with more, the best by score, ties in the order given."""
    images: defaultdict[Any, list[Row]] = defaultdict(list)
    try:
        for row in rows:
            images[row["image_id"]].append(row)
        for image, found in images.items():
            if len(found) > most:
                images[image] = sorted(found, key=lambda row: row["score"], reverse=True)[:most]
    except (KeyError, TypeError) as error:
        raise DataError("a result without 'image_id', or without a number as 'score'") from error
    return [row for found in images.values() for row in found]


def _lists(images: Sequence[Row], key: str) -> list[list[int]]:
    for image in images:
        if key not in image:
            raise DataError(f"image {image['id']}: no '{key}', which annotations of LVIS have")
    return [image[key] for image in images]


def _check_parameters(p: Params) -> None:
    if p.iou_type != "bbox":
        raise DataError(f"iou_type is {p.iou_type!r}: only boxes can be evaluated; give iou_type='bbox'")
    if not p.use_cats:
        raise DataError("params.use_cats is 0: lvis-api has no rule for that; ovd_bench.coco has useCats")
    if len(p.area_rng_lbl) > len(p.area_rng):
        raise DataError(f"params.area_rng_lbl is {p.area_rng_lbl}: there are fewer ranges in params.area_rng")
