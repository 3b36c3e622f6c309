"""The classes of pycocotools over the suite's engine: boxes only, same statistics, same arrays.

Names of classes, methods and parameters are those of pycocotools, so that programs change one import line. Ids are
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
from ovd_bench.metrics.protocol import AREA_NAMES, AREA_RANGES, IOU_THRESHOLDS, PROTOCOLS, RECALL_THRESHOLDS

#: One id or name, or several.
Some = int | str | Iterable[Any]

_AXES = {"iou_thresholds": "iouThrs", "recall_thresholds": "recThrs", "areas": "areaRng", "limits": "maxDets"}
#: What the engine asks of annotations and results.
_NEEDED = ("id", "image_id", "category_id", "bbox", "area", "iscrowd", "score")


class COCO:
    """Annotations, or results, and ways to find them.

    Attributes:
        dataset: content of the file. Set it and call ``createIndex`` to use annotations that are in no file.
        anns, cats, imgs: annotations, categories and images by id.
        imgToAnns: annotations by image id.
        catToImgs: image ids by category id, one entry per annotation.
    """

    def __init__(self, annotation_file: StrPath | None = None) -> None:
        """Read annotations.

        Args:
            annotation_file: COCO instances JSON; None = no annotations yet.

        Raises:
            DataError: the file cannot be read, or is no JSON object.
        """
        self.dataset: dict[str, Any] = {}
        self.anns: dict[int, Row] = {}
        self.cats: dict[int, Row] = {}
        self.imgs: dict[int, Row] = {}
        self.imgToAnns: defaultdict[int, list[Row]] = defaultdict(list)
        self.catToImgs: defaultdict[int, list[int]] = defaultdict(list)
        if annotation_file is not None:
            self.dataset = read_json(annotation_file, dict)
            self.createIndex()

    def createIndex(self) -> None:
        """Fill ``anns``, ``cats``, ``imgs``, ``imgToAnns`` and ``catToImgs`` from ``dataset``."""
        annotations = self.dataset.get("annotations", [])
        self.anns = {row["id"]: row for row in annotations}
        self.cats = {row["id"]: row for row in self.dataset.get("categories", [])}
        self.imgs = {row["id"]: row for row in self.dataset.get("images", [])}
        self.imgToAnns, self.catToImgs = defaultdict(list), defaultdict(list)
        for row in annotations:
            self.imgToAnns[row["image_id"]].append(row)
            if "categories" in self.dataset:
                self.catToImgs[row["category_id"]].append(row["image_id"])

    def info(self) -> None:
        """Print what the file says about itself."""
        for key, value in self.dataset.get("info", {}).items():
            print(f"{key}: {value}")

    def getAnnIds(
        self, imgIds: Some = (), catIds: Some = (), areaRng: Sequence[float] = (), iscrowd: bool | None = None
    ) -> list[int]:
        """Ids of annotations; an empty filter lets everything through.

        Args:
            imgIds: images.
            catIds: categories.
            areaRng: lower and upper bound of the area, both excluded.
            iscrowd: only crowds, or only what is none.
        """
        images, categories = _several(imgIds), set(_several(catIds))
        if images:
            rows = [row for image in images if image in self.imgToAnns for row in self.imgToAnns[image]]
        else:
            rows = self.dataset.get("annotations", [])
        return [
            row["id"]
            for row in rows
            if (not categories or row["category_id"] in categories)
            and (not len(areaRng) or areaRng[0] < row["area"] < areaRng[1])
            and (iscrowd is None or row.get("iscrowd", 0) == iscrowd)
        ]

    def getCatIds(self, catNms: Some = (), supNms: Some = (), catIds: Some = ()) -> list[int]:
        """Ids of categories in file order; an empty filter lets everything through.

        Args:
            catNms: names.
            supNms: names of supercategories.
            catIds: ids.
        """
        wanted = {"name": _several(catNms), "supercategory": _several(supNms), "id": _several(catIds)}
        return [
            row["id"]
            for row in self.dataset.get("categories", [])
            if all(not values or row.get(key) in values for key, values in wanted.items())
        ]

    def getImgIds(self, imgIds: Some = (), catIds: Some = ()) -> list[int]:
        """Ids of images; an empty filter lets everything through.

        Args:
            imgIds: images.
            catIds: categories; only images with annotations of all of them.
        """
        images, categories = _several(imgIds), _several(catIds)
        if not images and not categories:
            return list(self.imgs)
        sets = [set(images)] if images else []
        return list(set.intersection(*sets, *(set(self.catToImgs.get(category, ())) for category in categories)))

    def loadAnns(self, ids: Some = ()) -> list[Row]:
        """Annotations with these ids."""
        return [self.anns[i] for i in _several(ids)]

    def loadCats(self, ids: Some = ()) -> list[Row]:
        """Categories with these ids."""
        return [self.cats[i] for i in _several(ids)]

    def loadImgs(self, ids: Some = ()) -> list[Row]:
        """Images with these ids."""
        return [self.imgs[i] for i in _several(ids)]

    def loadRes(self, resFile: StrPath | Sequence[Row] | npt.NDArray[Any]) -> COCO:
        """Results on these images, as an object like this one.

        Args:
            resFile: results JSON, its content (rows with ``image_id``, ``category_id``, ``bbox`` and ``score``), or an
                array, see ``loadNumpyAnnotations``. Rows are copied. No results at all are fine.

        Raises:
            DataError: the file cannot be read, a result has no box (masks, key points and captions cannot be scored),
                or is of an image that is not here.
        """
        if isinstance(resFile, np.ndarray):
            rows: Sequence[Row] = self.loadNumpyAnnotations(resFile)
        elif isinstance(resFile, list | tuple):
            rows = resFile
        else:
            rows = read_json(resFile, list)  # type: ignore[arg-type]
        results = COCO()
        results.dataset = {
            "info": copy.deepcopy(self.dataset.get("info", {})),
            "images": list(self.dataset.get("images", [])),
            "categories": copy.deepcopy(self.dataset.get("categories", [])),
            "annotations": [{**row, "iscrowd": 0} for row in box_results(rows, self.imgs)],
        }
        results.createIndex()
        return results

    def loadNumpyAnnotations(self, data: npt.NDArray[Any]) -> list[Row]:
        """Rows of an array (N, 7): image id, x, y, width, height, score, category id.

        Raises:
            DataError: another shape.
        """
        if data.ndim != 2 or data.shape[1] != 7:
            raise DataError(f"an array of results has shape {data.shape}, expected (N, 7)")
        return [
            {"image_id": int(row[0]), "bbox": list(row[1:5]), "score": row[5], "category_id": int(row[6])}
            for row in data
        ]


@dataclass(slots=True)
class Params:
    """Parameters of an evaluation. There are no others: setting one raises ``AttributeError``.

    Attributes:
        iouType: ``bbox``.
        imgIds: images that count.
        catIds: categories that count.
        iouThrs: T IoU thresholds.
        recThrs: R recall thresholds from 0 to 1, not decreasing.
        maxDets: M limits of detections per image and category. ``summarize`` takes the first three, and 100.
        areaRng: A area ranges in square pixels, inclusive at both ends.
        areaRngLbl: names of the area ranges, by which ``summarize`` finds them.
        useCats: 0 = all categories are taken for one.
        useSegm: of old programs; 1 asks for masks.
    """

    iouType: str = "bbox"
    imgIds: Sequence[Any] = field(default_factory=list)
    catIds: Sequence[Any] = field(default_factory=list)
    iouThrs: Sequence[float] | npt.NDArray[np.float64] = field(default_factory=IOU_THRESHOLDS.copy)
    recThrs: Sequence[float] | npt.NDArray[np.float64] = field(default_factory=RECALL_THRESHOLDS.copy)
    maxDets: Sequence[int] = field(default_factory=lambda: list(PROTOCOLS["coco"].max_dets))
    areaRng: Sequence[Sequence[float]] = field(default_factory=lambda: [list(area) for area in AREA_RANGES])
    areaRngLbl: Sequence[str] = field(default_factory=lambda: list(AREA_NAMES))
    useCats: int = 1
    useSegm: int | None = None


class COCOeval:
    """Average precision and recall of boxes: ``evaluate()``, ``accumulate()``, ``summarize()``.

    Attributes:
        cocoGt: ground truth.
        cocoDt: detections.
        params: what to evaluate; change it before ``evaluate()``.
        eval: after ``accumulate()``: ``precision`` and ``scores`` (T, R, K, A, M), ``recall`` (T, K, A, M), all -1
            where a category has no ground truth in an area range; ``params``, ``counts`` [T, R, K, A, M] and ``date``.
        stats: after ``summarize()``: float64 (12,), AP, AP50, AP75, AP of small, medium and large objects, AR at the
            three limits, AR of small, medium and large objects; -1 = undefined.
    """

    def __init__(self, cocoGt: COCO | None = None, cocoDt: COCO | None = None, iouType: str = "segm") -> None:
        """Prepare an evaluation of all images and categories.

        Args:
            cocoGt: ground truth; objects of pycocotools will do.
            cocoDt: detections.
            iouType: ``bbox``. The default is that of pycocotools, and is refused.

        Raises:
            DataError: another ``iouType``.
        """
        self.cocoGt, self.cocoDt = cocoGt, cocoDt
        self.params = Params(iouType)
        self.eval: dict[str, Any] = {}
        self.stats: npt.NDArray[np.float64] | list[float] = []
        self._columns: Columns | None = None
        self._rows: tuple[list[Row], list[Row]] = ([], [])
        self._cells: dict[tuple[Any, Any], tuple[list[Row], list[Row]]] | None = None
        self._ious: dict[tuple[int, int], Any] | None = None
        self._joined: list[Row | None] | None = None
        self._paramsEval = Params(imgIds=[], catIds=[])  # programs that set evalImgs set this too
        _check_type(self.params)
        if cocoGt is not None:
            self.params.imgIds = sorted(cocoGt.getImgIds())
            self.params.catIds = sorted(cocoGt.getCatIds())

    @property
    def evalImgs(self) -> list[Row | None]:
        """After ``evaluate()`` the entries ``evaluateImg`` of each category, area range and image, in this order.

        Programs that evaluate batch by batch join these lists along the images, and set the joined list together with
        ``params.imgIds`` before ``accumulate()``.
        """
        if self._joined is not None:
            return self._joined
        p = self._paramsEval
        return [
            self.evaluateImg(image, category, area, p.maxDets[-1])
            for category in (p.catIds if p.useCats else [-1])
            for area in p.areaRng
            for image in p.imgIds
        ]

    @evalImgs.setter
    def evalImgs(self, entries: Iterable[Row | None]) -> None:
        self._joined = list(entries)

    def evaluateImg(self, imgId: int, catId: int, aRng: Sequence[float], maxDet: int) -> Row | None:
        """What there is of a category in an image after ``evaluate()``, None if nothing.

        Args:
            imgId: the image.
            catId: the category; -1 where ``useCats`` is 0.
            aRng: the area range.
            maxDet: the limit of detections.

        Returns:
            The four arguments as ``image_id``, ``category_id``, ``aRng`` and ``maxDet``, with annotations and results
            as ``truth`` and ``results``. There are no matches: ``accumulate()`` makes them.
        """
        truth, results = self._cell(imgId, catId)
        if not truth and not results:
            return None
        names = {"image_id": imgId, "category_id": catId, "aRng": aRng, "maxDet": maxDet}
        return {**names, "truth": truth, "results": results}

    @property
    def ious(self) -> dict[tuple[int, int], Any]:
        """After ``evaluate()`` the overlaps ``computeIoU`` of each image and category; results do not use them."""
        if self._ious is not None:
            return self._ious
        p = self._paramsEval
        classes = p.catIds if p.useCats else [-1]
        return {(image, category): self.computeIoU(image, category) for image in p.imgIds for category in classes}

    @ious.setter
    def ious(self, overlaps: dict[tuple[int, int], Any]) -> None:
        self._ious = overlaps

    def computeIoU(self, imgId: int, catId: int) -> npt.NDArray[np.float64] | list[float]:
        """Overlaps of a category in an image after ``evaluate()``.

        Args:
            imgId: the image.
            catId: the category; -1 where ``useCats`` is 0.

        Returns:
            IoU (detections, annotations), detections by falling score up to the largest limit; of a crowd the part of
            the detection that lies in it. Empty where there is nothing of either.
        """
        truth, results = self._cell(imgId, catId)
        if not truth or not results:
            return []
        found = sorted(results, key=lambda row: -row["score"])[: self.params.maxDets[-1]]
        x, y, w, h = np.array([row["bbox"] for row in found], np.float64).T[..., None]
        left, top, width, height = np.array([row["bbox"] for row in truth], np.float64).T
        across = np.minimum(x + w, left + width) - np.maximum(x, left)
        down = np.minimum(y + h, top + height) - np.maximum(y, top)
        shared = np.maximum(across, 0) * np.maximum(down, 0)
        crowd = np.array([bool(row.get("iscrowd", 0)) for row in truth])
        union = np.where(crowd, w * h, w * h + width * height - shared)
        return np.divide(shared, union, out=np.zeros_like(shared), where=shared > 0)

    def evaluate(self) -> None:
        """Take images, categories, annotations and detections as they are now, for ``accumulate()``.

        ``params.imgIds``, ``catIds`` and ``maxDets`` are sorted.

        Raises:
            DataError: a parameter is not legal, or annotations lack something.
        """
        p = self.params
        _check_type(p)
        for name in ("imgIds", "catIds", "maxDets"):
            if not len(getattr(p, name)):
                raise DataError(f"params.{name} is empty")
        p.imgIds = sorted(set(p.imgIds))
        p.catIds = sorted(set(p.catIds)) if p.useCats else list(dict.fromkeys(p.catIds))
        p.maxDets = sorted(p.maxDets)
        to_grid(p, _AXES)
        self._prepare()
        self._columns = to_columns(*self._rows, p.imgIds, p.catIds, one_class=not p.useCats)
        self._paramsEval = copy.deepcopy(p)
        self.eval = {}

    def _prepare(self) -> None:
        """Take the rows that count. Programs with an ``evaluate`` of their own call this and ``evaluateImg``."""
        if self.cocoGt is None or self.cocoDt is None:
            raise DataError("COCOeval: evaluate() needs cocoGt and cocoDt")
        p = self.params
        truth, results = (
            coco.loadAnns(coco.getAnnIds(imgIds=p.imgIds, catIds=p.catIds)) for coco in (self.cocoGt, self.cocoDt)
        )
        self._rows = truth, results
        self._cells = self._ious = self._joined = None

    def _cell(self, image: int, category: int) -> tuple[list[Row], list[Row]]:
        """Annotations and results of an image and a category, with what the engine asks of them."""
        if self._cells is None:
            p = self.params
            place = {one: number for number, one in enumerate(p.catIds)}
            self._cells = {}
            for kind, rows in enumerate(self._rows):
                for row in rows if p.useCats else sorted(rows, key=lambda row: place[row["category_id"]]):
                    key = row["image_id"], row["category_id"] if p.useCats else -1
                    needed = {name: row[name] for name in _NEEDED if name in row}
                    self._cells.setdefault(key, ([], []))[kind].append(needed)
        return self._cells.get((image, category), ([], []))

    def accumulate(self, p: Params | None = None) -> None:
        """Fill ``eval``.

        Args:
            p: parameters; None = ``params``. Since ``evaluate()`` only ``recThrs`` may have changed.

        Raises:
            DataError: no ``evaluate()`` before, another parameter has changed, or ``evalImgs`` does not fit.
        """
        p = p or self.params
        columns = self._columns if self._joined is None else _joined_columns(self._joined, p)
        if columns is None:
            raise DataError("COCOeval: call evaluate() before accumulate()")
        check_unchanged(p, self._paramsEval, but=("recThrs",))
        arrays = evaluate_grid(
            columns.gt,
            columns.predictions,
            PROTOCOLS["coco"],
            to_grid(p, _AXES),
            detection_area=columns.detection_area,
            want_scores=True,
        )
        self.eval = {
            "params": p,
            "counts": list(arrays.precision.shape),
            "date": datetime.now().strftime("%Y-%m-%d %H:%M:%S"),
            "precision": arrays.precision,
            "recall": arrays.recall,
            "scores": arrays.scores,
        }

    def summarize(self) -> None:
        """Print the twelve statistics and fill ``stats``.

        As in pycocotools, the first is at 100 detections: it is -1 where ``params.maxDets`` has no 100.

        Raises:
            DataError: no ``accumulate()`` before, fewer than three ``params.maxDets``, or a name of no area range.
        """
        if not self.eval:
            raise DataError("COCOeval: call accumulate() before summarize()")
        if len(self.params.maxDets) < 3:
            raise DataError(f"params.maxDets is {self.params.maxDets}: summarize() needs three; eval has all results")
        first, second, third = self.params.maxDets[:3]
        if len(self.params.areaRngLbl) > len(self.params.areaRng):
            raise DataError(f"params.areaRngLbl is {self.params.areaRngLbl}: there are fewer ranges in params.areaRng")
        wanted = (
            ("precision", None, "all", 100),
            ("precision", 0.5, "all", third),
            ("precision", 0.75, "all", third),
            *(("precision", None, area, third) for area in AREA_NAMES[1:]),
            *(("recall", None, "all", limit) for limit in (first, second, third)),
            *(("recall", None, area, third) for area in AREA_NAMES[1:]),
        )
        self.stats = np.array([self._statistic(*one) for one in wanted])

    def _statistic(self, kind: str, iou: float | None, area: str, limit: int) -> float:
        """Print and return one statistic."""
        p = self.params
        rows = np.flatnonzero(np.equal(p.iouThrs, iou)) if iou is not None else np.arange(len(p.iouThrs))
        areas = [place for place, name in enumerate(p.areaRngLbl) if name == area]
        limits = [place for place, most in enumerate(p.maxDets) if most == limit]
        plane = self.eval[kind][rows][..., areas, limits] if areas and limits else np.empty(0)
        defined = plane[plane > -1]
        value = float(np.mean(defined)) if len(defined) else -1.0
        title = "Average Precision  (AP)" if kind == "precision" else "Average Recall     (AR)"
        span = f"{p.iouThrs[0]:0.2f}:{p.iouThrs[-1]:0.2f}" if iou is None else f"{iou:0.2f}"
        print(f" {title} @[ IoU={span:<9} | area={area:>6s} | maxDets={limit:>3d} ] = {value:0.3f}")
        return value


def _several(values: Some) -> list[Any]:
    """The ids or names that are meant."""
    return list(values) if isinstance(values, Iterable) and not isinstance(values, str) else [values]


def _check_type(p: Params) -> None:
    if p.iouType != "bbox" or p.useSegm:
        name, value = ("iouType", p.iouType) if p.iouType != "bbox" else ("useSegm", p.useSegm)
        raise DataError(f"{name} is {value!r}: only boxes can be evaluated; give iouType='bbox'")


def _joined_columns(entries: Sequence[Row | None], p: Params) -> Columns:
    """Columns of the entries of several evaluations, joined along the images."""
    classes, areas, images = len(p.catIds) if p.useCats else 1, len(p.areaRng), len(p.imgIds)
    if len(entries) != classes * areas * images:
        needed = f"{classes} categories × {areas} area ranges × {images} images"
        raise DataError(f"evalImgs has {len(entries)} entries: expected {needed}")
    rows: tuple[list[Row], list[Row]] = ([], [])
    for category in range(classes):
        start = category * areas * images  # the entries of all area ranges hold the same
        for image, entry in zip(p.imgIds, entries[start : start + images], strict=True):
            if entry is None:
                continue
            if "truth" not in entry or entry["image_id"] != image:
                raise DataError(
                    f"evalImgs: the entry for image {image} is not from evaluate() of that image: "
                    "join only entries that evaluate() made"
                )
            rows[0].extend(entry["truth"])
            rows[1].extend(entry["results"])
    return to_columns(*rows, p.imgIds, p.catIds, one_class=not p.useCats)
