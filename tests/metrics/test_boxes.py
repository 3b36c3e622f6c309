"""Box primitives against plain Python and against hand-worked cases."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ovd_bench.metrics.boxes import box_iou, match_greedy, max_iou, nms
from ovd_bench.metrics.errors import DataError
from ovd_bench.metrics.types import FloatArray, IntArray

Columns = tuple[IntArray, IntArray, FloatArray, FloatArray]


def slow_iou(a: FloatArray, b: FloatArray) -> float:
    w, h = min(a[2], b[2]) - max(a[0], b[0]), min(a[3], b[3]) - max(a[1], b[1])
    if w <= 0 or h <= 0:
        return 0.0
    return float(w * h / ((a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1]) - w * h))


def visiting_order(image: IntArray, group: IntArray, score: FloatArray) -> list[int]:
    return sorted(range(len(score)), key=lambda r: (image[r], group[r], -score[r], r))


def slow_nms(image: IntArray, boxes: FloatArray, score: FloatArray, threshold: float, group: IntArray) -> list[bool]:
    kept: list[int] = []
    for r in visiting_order(image, group, score):
        rivals = [k for k in kept if image[k] == image[r] and group[k] == group[r]]
        if all(slow_iou(boxes[k], boxes[r]) <= threshold for k in rivals):
            kept.append(r)
    return [r in kept for r in range(len(score))]


def slow_match(gt: Columns, dt: Columns, threshold: float) -> list[int]:
    (gt_image, gt_group, _, gt_boxes), (dt_image, dt_group, dt_score, dt_boxes) = gt, dt
    match, taken = [-1] * len(dt_score), set()
    for d in visiting_order(dt_image, dt_group, dt_score):
        best = threshold
        for g in range(len(gt_image)):
            same = gt_image[g] == dt_image[d] and gt_group[g] == dt_group[d]
            if same and g not in taken and slow_iou(dt_boxes[d], gt_boxes[g]) >= best:
                best, match[d] = slow_iou(dt_boxes[d], gt_boxes[g]), g
        taken.add(match[d])
        taken.discard(-1)
    return match


def slow_max_iou(
    gt_image: IntArray, gt_boxes: FloatArray, dt_image: IntArray, dt_boxes: FloatArray
) -> tuple[list[float], list[int]]:
    best, row = [0.0] * len(dt_image), [-1] * len(dt_image)
    for d in range(len(dt_image)):
        for g in range(len(gt_image)):
            overlap = slow_iou(dt_boxes[d], gt_boxes[g]) if gt_image[g] == dt_image[d] else 0.0
            if overlap > 0 and overlap >= best[d]:
                best[d], row[d] = overlap, g
    return best, row


@st.composite
def rows(draw: st.DrawFn, max_size: int = 40) -> Columns:
    """Image, group, score and box columns on a coarse grid, so that ties in score and IoU are common."""
    n = draw(st.integers(0, max_size))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    corner = rng.integers(0, 6, (n, 2))
    size = rng.integers(-1, 6, (n, 2))
    boxes = np.concatenate([corner, corner + size], axis=1).astype(np.float64)
    return (
        rng.integers(0, 3, n).astype(np.int32),
        rng.integers(-1, 2, n).astype(np.int32),
        rng.integers(0, 4, n) / 3,
        boxes,
    )


THRESHOLDS = st.sampled_from([0.1, 0.25, 1 / 3, 0.5, 0.7, 1.0])


@given(rows(), THRESHOLDS, st.booleans())
@settings(max_examples=200, deadline=None)
def test_nms_equals_plain_python(columns: Columns, threshold: float, grouped: bool) -> None:
    image, group, score, boxes = columns
    keep = nms(image, boxes, score, threshold, group if grouped else None)
    assert keep.dtype == np.bool_
    assert keep.tolist() == slow_nms(image, boxes, score, threshold, group if grouped else np.zeros_like(group))


@given(rows(15), rows(), THRESHOLDS, st.booleans())
@settings(max_examples=200, deadline=None)
def test_match_greedy_equals_plain_python(gt: Columns, dt: Columns, threshold: float, grouped: bool) -> None:
    if grouped:
        match = match_greedy(gt[0], gt[3], dt[0], dt[3], dt[2], threshold, gt[1], dt[1])
    else:
        match = match_greedy(gt[0], gt[3], dt[0], dt[3], dt[2], threshold)
        gt, dt = ((image, np.zeros_like(group), score, boxes) for image, group, score, boxes in (gt, dt))
    assert match.dtype == np.int64
    assert match.tolist() == slow_match(gt, dt, threshold)


@given(rows(15), rows())
@settings(max_examples=200, deadline=None)
def test_max_iou_equals_plain_python(gt: Columns, dt: Columns) -> None:
    best, row = max_iou(gt[0], gt[3], dt[0], dt[3])
    slow_best, slow_row = slow_max_iou(gt[0], gt[3], dt[0], dt[3])
    assert best.tolist() == slow_best
    assert row.tolist() == slow_row


@given(rows(12), rows(12))
@settings(max_examples=100, deadline=None)
def test_box_iou_equals_plain_python(a: Columns, b: Columns) -> None:
    matrix = box_iou(a[3], b[3])
    assert matrix.shape == (len(a[3]), len(b[3]))
    assert matrix.tolist() == [[slow_iou(p, q) for q in b[3]] for p in a[3]]


def test_box_iou_by_hand() -> None:
    a = np.array([[0.0, 0, 10, 10]])
    b = np.array([[0.0, 0, 10, 10], [5, 0, 15, 10], [10, 0, 20, 10], [2, 2, 2, 8], [20, 20, 30, 30]])
    assert box_iou(a, b).tolist() == [[1.0, 50 / 150, 0.0, 0.0, 0.0]]


def test_nms_keeps_a_box_whose_iou_equals_the_threshold() -> None:
    boxes = np.array([[0.0, 0, 10, 10], [0, 0, 10, 5]])
    assert nms(np.zeros(2, np.int32), boxes, np.array([0.9, 0.8]), 0.5).tolist() == [True, True]
    assert nms(np.zeros(2, np.int32), boxes, np.array([0.9, 0.8]), 0.4999).tolist() == [True, False]


def test_nms_lets_a_box_survive_its_removed_suppressor() -> None:
    # b is removed by a; c overlaps b only, so it stays
    boxes = np.array([[0.0, 0, 10, 10], [4, 0, 14, 10], [8, 0, 18, 10]])
    assert nms(np.zeros(3, np.int32), boxes, np.array([0.9, 0.8, 0.7]), 0.3).tolist() == [True, False, True]


def test_match_greedy_on_equal_iou_takes_the_later_ground_truth() -> None:
    gt = np.array([[0.0, 0, 10, 10], [0, 0, 10, 10]])
    dt = np.array([[0.0, 0, 10, 10], [0, 0, 10, 10], [0, 0, 10, 10]])
    zeros = np.zeros(3, np.int32)
    match = match_greedy(zeros[:2], gt, zeros, dt, np.array([0.1, 0.9, 0.5]), 0.5)
    assert match.tolist() == [-1, 1, 0]


@pytest.mark.parametrize("threads", [1, 2, 5])
def test_threads_do_not_change_results(threads: int) -> None:
    rng = np.random.default_rng(0)
    n, images = 6000, 97
    image, group = rng.integers(0, images, n).astype(np.int32), rng.integers(0, 3, n).astype(np.int32)
    corner = rng.uniform(0, 60, (n, 2))
    boxes = np.concatenate([corner, corner + rng.uniform(1, 60, (n, 2))], axis=1)
    score = rng.integers(0, 50, n) / 50
    gt, dt = slice(0, 1000), slice(1000, n)
    match_arguments = (image[gt], boxes[gt], image[dt], boxes[dt], score[dt], 0.5, group[gt], group[dt])
    iou_arguments = (image[gt], boxes[gt], image[dt], boxes[dt])
    assert np.array_equal(nms(image, boxes, score, 0.7, group, threads=threads), nms(image, boxes, score, 0.7, group))
    assert np.array_equal(match_greedy(*match_arguments, threads=threads), match_greedy(*match_arguments))
    for some, every in zip(max_iou(*iou_arguments, threads=threads), max_iou(*iou_arguments), strict=True):
        assert np.array_equal(some, every)


def test_bad_input_is_one_line() -> None:
    box, zero, score = np.array([[0.0, 0, 1, 1]]), np.zeros(1, np.int32), np.ones(1)
    with pytest.raises(DataError, match=r"image_index\[0\] is -1"):
        nms(zero - 1, box, score, 0.5)
    with pytest.raises(DataError, match=r"score\[0\] is NaN"):
        nms(zero, box, score * np.nan, 0.5)
    with pytest.raises(DataError, match=r"boxes_xyxy has shape"):
        nms(zero, box[:, :3], score, 0.5)
    with pytest.raises(DataError, match=r"group has shape"):
        nms(zero, box, score, 0.5, np.zeros(2, np.int32))
    with pytest.raises(DataError, match="together"):
        match_greedy(zero, box, zero, box, score, 0.5, gt_group=zero)
    with pytest.raises(DataError, match="iou_threshold"):
        match_greedy(zero, box, zero, box, score, 0.0)
