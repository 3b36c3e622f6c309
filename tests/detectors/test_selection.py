"""Which (box, class) pairs are kept."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from ovd_bench.detectors.selection import ChunkedChoice, Pairs, best_pairs, best_pairs_of_chunks, detections
from ovd_bench.detectors.types import DetectorError, Image


def _slow_best(scores: npt.NDArray[np.float32], k: int) -> list[tuple[float, int, int]]:
    pairs = [(-float(scores[c, b]), c, b) for c in range(scores.shape[0]) for b in range(scores.shape[1])]
    return [(-score, c, b) for score, c, b in sorted(pairs)[:k]]


def _scores(*rows: list[float]) -> npt.NDArray[np.float32]:
    return np.array(rows, np.float32)


def _told(pairs: Pairs) -> list[tuple[float, int, int]]:
    return list(zip(pairs.scores.tolist(), pairs.classes.tolist(), pairs.boxes.tolist(), strict=True))


@settings(max_examples=100, deadline=None)
@given(st.integers(1, 7), st.integers(1, 9), st.integers(1, 40), st.integers(0, 2**31))
def test_best_pairs_is_a_sort_with_ties_to_the_earlier_class_then_box(
    classes: int, boxes: int, k: int, seed: int
) -> None:
    scores = np.random.default_rng(seed).integers(0, 5, (classes, boxes)).astype(np.float32)
    assert _told(best_pairs(scores, k)) == _slow_best(scores, k)


@settings(max_examples=100, deadline=None)
@given(st.integers(1, 9), st.integers(1, 5), st.integers(1, 20), st.integers(1, 9), st.integers(0, 2**31))
def test_chunks_limit_and_merge(classes: int, size: int, top_k: int, chunk_top_k: int, seed: int) -> None:
    scores = np.random.default_rng(seed).integers(0, 5, (classes, 6)).astype(np.float32)
    chunks = [range(begin, min(begin + size, classes)) for begin in range(0, classes, size)]
    expected = []
    for chunk in chunks:
        kept = _slow_best(scores[chunk.start : chunk.stop], min(chunk_top_k, top_k))
        expected += [(-score, c + chunk.start, b) for score, c, b in kept]
    expected = [(-score, c, b) for score, c, b in sorted(expected)[:top_k]]
    assert _told(best_pairs_of_chunks(scores, chunks, top_k, chunk_top_k)) == expected

    choice = ChunkedChoice(min(chunk_top_k, top_k))
    for number, chunk in enumerate(chunks):  # the same boxes in every chunk, but as many copies as chunks
        choice.add(scores[chunk.start : chunk.stop], np.full((6, 4), number, np.float32))
    pairs, boxes = choice.best(top_k)
    assert [pair[:2] for pair in _told(pairs)] == [pair[:2] for pair in expected]
    assert boxes[pairs.boxes, 0].tolist() == [classes_row // size for classes_row in pairs.classes.tolist()]


@settings(max_examples=50, deadline=None)
@given(st.integers(0, 7), st.integers(0, 50), st.integers(1, 60), st.booleans(), st.integers(0, 2**31))
def test_scores_are_those_of_torch_topk(classes: int, boxes: int, k: int, ties: bool, seed: int) -> None:
    draw = np.random.default_rng(seed)
    scores = draw.random((classes, boxes), np.float32)
    if ties:
        scores = np.round(scores, 1)
    flat = torch.from_numpy(scores).flatten()
    np.testing.assert_array_equal(best_pairs(scores, k).scores, torch.topk(flat, min(k, len(flat))).values.numpy())


def test_without_a_chunk_limit_chunks_change_nothing() -> None:
    scores = np.random.default_rng(0).random((50, 30), np.float32)
    chunks = [range(0, 40), range(40, 50)]
    whole = _told(best_pairs(scores, 300))
    assert _told(best_pairs_of_chunks(scores, chunks, 300, None)) == whole
    assert _told(best_pairs_of_chunks(scores, chunks, 300, 300)) == whole


def test_a_box_may_have_several_classes_and_low_scores_stay() -> None:
    pairs = best_pairs(_scores([0.9, 1e-9], [0.8, 0.0]), 300)
    assert _told(pairs) == [
        (pytest.approx(0.9), 0, 0),
        (pytest.approx(0.8), 1, 0),
        (pytest.approx(1e-9), 0, 1),
        (0.0, 1, 1),
    ]


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), float("-inf")])
def test_scores_that_are_no_numbers_are_refused(bad: float) -> None:
    with pytest.raises(DetectorError, match="not finite"):
        best_pairs(_scores([0.1, bad, 0.2]), 1)


def test_detections_carry_category_ids_and_their_boxes() -> None:
    image = Image(7, np.zeros((10, 20, 3), np.uint8))
    boxes = _scores([0, 0, 1, 1], [2, 3, 4, 5])
    found = detections(image, best_pairs(_scores([0.1, 0.5], [0.3, 0.2]), 3), boxes, (30, 10))
    assert found.category_ids.tolist() == [30, 10, 10]
    assert found.boxes_xyxy.tolist() == [[2, 3, 4, 5], [0, 0, 1, 1], [2, 3, 4, 5]]
    assert (found.image_id, found.width, found.height) == (7, 20, 10)
