"""Box primitives over a whole data set: IoU, non-maximum suppression, greedy matching, best overlap.

Boxes are float64 absolute xyxy. The IoU of two boxes is ``inter / (area_a + area_b - inter)`` in float64, and 0 when
they do not overlap in x or in y (a box of zero or negative width therefore overlaps nothing). Images are referred to by
position (0 … I-1); rows may come in any order. Results do not depend on the number of threads.
"""

from __future__ import annotations

import ctypes
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from ovd_bench.metrics import native
from ovd_bench.metrics.errors import DataError
from ovd_bench.metrics.matching import default_threads
from ovd_bench.metrics.types import FloatArray, IntArray

Float64 = npt.NDArray[np.float64]
Int32 = npt.NDArray[np.int32]
Int64 = npt.NDArray[np.int64]

_SOURCE = Path(__file__).parent / "native" / "boxes.cc"


def xywh_to_xyxy(boxes_xywh: FloatArray) -> Float64:
    """Corner form of boxes (N, 4) given by corner and size; float64 (N, 4)."""
    corner = boxes_xywh[:, :2].astype(np.float64)
    return np.concatenate([corner, corner + boxes_xywh[:, 2:]], axis=1)


def box_iou(a_xyxy: FloatArray, b_xyxy: FloatArray) -> Float64:
    """IoU of every box of ``a_xyxy`` (N, 4) with every box of ``b_xyxy`` (M, 4); float64 (N, M)."""
    a, b = _boxes("a_xyxy", a_xyxy, len(a_xyxy)), _boxes("b_xyxy", b_xyxy, len(b_xyxy))
    out = np.empty((len(a), len(b)), np.float64)
    library().ovd_box_iou(_i64(len(a)), _pointer(a), _i64(len(b)), _pointer(b), _pointer(out))
    return out


def nms(
    image_index: IntArray,
    boxes_xyxy: FloatArray,
    score: FloatArray,
    iou_threshold: float,
    group: IntArray | None = None,
    *,
    threads: int | None = None,
) -> npt.NDArray[np.bool_]:
    """Greedy non-maximum suppression inside every (image, group).

    Boxes are visited by descending score (equal scores: lower row first). A visited box that was not removed is kept
    and removes every later box whose IoU with it exceeds ``iou_threshold`` (strictly, as torchvision does).

    Args:
        image_index: int (N,), image position.
        boxes_xyxy: (N, 4).
        score: (N,), no NaN.
        iou_threshold: overlap above which the lower-scoring box is removed.
        group: int (N,), e.g. the class; None suppresses across all rows of an image.
        threads: worker threads; None uses every core the process may use.

    Returns:
        bool (N,), True for kept rows.

    Raises:
        DataError: columns of unequal length, a negative image position or a NaN score.
    """
    n = len(image_index)
    image, boxes, scores = _index("image_index", image_index, n), _boxes("boxes_xyxy", boxes_xyxy, n), _scores(score, n)
    groups = None if group is None else _column("group", group, np.int32, n)
    keep = np.empty(n, np.bool_)
    library().ovd_nms(
        _i64(n),
        _num_images(image),
        _pointer(image),
        _pointer(groups),
        _pointer(boxes),
        _pointer(scores),
        ctypes.c_double(iou_threshold),
        _threads(threads),
        _pointer(keep),
    )
    return keep


def match_greedy(
    gt_image_index: IntArray,
    gt_boxes_xyxy: FloatArray,
    dt_image_index: IntArray,
    dt_boxes_xyxy: FloatArray,
    dt_score: FloatArray,
    iou_threshold: float,
    gt_group: IntArray | None = None,
    dt_group: IntArray | None = None,
    *,
    threads: int | None = None,
) -> Int64:
    """Greedy one-to-one matching of detections to ground truth inside every (image, group).

    Detections are matched by descending score (equal scores: lower row first). Each takes, among the unmatched ground
    truth, the box of highest IoU >= ``iou_threshold``; on equal IoU the later row wins, as in lvis-api and pycocotools.

    Args:
        gt_image_index: int (G,), image position.
        gt_boxes_xyxy: (G, 4).
        dt_image_index: int (N,), image position.
        dt_boxes_xyxy: (N, 4).
        dt_score: (N,), no NaN.
        iou_threshold: smallest IoU that counts, in (0, 1].
        gt_group: int (G,), e.g. the class; None, together with ``dt_group``, matches label-agnostically.
        dt_group: int (N,).
        threads: worker threads; None uses every core the process may use.

    Returns:
        int64 (N,), row of the matched ground truth, -1 where there is none.

    Raises:
        DataError: columns of unequal length, a negative image position, a NaN score, a threshold outside (0, 1], or
            groups given for one side only.
    """
    if not 0 < iou_threshold <= 1:
        raise DataError(f"match_greedy: iou_threshold is {iou_threshold}, expected a number in (0, 1]")
    if (gt_group is None) != (dt_group is None):
        raise DataError("match_greedy: give gt_group and dt_group together or neither")
    n_gt, n_dt = len(gt_image_index), len(dt_image_index)
    gt_image = _index("gt_image_index", gt_image_index, n_gt)
    gt_boxes = _boxes("gt_boxes_xyxy", gt_boxes_xyxy, n_gt)
    dt_image = _index("dt_image_index", dt_image_index, n_dt)
    dt_boxes = _boxes("dt_boxes_xyxy", dt_boxes_xyxy, n_dt)
    scores = _scores(dt_score, n_dt)
    gt_groups = None if gt_group is None else _column("gt_group", gt_group, np.int32, n_gt)
    dt_groups = None if dt_group is None else _column("dt_group", dt_group, np.int32, n_dt)
    match = np.empty(n_dt, np.int64)
    library().ovd_match_greedy(
        _i64(n_gt),
        _i64(n_dt),
        _num_images(gt_image, dt_image),
        _pointer(gt_image),
        _pointer(gt_groups),
        _pointer(gt_boxes),
        _pointer(dt_image),
        _pointer(dt_groups),
        _pointer(dt_boxes),
        _pointer(scores),
        ctypes.c_double(iou_threshold),
        _threads(threads),
        _pointer(match),
    )
    return match


