"""A subset of a data set: some of its images."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import TypeVar

import numpy as np
import numpy.typing as npt

from ovd_bench.metrics.types import GroundTruth, Ragged, Texts

_T = TypeVar("_T", bound=np.generic)


def restrict(gt: GroundTruth, image_ids: Sequence[int]) -> GroundTruth:
    """The ground truth of the given images; all categories are kept."""
    keep = np.isin(gt.image_ids, np.asarray(image_ids, np.int64))
    rank = np.cumsum(keep, dtype=np.int32) - 1
    boxes = keep[gt.image_index]
    return dataclasses.replace(
        gt,
        image_ids=gt.image_ids[keep],
        image_sizes=gt.image_sizes[keep],
        ann_ids=gt.ann_ids[boxes],
        image_index=rank[gt.image_index[boxes]],
        class_index=gt.class_index[boxes],
        boxes_xywh=gt.boxes_xywh[boxes],
        area=gt.area[boxes],
        iscrowd=gt.iscrowd[boxes],
        ignore=gt.ignore[boxes],
        neg=_lists(gt.neg, keep),
        not_exhaustive=_lists(gt.not_exhaustive, keep),
        image_files=_texts(gt.image_files, keep),
        image_names=_texts(gt.image_names, keep),
    )


def _texts(texts: Texts | None, keep: npt.NDArray[np.bool_]) -> Texts | None:
    return None if texts is None else Texts(*_kept(texts.offsets, texts.data, keep))


def _lists(lists: Ragged, keep: npt.NDArray[np.bool_]) -> Ragged:
    return Ragged(*_kept(lists.offsets, lists.values, keep))


def _kept(
    offsets: npt.NDArray[np.int64], values: npt.NDArray[_T], keep: npt.NDArray[np.bool_]
) -> tuple[npt.NDArray[np.int64], npt.NDArray[_T]]:
    """Offsets and values of the kept rows."""
    lengths = np.diff(offsets)
    kept = np.zeros(int(keep.sum()) + 1, np.int64)
    np.cumsum(lengths[keep], out=kept[1:])
    return kept, values[np.repeat(keep, lengths)]
