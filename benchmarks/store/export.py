"""Predictions in the formats of other tools: results JSON, tables, YOLO, FiftyOne, supervision."""

from __future__ import annotations

import csv
import io
import json
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
import numpy.typing as npt

from ovd_bench.benchmarks.data.files.annotations import read_ground_truth
from ovd_bench.benchmarks.data.files.atomic import atomic_write
from ovd_bench.benchmarks.data.files.predictions import write_predictions
from ovd_bench.benchmarks.data.images import image_file, image_paths
from ovd_bench.benchmarks.store.prediction_source import Source
from ovd_bench.metrics.errors import DataError
from ovd_bench.metrics.types import GroundTruth, Predictions


@dataclass(frozen=True)
class Named:
    """Predictions with the names of their classes and images (N rows).

    Attributes:
        gt: the images that the predictions cover, and the classes.
        predictions: to export.
        files: path of each image of ``gt`` below the folder of the images.
        image: int64 (N,), position of each row's image in ``gt``.
        label: int64 (N,), position of each row's class in ``gt.categories``.
    """

    gt: GroundTruth
    predictions: Predictions
    files: list[str]
    image: npt.NDArray[np.int64]
    label: npt.NDArray[np.int64]

    @staticmethod
    def read(path: Path, annotations: Path) -> Named:
        """The predictions of a run or file, sorted by image, then by score.

        Raises:
            DataError: bad input, or a row whose image or class is not in the annotations.
        """
        source = Source.of(path)
        everything = read_ground_truth(annotations)
        predictions = source.read(everything)
        gt, _ = source.covered(everything, annotations)
        found = {}
        for what, values, known in (
            ("image_id", predictions.image_id, gt.image_ids),
            ("category_id", predictions.category_id, gt.categories.ids),
        ):
            place = np.searchsorted(known, values)
            wrong = known[np.minimum(place, len(known) - 1)] != values if len(known) else np.ones(len(values), np.bool_)
            if wrong.any():
                row = int(np.argmax(wrong))
                raise DataError(f"{path}: record {row}: {what} {values[row]} is not in {annotations}")
            found[what] = place
        order = np.lexsort((-predictions.score, found["image_id"]))
        image, label = found["image_id"][order], found["category_id"][order]
        return Named(gt, predictions.take(order), image_paths(gt), image, label)

    def boxes_xywh(self) -> npt.NDArray[np.float64]:
        """float64 (N, 4), absolute pixels."""
        rows = self.predictions
        return np.stack([rows.x, rows.y, rows.w, rows.h], axis=1).astype(np.float64)

    def starts(self) -> npt.NDArray[np.int64]:
        """int64 (I + 1,): the rows of image i are ``starts[i]`` to ``starts[i + 1]``."""
        return np.searchsorted(self.image, np.arange(len(self.files) + 1))

    def sizes(self) -> npt.NDArray[np.int64]:
        """int64 (I, 2), width and height.

        Raises:
            DataError: the annotations have no size for an image.
        """
        sizes = self.gt.image_sizes.astype(np.int64)
        unknown = np.flatnonzero((sizes <= 0).any(axis=1))
        if len(unknown):
            raise DataError(f"image {self.gt.image_ids[unknown[0]]} has no width and height in the annotations")
        return sizes


def write_results(named: Named, path: Path) -> None:
    """The results JSON that pycocotools and lvis-api read. It has class ids; their names are in the annotations."""
    write_predictions(path, named.predictions)


def write_csv(named: Named, path: Path) -> None:
    """A row per box: ``image_id, file_name, category_id, category, score, x, y, w, h``, and ``phrase`` if there is one.

    Numbers have all their digits.
    """
    text = io.StringIO(newline="")
    writer = csv.writer(text, lineterminator="\n")
    columns = _columns(named)
    writer.writerow(columns)
    writer.writerows(zip(*columns.values(), strict=True))
    with atomic_write(path) as file:
        file.write(text.getvalue().encode())


