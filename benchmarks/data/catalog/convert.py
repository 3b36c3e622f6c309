"""Conversion of annotation files."""

from __future__ import annotations

import json
from collections.abc import Callable, Collection
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np

from ovd_bench.benchmarks.data.catalog.json_document import JsonDocument
from ovd_bench.benchmarks.data.files.annotations import parse_ground_truth
from ovd_bench.benchmarks.data.files.atomic import atomic_write, file_sha256
from ovd_bench.metrics.errors import DataError
from ovd_bench.metrics.types import GroundTruth


@dataclass(frozen=True)
class Facts:
    """Counts of an annotation file.

    Attributes:
        path, sha256: the file.
        images, classes, boxes: counts.
        rare, rare_with_boxes: classes of frequency ``r``, and those of them that have a box; None without frequencies.
        classes_with_boxes: classes that have a box.
    """

    path: Path
    sha256: str
    images: int
    classes: int
    boxes: int
    classes_with_boxes: int
    rare: int | None
    rare_with_boxes: int | None


def facts_of(path: Path, gt: GroundTruth) -> Facts:
    """Counts of an annotation file that has been read."""
    present = np.zeros(gt.num_classes, np.bool_)
    present[gt.class_index] = True
    rare = np.array([letter == "r" for letter in gt.categories.frequency])
    known = any(gt.categories.frequency)
    return Facts(
        path=path,
        sha256=file_sha256(path),
        images=gt.num_images,
        classes=gt.num_classes,
        boxes=len(gt.ann_ids),
        classes_with_boxes=int(present.sum()),
        rare=int(rare.sum()) if known else None,
        rare_with_boxes=int((rare & present).sum()) if known else None,
    )


def derive_minival(lvis_val: Path, target: Path) -> Facts:
    """Cut LVIS minival out of LVIS v1 val: the images whose ``coco_url`` lies in ``val2017``, and their annotations.

    This is MDETR's definition (ashkamath/mdetr, ``.github/lvis.md``): val without the images of COCO train2017. Both
    lists of every image, all categories and all other fields are unchanged.

    Raises:
        DataError: not an LVIS v1 file, an image from neither COCO folder, or no image of val2017.
    """

    def of_val2017(image: dict[str, Any]) -> bool:
        folder = _coco_path(image)[0]
        if folder not in ("train2017", "val2017"):
            raise DataError(f"coco_url is in folder '{folder[:40]}', but LVIS v1 val has only train2017 and val2017")
        if "neg_category_ids" not in image or "not_exhaustive_category_ids" not in image:
            raise DataError("neg_category_ids or not_exhaustive_category_ids is missing: this is not an LVIS file")
        return folder == "val2017"

    return _cut(lvis_val, target, of_val2017)


def cut_images(source: Path, target: Path, image_ids: Collection[int]) -> Facts:
    """Keep the images with the given ids, and their annotations; everything else is unchanged.

    Raises:
        DataError: an id that the file does not have.
    """
    wanted = frozenset(image_ids)
    return _cut(source, target, lambda image: image["id"] in wanted, wanted)


def read_ids(path: Path) -> list[int]:
    """Image ids of a text file, one per line.

    Raises:
        DataError: unreadable, or a line that is not an integer.
    """
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except OSError as error:
        raise DataError(f"{path}: cannot be read: {error.strerror}") from error
    except UnicodeDecodeError:
        raise DataError(f"{path}: is not UTF-8, a text file with one image id per line is needed") from None
    ids = []
    for number, line in enumerate(lines, 1):
        if line.strip():
            try:
                ids.append(int(line))
            except ValueError:
                raise DataError(f"{path}: line {number}: {line[:40]!r} is not an image id") from None
    return ids


def insert_file_names(source: Path, target: Path) -> Facts:
    """Give every image of an LVIS file a ``file_name``: the last two parts of its ``coco_url``, as GLIP's files have.

    Raises:
        DataError: an image without ``coco_url``.
    """

    def named(image: dict[str, Any], _text: str) -> str:
        return json.dumps(image | {"file_name": "/".join(_coco_path(image))}, separators=(",", ":"))

    JsonDocument(source).write(target, {"images": named})
    return facts_of(target, parse_ground_truth(target))


def correct_objects365_names(source: Path, target: Path) -> Facts:
    """Correct the class names of an annotation file of Objects365, as training files have them; the rest is unchanged.

    Raises:
        DataError: a category without a name.
    """
    from ovd_bench.benchmarks.data.odvg.objects365 import repaired_name

    def corrected(category: dict[str, Any], text: str) -> str:
        name = category.get("name")
        if not isinstance(name, str):
            raise DataError("field 'name' is missing or no text")
        right = repaired_name(name)
        return text if right == name else json.dumps(category | {"name": right}, separators=(",", ":"))

    JsonDocument(source).write(target, {"categories": corrected})
    return facts_of(target, parse_ground_truth(target))


def grounding_lines(source: Path, target: Path, kind: Literal["phrases", "expressions"]) -> int:
    """Write a document of MDETR as the suite's grounding JSON Lines; returns the number of phrases.

    Raises:
        DataError: a document that ``benchmarks.data.files.grounding`` does not accept.
    """
    from ovd_bench.benchmarks.data.files.grounding import read_mdetr_expressions, read_mdetr_phrases

    truth = read_mdetr_phrases(source) if kind == "phrases" else read_mdetr_expressions(source)
    with atomic_write(target) as file:
        for row, phrase_id in enumerate(truth.phrase_ids.tolist()):
            begin, end = truth.box_offsets[row : row + 2].tolist()
            line = {
                "phrase_id": phrase_id,
                "image_id": int(truth.image_id[row]),
                "entity_types": [truth.type_names[i] for i in truth.types[row]],
                "boxes": truth.boxes_xywh[begin:end].tolist(),
            }
            file.write((json.dumps(line, ensure_ascii=False) + "\n").encode())
    return len(truth.phrase_ids)


def _cut(
    source: Path, target: Path, keep: Callable[[dict[str, Any]], bool], wanted: Collection[int] = frozenset()
) -> Facts:
    document = JsonDocument(source)
    kept: set[int] = set()

    def choose(image: dict[str, Any]) -> None:
        if not isinstance(image.get("id"), int):
            raise DataError("field 'id' is missing or no integer")
        if keep(image):
            kept.add(image["id"])

    document.visit("images", choose)  # before the annotations, which may come first
    if missing := set(wanted) - kept:
        raise DataError(
            f"{source}: has no image {min(missing)}, and lacks {len(missing) - 1:,} more of the images to keep"
        )
    if not kept:
        raise DataError(f"{source}: it has none of the images to keep")
    document.write(
        target,
        {
            "images": lambda image, text: text if image["id"] in kept else None,
            "annotations": lambda record, text: text if record.get("image_id") in kept else None,
        },
    )
    return facts_of(target, parse_ground_truth(target))


def _coco_path(image: dict[str, Any]) -> tuple[str, str]:
    """Folder and file name at the end of ``coco_url``."""
    url = image.get("coco_url")
    parts = url.split("/")[-2:] if isinstance(url, str) else []
    if len(parts) < 2 or not all(parts):
        raise DataError("field 'coco_url' is missing or no address: LVIS v1 files have one")
    return parts[0], parts[1]
