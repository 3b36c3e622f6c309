"""Input types of all metrics: a whole data set as columns, validated on construction."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from ovd_bench.metrics.errors import DataError

IntArray = npt.NDArray[np.integer[Any]]
FloatArray = npt.NDArray[np.floating[Any]]

#: Coordinates beyond this are refused: their products would overflow and turn IoU into NaN.
MAX_COORDINATE = 1e100
_COORDINATE = f"a number within ±{MAX_COORDINATE:g}"


@dataclass(frozen=True)
class Ragged:
    """A list of integer lists as columns: list ``i`` is ``values[offsets[i]:offsets[i + 1]]``.

    Attributes:
        offsets: int64 (n + 1,), non-decreasing, starts at 0.
        values: int32 (offsets[-1],).
    """

    offsets: npt.NDArray[np.int64]
    values: npt.NDArray[np.int32]

    def __post_init__(self) -> None:
        if self.offsets.ndim != 1 or len(self.offsets) == 0 or self.offsets[0] != 0:
            raise DataError("Ragged: offsets must be one-dimensional and start at 0")
        if np.any(np.diff(self.offsets) < 0) or self.offsets[-1] != len(self.values):
            raise DataError("Ragged: offsets must not decrease and must end at len(values)")

    def __len__(self) -> int:
        return len(self.offsets) - 1

    def __getitem__(self, index: int) -> npt.NDArray[np.int32]:
        return self.values[self.offsets[index] : self.offsets[index + 1]]

    def row_index(self) -> npt.NDArray[np.int32]:
        """List number of every value, int32 (len(values),)."""
        return np.repeat(np.arange(len(self), dtype=np.int32), np.diff(self.offsets))

    @staticmethod
    def from_lists(lists: list[list[int]]) -> Ragged:
        """Columns of a list of integer lists."""
        offsets = np.zeros(len(lists) + 1, np.int64)
        np.cumsum([len(x) for x in lists], out=offsets[1:])
        values = np.fromiter((v for x in lists for v in x), np.int32, offsets[-1])
        return Ragged(offsets, values)


@dataclass(frozen=True)
class Texts:
    """Many short texts as columns: text ``i`` is the UTF-8 of ``data[offsets[i]:offsets[i + 1]]``.

    Attributes:
        offsets: int64 (n + 1,), non-decreasing, starts at 0.
        data: uint8 (offsets[-1],).
    """

    offsets: npt.NDArray[np.int64]
    data: npt.NDArray[np.uint8]

    def __post_init__(self) -> None:
        if len(self.offsets) == 0 or self.offsets[0] != 0 or np.any(self.offsets[1:] < self.offsets[:-1]):
            raise DataError("Texts: offsets must start at 0 and must not decrease")
        if self.offsets[-1] != len(self.data):
            raise DataError("Texts: offsets must end at len(data)")

    def __len__(self) -> int:
        return len(self.offsets) - 1

    def __getitem__(self, index: int) -> str:
        return bytes(self.data[self.offsets[index] : self.offsets[index + 1]]).decode()

    @staticmethod
    def of(texts: Sequence[str]) -> Texts:
        """Columns of a list of texts."""
        encoded = [text.encode() for text in texts]
        offsets = np.zeros(len(encoded) + 1, np.int64)
        np.cumsum([len(text) for text in encoded], out=offsets[1:])
        data = np.array(list(b"".join(encoded)), np.uint8)
        return Texts(offsets, data)

    @staticmethod
    def empty(count: int) -> Texts:
        """``count`` empty texts."""
        return Texts(np.zeros(count + 1, np.int64), np.empty(0, np.uint8))


@dataclass(frozen=True)
class Categories:
    """The vocabulary of a ground truth, rows sorted by category id (K rows).

    Attributes:
        ids: int64 (K,), strictly increasing.
        names: K names.
        frequency: K letters ``r``/``c``/``f`` (LVIS), empty strings where the file has none.
        image_count: int64 (K,), training images per class, -1 where the file has none.
        synset: K WordNet synset names, empty where the file has none.
        synonyms: K tuples of synonyms.
        supercategory: K names, empty where the file has none.
    """

    ids: npt.NDArray[np.int64]
    names: tuple[str, ...]
    frequency: tuple[str, ...]
    image_count: npt.NDArray[np.int64]
    synset: tuple[str, ...]
    synonyms: tuple[tuple[str, ...], ...]
    supercategory: tuple[str, ...]

    def __post_init__(self) -> None:
        n = len(self.ids)
        for field in ("names", "frequency", "image_count", "synset", "synonyms", "supercategory"):
            if len(getattr(self, field)) != n:
                raise DataError(f"Categories: {field} has {len(getattr(self, field))} rows, ids has {n}")
        if np.any(self.ids[1:] <= self.ids[:-1]):  # a difference could overflow
            raise DataError("Categories: ids must be strictly increasing")

    def __len__(self) -> int:
        return len(self.ids)

    @staticmethod
    def plain(ids: npt.ArrayLike, names: list[str] | None = None, frequency: str | None = None) -> Categories:
        """Categories with names (default: the id as text) and, optionally, one frequency letter per class."""
        array = np.asarray(ids, np.int64)
        n = len(array)
        return Categories(
            ids=array,
            names=tuple(names) if names is not None else tuple(str(i) for i in array),
            frequency=tuple(frequency) if frequency is not None else ("",) * n,
            image_count=np.full(n, -1, np.int64),
            synset=("",) * n,
            synonyms=((),) * n,
            supercategory=("",) * n,
        )


@dataclass(frozen=True)
class GroundTruth:
    """Boxes and federated lists of a data set as columns. Images and categories are referred to by position.

    Attributes:
        image_ids: int64 (I,), strictly increasing.
        image_sizes: int32 (I, 2) width, height in pixels; 0 where unknown.
        categories: the vocabulary (K classes).
        ann_ids: int64 (N,), annotation ids in file order.
        image_index: int32 (N,), position in ``image_ids``.
        class_index: int32 (N,), position in ``categories``.
        boxes_xywh: float64 (N, 4), absolute pixels.
        area: float64 (N,), the file's ``area`` field (mask area in LVIS and COCO).
        iscrowd: bool (N,).
        ignore: bool (N,), the file's optional ``ignore`` field.
        neg: per image, classes verified absent (class positions); all empty for COCO.
        not_exhaustive: per image, classes not exhaustively annotated (class positions); all empty for COCO.
        federated: True when the file carries the two lists (LVIS).
        image_files: I file names as the file gives them (``file_name``, else ``coco_url``), not to be trusted as paths;
            empty where it gives none. None: not known.
        image_names: I image ids as the file gives them, if they are texts; ``image_ids`` are numbers made for them.
        notes: one-line remarks of the reader on what it dropped or found odd.
    """

    image_ids: npt.NDArray[np.int64]
    image_sizes: npt.NDArray[np.int32]
    categories: Categories
    ann_ids: npt.NDArray[np.int64]
    image_index: npt.NDArray[np.int32]
    class_index: npt.NDArray[np.int32]
    boxes_xywh: npt.NDArray[np.float64]
    area: npt.NDArray[np.float64]
    iscrowd: npt.NDArray[np.bool_]
    ignore: npt.NDArray[np.bool_]
    neg: Ragged
    not_exhaustive: Ragged
    federated: bool
    notes: tuple[str, ...] = ()
    image_files: Texts | None = None
    image_names: Texts | None = None

    def __post_init__(self) -> None:
        n, images, classes = len(self.ann_ids), len(self.image_ids), len(self.categories)
        for field in ("image_index", "class_index", "boxes_xywh", "area", "iscrowd", "ignore"):
            if len(getattr(self, field)) != n:
                raise DataError(f"GroundTruth: {field} has {len(getattr(self, field))} rows, ann_ids has {n}")
        if self.boxes_xywh.shape != (n, 4):
            raise DataError(f"GroundTruth: boxes_xywh has shape {self.boxes_xywh.shape}, expected ({n}, 4)")
        if np.any(self.image_ids[1:] <= self.image_ids[:-1]):
            raise DataError("GroundTruth: image_ids must be strictly increasing")
        if len(self.image_sizes) != images or len(self.neg) != images or len(self.not_exhaustive) != images:
            raise DataError("GroundTruth: image_sizes, neg and not_exhaustive need one row per image")
        if self.image_files is not None and len(self.image_files) != images:
            raise DataError(f"GroundTruth: image_files has {len(self.image_files)} rows, image_ids has {images}")
        if self.image_names is not None and len(self.image_names) != images:
            raise DataError(f"GroundTruth: image_names has {len(self.image_names)} rows, image_ids has {images}")
        _check_range("image_index", self.image_index, images)
        _check_range("class_index", self.class_index, classes)
        _check_range("neg", self.neg.values, classes)
        _check_range("not_exhaustive", self.not_exhaustive.values, classes)
        _check_boxes("GroundTruth", self.boxes_xywh)
        if not np.all(np.isfinite(self.area)):
            raise DataError(f"GroundTruth: area of annotation {int(np.argmin(np.isfinite(self.area)))} is not finite")

    @property
    def num_images(self) -> int:
        """Number of images I."""
        return len(self.image_ids)

    @property
    def num_classes(self) -> int:
        """Number of classes K."""
        return len(self.categories)


@dataclass(frozen=True)
class Predictions:
    """Detections of a data set as columns, in file order (N rows).

    Attributes:
        image_id: int64 (N,).
        category_id: int32 (N,).
        score: float32 or float64 (N,), finite.
        x, y, w, h: same type as ``score`` (N,), COCO xywh in absolute pixels, finite.
            Columns need not be contiguous with each other; each is contiguous in itself.
        phrase: optional N texts (free-text output).
        notes: one-line remarks of the reader on what it found odd.
    """

    image_id: npt.NDArray[np.int64]
    category_id: npt.NDArray[np.int32]
    score: FloatArray
    x: FloatArray
    y: FloatArray
    w: FloatArray
    h: FloatArray
    phrase: npt.NDArray[np.object_] | None = None
    notes: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        n = len(self.image_id)
        if self.score.dtype not in (np.float32, np.float64):
            raise DataError(f"Predictions: score must be float32 or float64, not {self.score.dtype}")
        for field in ("image_id", "category_id", "score", "x", "y", "w", "h"):
            column = getattr(self, field)
            if column.shape != (n,):
                raise DataError(f"Predictions: {field} has shape {column.shape}, expected ({n},)")
            if not column.flags.c_contiguous:
                raise DataError(f"Predictions: {field} must be contiguous")
            if field in ("x", "y", "w", "h") and column.dtype != self.score.dtype:
                raise DataError(f"Predictions: {field} is {column.dtype}, score is {self.score.dtype}")
        if self.image_id.dtype != np.int64 or self.category_id.dtype != np.int32:
            raise DataError("Predictions: image_id must be int64 and category_id int32")
        if self.phrase is not None and len(self.phrase) != n:
            raise DataError(f"Predictions: phrase has {len(self.phrase)} rows, expected {n}")
        for field, limit in (("score", np.inf), *((f, MAX_COORDINATE) for f in "xywh")):
            # min and max propagate NaN and need no temporary of the column's size
            column = getattr(self, field)
            if n and not (-limit < float(column.min()) and float(column.max()) < limit):
                with np.errstate(invalid="ignore"):  # finds the NaN
                    row = int(np.argmax(~(np.abs(column.astype(np.float64)) < limit)))
                need = "a finite number" if limit == np.inf else _COORDINATE
                raise DataError(f"record {row}: {field} is {column[row]}, {need} is needed")

    def __len__(self) -> int:
        return len(self.image_id)

    @staticmethod
    def from_boxes(
        image_id: npt.ArrayLike, category_id: npt.ArrayLike, score: npt.ArrayLike, boxes_xywh: npt.ArrayLike
    ) -> Predictions:
        """Columns from (N,), (N,), (N,) and (N, 4) arrays; floats become float64 unless ``score`` is float32."""
        score_array = np.ascontiguousarray(score)
        dtype = np.float32 if score_array.dtype == np.float32 else np.float64
        boxes = np.asarray(boxes_xywh, dtype).reshape(-1, 4)
        x, y, w, h = (np.ascontiguousarray(boxes[:, i]) for i in range(4))
        return Predictions(
            np.ascontiguousarray(image_id, np.int64),
            np.ascontiguousarray(category_id, np.int32),
            score_array.astype(dtype, copy=False),
            x,
            y,
            w,
            h,
        )

    def take(self, rows: npt.NDArray[Any]) -> Predictions:
        """The given rows (boolean mask or positions), in that order."""
        return Predictions(
            self.image_id[rows],
            self.category_id[rows],
            self.score[rows],
            self.x[rows],
            self.y[rows],
            self.w[rows],
            self.h[rows],
            None if self.phrase is None else self.phrase[rows],
        )

    def boxes_xyxy(self) -> npt.NDArray[np.float64]:
        """Boxes as float64 (N, 4) absolute xyxy."""
        x, y = self.x.astype(np.float64), self.y.astype(np.float64)
        return np.stack([x, y, x + self.w, y + self.h], axis=1)


def _check_range(field: str, values: IntArray, limit: int) -> None:
    if len(values) and (int(values.min()) < 0 or int(values.max()) >= limit):
        row = int(np.argmax((values < 0) | (values >= limit)))
        raise DataError(f"GroundTruth: {field}[{row}] is {int(values[row])}, expected 0 … {limit - 1}")


def _check_boxes(owner: str, boxes: FloatArray) -> None:
    bad = ~(np.abs(boxes) < MAX_COORDINATE)
    if bad.any():
        row, column = (int(i) for i in np.argwhere(bad)[0])
        raise DataError(f"{owner}: box {row} has {'xywh'[column]} = {boxes[row, column]}, {_COORDINATE} is needed")


def positions(ids: npt.NDArray[np.int64], values: IntArray) -> npt.NDArray[np.int32]:
    """Position of every value in the increasing ``ids``, -1 where it is not among them; int32 (len(values),)."""
    if len(ids) == 0:
        return np.full(len(values), -1, np.int32)
    found = np.searchsorted(ids, values)
    found[found == len(ids)] = 0
    return np.where(ids[found] == values, found, -1).astype(np.int32)