def write_parquet(named: Named, path: Path) -> None:
    """The columns of ``write_csv`` as Parquet; 'bench score' reads it too."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    rows = named.predictions
    real = pa.float32() if rows.score.dtype == np.float32 else pa.float64()
    types = {"image_id": pa.int64(), "category_id": pa.int32(), **dict.fromkeys(("score", "x", "y", "w", "h"), real)}
    columns = _columns(named)
    table = pa.table({name: pa.array(values, types.get(name, pa.string())) for name, values in columns.items()})
    with atomic_write(path) as file:
        pq.write_table(table, file, compression="zstd")


def _columns(named: Named) -> dict[str, list[Any]]:
    rows, names = named.predictions, named.gt.categories.names
    columns: dict[str, list[Any]] = {
        "image_id": rows.image_id.tolist(),
        "file_name": [named.files[i] for i in named.image.tolist()],
        "category_id": rows.category_id.tolist(),
        "category": [names[k] for k in named.label.tolist()],
        **{name: getattr(rows, name).tolist() for name in ("score", "x", "y", "w", "h")},
    }
    return columns if rows.phrase is None else {**columns, "phrase": list(rows.phrase)}


def write_yolo(named: Named, folder: Path) -> None:
    """``labels/<image>.txt`` with a line ``class x_centre y_centre width height score`` per box, and ``classes.txt``.

    Coordinates are shares of the image's width and height. A class is its line in ``classes.txt``, counted from 0. An
    image without boxes has an empty file.

    Raises:
        DataError: ``labels`` exists, two images share a name but for the suffix, or a name is no path inside it.
    """
    sizes, starts = named.sizes(), named.starts()
    labels = folder / "labels"
    if labels.exists():
        raise DataError(f"{labels}: exists already: name another folder")
    targets = [image_file(labels, str(PurePosixPath(name).with_suffix(".txt"))) for name in named.files]
    if twice := len(targets) - len(set(targets)):
        raise DataError(f"{twice} images have the name of another one but for the suffix: YOLO cannot tell them apart")
    boxes = named.boxes_xywh()
    boxes[:, :2] += boxes[:, 2:] / 2
    boxes /= np.tile(sizes[named.image], 2)
    for image, target in enumerate(targets):
        target.parent.mkdir(parents=True, exist_ok=True)
        rows = slice(*starts[image : image + 2])
        numbers = np.column_stack([boxes[rows], named.predictions.score[rows]]).tolist()
        lines = [
            f"{label} {' '.join(f'{number:.8g}' for number in line)}\n"
            for label, line in zip(named.label[rows].tolist(), numbers, strict=True)
        ]
        target.write_bytes("".join(lines).encode())
    with atomic_write(folder / "classes.txt") as file:
        file.write("".join(f"{' '.join(name.split())}\n" for name in named.gt.categories.names).encode())


def write_fiftyone(named: Named, folder: Path) -> None:
    """``labels.json``: the COCO detection format with images, classes and boxes, each box with its ``score``.

    FiftyOne's COCODetectionDataset reads it, with the images' folder as its data path.
    """
    categories, rows = named.gt.categories, named.predictions
    images = [
        {"id": image, "file_name": name, "width": width, "height": height}
        for image, name, (width, height) in zip(
            named.gt.image_ids.tolist(), named.files, named.sizes().tolist(), strict=True
        )
    ]
    classes = [
        {"id": k, "name": name, "supercategory": above or None}
        for k, name, above in zip(categories.ids.tolist(), categories.names, categories.supercategory, strict=True)
    ]
    columns = (rows.image_id, rows.category_id, rows.score, named.boxes_xywh())
    boxes = [
        {
            "id": number,
            "image_id": image,
            "category_id": label,
            "bbox": box,
            "area": box[2] * box[3],
            "iscrowd": 0,
            "score": score,
        }
        for number, (image, label, score, box) in enumerate(zip(*(c.tolist() for c in columns), strict=True), 1)
    ]
    document = {"info": {}, "licenses": [], "images": images, "categories": classes, "annotations": boxes}
    folder.mkdir(parents=True, exist_ok=True)
    with atomic_write(folder / "labels.json") as file:
        file.write(json.dumps(document, ensure_ascii=False, allow_nan=False).encode() + b"\n")


def write_supervision(named: Named, path: Path) -> None:
    """Arrays (npz, no pickle) of which ``supervision.Detections`` is made, image by image.

    ``xyxy`` float32 (N, 4), ``confidence`` float32 (N,), ``class_id`` int64 (N,): position in ``class_names`` (K,);
    ``image_id`` int64 (I,), ``file_name`` (I,); the rows of image i are ``starts[i]`` to ``starts[i + 1]``.
    """
    boxes = named.boxes_xywh()
    boxes[:, 2:] += boxes[:, :2]
    with atomic_write(path) as file:
        np.savez(
            file,
            xyxy=boxes.astype(np.float32),
            confidence=named.predictions.score.astype(np.float32),
            class_id=named.label.astype(np.int64),
            class_names=np.array(named.gt.categories.names, np.str_),
            image_id=named.gt.image_ids,
            file_name=np.array(named.files, np.str_),
            starts=named.starts(),
        )


#: What ``bench export --to`` writes.
WRITERS = {
    "coco": write_results,
    "lvis": write_results,
    "csv": write_csv,
    "parquet": write_parquet,
    "yolo": write_yolo,
    "fiftyone": write_fiftyone,
    "supervision": write_supervision,
}
