"""Annotations and results as the official evaluators hold them, lists of dictionaries; their conversion to columns."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from ovd_bench.benchmarks.api.errors import file_errors
from ovd_bench.benchmarks.api.paths import StrPath
from ovd_bench.metrics.errors import DataError
from ovd_bench.metrics.types import Categories, GroundTruth, Predictions, Ragged

#: An image, a category, an annotation or a result.
Row = dict[str, Any]


@dataclass(frozen=True)
class Columns:
    """What the scoring engine takes. Images and classes are named by their place among those asked for.

    Attributes:
        gt: ground truth.
        predictions: detections, float64.
        detection_area: float64 (N,) square pixels, the results' ``area``.
    """

    gt: GroundTruth
    predictions: Predictions
    detection_area: npt.NDArray[np.float64]


@file_errors()
def read_json(path: StrPath, kind: type[dict[str, Any]] | type[list[Any]]) -> Any:
    """Content of a JSON file.

    Args:
        path: the file.
        kind: what its outermost value has to be.

    Raises:
        DataError: it cannot be read, or is something else.
    """
    try:
        content = json.loads(Path(path).read_bytes())
    except ValueError as error:  # also of an encoding
        raise DataError(f"{path}: not JSON: {error}") from error
    if not isinstance(content, kind):
        need = "an object" if kind is dict else "an array"
        raise DataError(f"{path}: expected {need}, found a {type(content).__name__}")
    return content


def box_results(results: Iterable[Mapping[str, Any]], image_ids: Iterable[Any]) -> list[Row]:
    """Copies of results with ``id`` (from 1) and ``area`` (square pixels).

    Args:
        results: rows with ``image_id`` and ``bbox`` (xywh in pixels).
        image_ids: of the annotations.

    Raises:
        DataError: a result without box, or of an unknown image.
    """
    known, rows = set(image_ids), list[Row]()
    for number, result in enumerate(results):
        try:
            _, _, width, height = result["bbox"]
            image = result["image_id"]
        except (KeyError, TypeError, ValueError) as error:
            raise DataError(f"result {number}: expected 'image_id' and 'bbox' of four numbers") from error
        if image not in known:
            raise DataError(f"result {number}: image_id {image} is not among the annotations' images")
        rows.append({**result, "area": width * height, "id": number + 1})
    return rows


def to_columns(
    truth: Sequence[Row],
    results: Sequence[Row],
    images: Sequence[Any],
    classes: Sequence[Any],
    *,
    one_class: bool = False,
    absent: Sequence[Sequence[Any]] | None = None,
    not_exhaustive: Sequence[Sequence[Any]] | None = None,
) -> Columns:
    """Columns of annotations and results.

    Args:
        truth: annotations of these images and classes; ``bbox`` xywh in pixels, ``area`` in square pixels.
        results: results of these images and classes, with ``score``.
        images: ids, different ones.
        classes: ids, different ones.
        one_class: take all classes for one; where scores tie, their order counts.
        absent: per image, ids of classes verified absent; together with ``not_exhaustive``, for LVIS rules.
        not_exhaustive: per image, ids of classes not annotated exhaustively.

    Raises:
        DataError: a key is missing, or something is no number.
    """
    place_of_image = {image: place for place, image in enumerate(images)}
    place_of_class = {category: place for place, category in enumerate(classes)}

    def ints(rows: Sequence[Row], what: str, key: str, places: dict[Any, int]) -> npt.NDArray[np.int64]:
        return np.array([places[value] for value in _values(rows, what, key)], np.int64)

    def by_class(rows: Sequence[Row], what: str) -> Sequence[Row]:
        return sorted(rows, key=lambda row: place_of_class[row["category_id"]]) if one_class else rows

    def lists(ids: Sequence[Sequence[Any]] | None) -> Ragged:
        found = ids if ids is not None else [()] * len(images)
        return Ragged.from_lists([[place_of_class[i] for i in one if i in place_of_class] for one in found])

    truth, results = by_class(truth, "annotation"), by_class(results, "result")
    truth_class = ints(truth, "annotation", "category_id", place_of_class)
    result_class = ints(results, "result", "category_id", place_of_class)
    if one_class:
        truth_class[:], result_class[:] = 0, 0
    gt = GroundTruth(
        image_ids=np.arange(len(images), dtype=np.int64),
        image_sizes=np.zeros((len(images), 2), np.int32),
        categories=Categories.plain(np.arange(1 if one_class else len(classes))),
        # The engine asks of an id only whether it is 0: that reads as "no match" in the official evaluators.
        ann_ids=np.array([row.get("id") != 0 for row in truth], np.int64),
        image_index=ints(truth, "annotation", "image_id", place_of_image).astype(np.int32),
        class_index=truth_class.astype(np.int32),
        boxes_xywh=_floats(truth, "annotation", "bbox").reshape(-1, 4),
        area=_floats(truth, "annotation", "area"),
        iscrowd=np.array([bool(row.get("iscrowd", 0)) for row in truth], np.bool_),
        ignore=np.array([bool(row.get("ignore", 0)) for row in truth], np.bool_),
        neg=lists(absent),
        not_exhaustive=lists(not_exhaustive),
        federated=absent is not None,
    )
    for row in results:
        if not row.get("id", 1) > 0:
            raise DataError(f"result with id {row['id']}: expected ids from 1 up, as loadRes assigns them")
    predictions = Predictions.from_boxes(
        ints(results, "result", "image_id", place_of_image),
        result_class.astype(np.int32),
        _floats(results, "result", "score"),
        _floats(results, "result", "bbox"),
    )
    return Columns(gt, predictions, _floats(results, "result", "area"))


def _values(rows: Sequence[Row], what: str, key: str) -> list[Any]:
    try:
        return [row[key] for row in rows]
    except KeyError as error:
        row = next(row for row in rows if key not in row)
        raise DataError(f"{what} with id {row.get('id')}: no '{key}'") from error


def _floats(rows: Sequence[Row], what: str, key: str) -> npt.NDArray[np.float64]:
    """Numbers (N,), or boxes (N, 4)."""
    width = 4 if key == "bbox" else 1
    values = _values(rows, what, key)
    try:
        array = np.array(values, np.float64).reshape(len(rows), width)
    except (TypeError, ValueError) as error:
        bad = next((row for row, value in zip(rows, values, strict=True) if np.size(value) != width), rows[0])
        raise DataError(f"{what} with id {bad.get('id')}: '{key}' is {bad[key]}, expected {width} numbers") from error
    return array if width == 4 else array[:, 0]