def max_iou(
    gt_image_index: IntArray,
    gt_boxes_xyxy: FloatArray,
    dt_image_index: IntArray,
    dt_boxes_xyxy: FloatArray,
    *,
    threads: int | None = None,
) -> tuple[Float64, Int64]:
    """Highest IoU of every detection with the ground truth of its image, labels ignored.

    Args:
        gt_image_index: int (G,), image position.
        gt_boxes_xyxy: (G, 4).
        dt_image_index: int (N,), image position.
        dt_boxes_xyxy: (N, 4).
        threads: worker threads; None uses every core the process may use.

    Returns:
        IoU float64 (N,) and row of that ground truth int64 (N,); 0 and -1 where nothing overlaps. On equal IoU the
        later row wins.

    Raises:
        DataError: columns of unequal length or a negative image position.
    """
    n_gt, n_dt = len(gt_image_index), len(dt_image_index)
    gt_image = _index("gt_image_index", gt_image_index, n_gt)
    gt_boxes = _boxes("gt_boxes_xyxy", gt_boxes_xyxy, n_gt)
    dt_image = _index("dt_image_index", dt_image_index, n_dt)
    dt_boxes = _boxes("dt_boxes_xyxy", dt_boxes_xyxy, n_dt)
    best, row = np.empty(n_dt, np.float64), np.empty(n_dt, np.int64)
    library().ovd_max_iou(
        _i64(n_gt),
        _i64(n_dt),
        _num_images(gt_image, dt_image),
        _pointer(gt_image),
        _pointer(gt_boxes),
        _pointer(dt_image),
        _pointer(dt_boxes),
        _threads(threads),
        _pointer(best),
        _pointer(row),
    )
    return best, row


@cache
def library() -> ctypes.CDLL:
    """The native box primitives, built on first use."""
    loaded = native.load("boxes", (_SOURCE,))
    for name in ("ovd_box_iou", "ovd_nms", "ovd_match_greedy", "ovd_max_iou"):
        getattr(loaded, name).restype = None
    return loaded


_i64 = ctypes.c_int64


def _pointer(array: npt.NDArray[Any] | None) -> ctypes.c_void_p:
    return ctypes.c_void_p(None if array is None else array.ctypes.data)


def _threads(threads: int | None) -> ctypes.c_int32:
    return ctypes.c_int32(threads or default_threads())


def _num_images(*image_index: Int32) -> ctypes.c_int64:
    return _i64(max((int(index.max()) + 1 for index in image_index if len(index)), default=0))


def _column(name: str, values: npt.ArrayLike, dtype: type, n: int) -> npt.NDArray[Any]:
    array: npt.NDArray[Any] = np.ascontiguousarray(values, dtype)
    if array.shape != (n,):
        raise DataError(f"{name} has shape {array.shape}, expected ({n},)")
    return array


def _index(name: str, values: IntArray, n: int) -> Int32:
    array = _column(name, values, np.int32, n)
    if n and int(array.min()) < 0:
        row = int(np.argmin(array))
        raise DataError(f"{name}[{row}] is {int(array[row])}, expected an image position (drop unknown images first)")
    return array


def _scores(values: FloatArray, n: int) -> Float64:
    array = _column("score", values, np.float64, n)
    if n and np.isnan(array.max()):
        raise DataError(f"score[{int(np.argmax(np.isnan(array)))}] is NaN, a number is needed")
    return array


def _boxes(name: str, values: FloatArray, n: int) -> Float64:
    array = np.ascontiguousarray(values, np.float64)
    if array.shape != (n, 4):
        raise DataError(f"{name} has shape {array.shape}, expected ({n}, 4)")
    return array
