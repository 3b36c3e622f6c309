"""Ground truth files: LVIS v1 / v0.5 and COCO instances JSON."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
import numpy.typing as npt

from ovd_bench.benchmarks.data.files.annotation_cache import load_cached, store_cached
from ovd_bench.benchmarks.data.files.atomic import content_kind, file_sha256
from ovd_bench.benchmarks.data.files.ids import sorted_unique
from ovd_bench.benchmarks.data.files.native import BLOCK_BYTES, read_columns
from ovd_bench.benchmarks.data.files.odd_json import rewritten_annotations
from ovd_bench.benchmarks.data.files.queries import is_query_file, read_queries
from ovd_bench.metrics.errors import DataError, LimitError
from ovd_bench.metrics.types import GroundTruth, Ragged, Texts, positions

#: Smaller files are read in a few milliseconds and are not cached.
CACHE_MIN_BYTES = 256 << 10

_Ints = npt.NDArray[np.int64]
_LISTS = ("neg_category_ids", "not_exhaustive_category_ids")


def read_ground_truth(path: Path, *, cache: bool = True) -> GroundTruth:
    """Read an annotation file.

    An image without ``neg_category_ids`` and ``not_exhaustive_category_ids`` makes the data set a COCO one; all images
    need both lists or none. As in the official evaluators, annotations of images or categories that the file does not
    declare are left out; ``GroundTruth.notes`` reports this and everything else that was skipped.

    Args:
        path: the JSON file.
        cache: keep the columns of large files in the user's cache, under the sha256 of the file.

    Raises:
        DataError: anything wrong with the file; one line with file, section, record number and field.
    """
    if is_query_file(path):
        return read_queries(path).queries.truth
    kind = content_kind(path)
    if kind != "JSON":
        raise DataError(f"{path}: an annotation file is JSON, this is {kind}")
    if not cache or path.stat().st_size < CACHE_MIN_BYTES:
        return parse_ground_truth(path)
    sha256 = file_sha256(path)
    cached = load_cached(sha256)
    if cached is None:
        cached = parse_ground_truth(path)
        store_cached(sha256, cached)
    return cached


def parse_ground_truth(path: Path, *, threads: int = 0, block_bytes: int = BLOCK_BYTES) -> GroundTruth:
    """Read an annotation file without the cache. The result depends on neither ``threads`` nor ``block_bytes``."""
    try:
        return _parse(path, threads, block_bytes)
    except LimitError:
        raise
    except DataError:
        with rewritten_annotations(path) as regular:
            if regular is None:
                raise
            try:
                truth = _parse(regular.path, threads, block_bytes)
            except DataError as error:
                raise DataError(str(error).replace(str(regular.path), str(path))) from None
            names = _names_of(truth, regular.image_names)
        return replace(truth, notes=(*regular.notes, *truth.notes), image_names=names)


def _names_of(truth: GroundTruth, names: Mapping[int, str]) -> Texts | None:
    return Texts.of([names[image] for image in truth.image_ids.tolist()]) if names else None


def _parse(path: Path, threads: int, block_bytes: int) -> GroundTruth:
    from ovd_bench.benchmarks.data.files.categories import (
        read_categories,  # a cached file does not need pydantic, which takes time to import
    )

    columns = read_columns("read_annotations", 17, path, threads, block_bytes)
    image_ids = columns.take(np.int64)
    lengths = [columns.take(np.int64) for _ in _LISTS]
    values = [columns.take(np.int64) for _ in _LISTS]
    width, height = columns.take(np.int32), columns.take(np.int32)
    name_ends, name_text = columns.take(np.int64), columns.take(np.uint8)
    ann_ids, ann_image, ann_category = (columns.take(np.int64) for _ in range(3))
    boxes, area = columns.take(np.float64).reshape(-1, 4), columns.take(np.float64)
    crowd, ignore = columns.take(np.int8), columns.take(np.bool_)
    notes: list[str] = []
    try:
        categories = read_categories(path, columns.take(np.int64).reshape(-1, 2))
        order = sorted_unique("images", image_ids)
        sorted_unique("annotations", ann_ids)
        image_ids = image_ids[order]
        federated = _is_federated(lengths)
        neg, not_exhaustive = (
            _class_lists(name, length, value, order, categories.ids, notes)
            for name, length, value in zip(_LISTS, lengths, values, strict=True)
        )
        image_index, class_index = positions(image_ids, ann_image), positions(categories.ids, ann_category)
        keep = _known("image_id", ann_image, image_index, notes)
        keep &= _known("category_id", ann_category, class_index, notes)
        if len(ann_ids) == 0:
            notes.append("the file has no annotations")
        if not federated and (crowd < 0).any():  # LVIS has no such field
            notes.append(f"{int((crowd < 0).sum()):,} annotations have no field 'iscrowd': taken as 0")
        return GroundTruth(
            image_ids=image_ids,
            image_sizes=np.stack([width, height], axis=1)[order],
            categories=categories,
            ann_ids=ann_ids[keep],
            image_index=image_index[keep],
            class_index=class_index[keep],
            boxes_xywh=boxes[keep],
            area=area[keep],
            iscrowd=crowd[keep] > 0,
            ignore=ignore[keep],
            neg=neg,
            not_exhaustive=not_exhaustive,
            federated=federated,
            notes=tuple(notes),
            image_files=_reordered(name_ends, name_text, order),
        )
    except DataError as error:
        raise type(error)(f"{path}: {error}") from None


def _reordered(ends: _Ints, text: npt.NDArray[np.uint8], order: _Ints) -> Texts:
    """Texts that end at ``ends`` in the order of the file, reordered."""
    starts = np.concatenate([np.zeros(1, np.int64), ends[:-1]])
    lengths = (ends - starts)[order]
    offsets = np.zeros(len(order) + 1, np.int64)
    np.cumsum(lengths, out=offsets[1:])
    within = np.arange(offsets[-1]) - np.repeat(offsets[:-1], lengths)
    return Texts(offsets, text[np.repeat(starts[order], lengths) + within])


def _is_federated(lengths: list[_Ints]) -> bool:
    """Whether the images carry the two lists; -1 is the length of a missing one."""
    present = np.stack(lengths, axis=1) >= 0
    if present.all() or not present.any():
        return bool(present.any())
    record, field = (int(i) for i in np.argwhere(~present)[0])
    raise DataError(
        f"images record {record}: field '{_LISTS[field]}' is missing; "
        f"all images need {_LISTS[0]} and {_LISTS[1]} (LVIS), or none (COCO)"
    )


def _class_lists(name: str, lengths: _Ints, ids: _Ints, order: _Ints, category_ids: _Ints, notes: list[str]) -> Ragged:
    """Class positions per image, images in the order given; categories that are not declared are left out."""
    rank = np.empty(len(order), np.int64)
    rank[order] = np.arange(len(order))
    row = np.repeat(rank, np.maximum(lengths, 0))
    classes = positions(category_ids, ids)
    known = classes >= 0
    if not known.all():
        first = int(ids[np.argmin(known)])
        left_out = f"{int((~known).sum()):,} entries of {name} left out"
        notes.append(f"{left_out}: category {first} (the first) is not declared")
    row, classes = row[known], classes[known]
    offsets = np.zeros(len(order) + 1, np.int64)
    np.cumsum(np.bincount(row, minlength=len(order)), out=offsets[1:])
    return Ragged(offsets, classes[np.argsort(row, kind="stable")])


def _known(field: str, ids: _Ints, index: npt.NDArray[np.int32], notes: list[str]) -> npt.NDArray[np.bool_]:
    """Mask of the annotations whose image or category is declared."""
    known = index >= 0
    if not known.all():
        first = int(np.argmin(known))
        notes.append(
            f"{int((~known).sum()):,} annotations left out: {field} {int(ids[first])} (record {first}, the first) "
            "is not declared in the file"
        )
    return known
