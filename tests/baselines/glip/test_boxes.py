"""Anchors, coder and the choice of boxes: golden numbers, loops, and what the legacy frame means."""

from __future__ import annotations

import itertools
import math

import pytest
import torch
from torch import Tensor

from ovd_bench.baselines.glip.anchors import anchor_boxes, decode, encode, legacy_iou
from ovd_bench.baselines.glip.config import GlipConfig
from ovd_bench.baselines.glip.postprocess import LEVEL_TOP_K, NMS_IOU, SCORE_THRESHOLD, Found, select_boxes

SHAPES = ((6, 9), (3, 5), (2, 3), (1, 2), (1, 1))
SIZE = (44, 70)


def _anchors() -> Tensor:
    return anchor_boxes(SHAPES, (8, 16, 32, 64, 128), (16, 32, 64, 128, 256)).double()


def test_first_anchors_are_those_of_the_official_generator() -> None:
    """``_generate_anchors`` by hand: window (0, 0, s - 1, s - 1), scaled about its middle, shifted by the stride."""
    config = GlipConfig()
    assert config.strides == (8, 16, 32, 64, 128)
    found = anchor_boxes(((2, 3), (1, 1), (1, 1), (1, 1), (1, 1)), config.strides, config.anchor_sizes)
    expected = [(-28 + x, -28 + y, 35 + x, 35 + y) for y in (0, 8) for x in (0, 8, 16)]
    expected += [(-56, -56, 71, 71), (-112, -112, 143, 143), (-224, -224, 287, 287), (-448, -448, 575, 575)]
    torch.testing.assert_close(found, torch.tensor(expected, dtype=torch.float32))


def test_coder_has_golden_numbers() -> None:
    """An anchor of 64 and a box of 32 x 128 pixels, last pixel included, moved by 8 and -4."""
    anchor = torch.tensor([[-28.0, -28.0, 35.0, 35.0]])
    middle = (3.5 + 8, 3.5 - 4)
    box = torch.tensor([[middle[0] - 15.5, middle[1] - 63.5, middle[0] + 15.5, middle[1] + 63.5]])
    deltas = encode(box, anchor)
    expected = torch.tensor([[10 * 8 / 64, 10 * -4 / 64, -5 * math.log(2), 5 * math.log(2)]])
    torch.testing.assert_close(deltas, expected)
    torch.testing.assert_close(decode(deltas, anchor), box)
    torch.testing.assert_close(decode(torch.zeros(1, 4), anchor), anchor)


def test_coder_is_the_loops_and_its_own_inverse() -> None:
    anchors = _anchors()
    generator = torch.Generator().manual_seed(0)
    deltas = 2 * torch.randn(len(anchors), 4, generator=generator, dtype=torch.float64)
    boxes = decode(deltas, anchors)
    for row, (x1, y1, x2, y2) in enumerate(anchors.tolist()):
        dx, dy, dw, dh = deltas[row].tolist()
        width, height = x2 - x1 + 1, y2 - y1 + 1
        x, y = dx / 10 * width + (x1 + x2) / 2, dy / 10 * height + (y1 + y2) / 2
        w, h = math.exp(dw / 5) * width, math.exp(dh / 5) * height
        expected = [x - 0.5 * (w - 1), y - 0.5 * (h - 1), x + 0.5 * (w - 1), y + 0.5 * (h - 1)]
        torch.testing.assert_close(boxes[row], torch.tensor(expected, dtype=torch.float64))
    torch.testing.assert_close(encode(boxes, anchors), deltas)


def test_a_box_grows_to_a_limit() -> None:
    anchor = torch.tensor([[0.0, 0.0, 15.0, 15.0]])
    box = decode(torch.tensor([[0.0, 0.0, 100.0, 1000.0]]), anchor)
    torch.testing.assert_close(box[:, 2:] - box[:, :2] + 1, torch.full((1, 2), 1000.0), rtol=1e-4, atol=0)


def test_legacy_iou_counts_pixels() -> None:
    """Boxes of whole pixels as sets of pixels."""
    generator = torch.Generator().manual_seed(0)
    corners = torch.randint(0, 12, (20, 4), generator=generator)
    boxes = torch.cat((torch.minimum(corners[:, :2], corners[:, 2:]), torch.maximum(corners[:, :2], corners[:, 2:])), 1)
    pixels = [set(itertools.product(range(x1, x2 + 1), range(y1, y2 + 1))) for x1, y1, x2, y2 in boxes.tolist()]
    found = legacy_iou(boxes.float(), boxes[:7].float())
    for row, column in itertools.product(range(20), range(7)):
        expected = len(pixels[row] & pixels[column]) / len(pixels[row] | pixels[column])
        assert found[row, column].item() == pytest.approx(expected, rel=1e-6)


def _reference(
    scores: Tensor, deltas: Tensor, centerness: Tensor, anchors: Tensor, top_k: int
) -> list[tuple[float, int, tuple[float, ...]]]:
    """Score, class and box, best first: one pair after the other."""
    pairs = []
    begin = 0
    for height, width in SHAPES:
        level = []
        for location in range(begin, begin + height * width):
            for number in range(scores.shape[1]):
                score = scores[location, number].item()
                if score > SCORE_THRESHOLD:
                    level.append((score / (1 + math.exp(-centerness[location].item())), location, number))
        begin += height * width
        level.sort(key=lambda pair: -pair[0])
        pairs += level[:LEVEL_TOP_K]
    candidates = []
    for score, location, number in pairs:
        x1, y1, x2, y2 = decode(deltas[location], anchors[location]).tolist()
        box = tuple(
            min(max(value, 0.0), float(last)) for value, last in zip((x1, y1, x2, y2), (69, 43, 69, 43), strict=True)
        )
        candidates.append((math.sqrt(score), number, box))
    candidates.sort(key=lambda one: -one[0])
    kept: list[tuple[float, int, tuple[float, ...]]] = []
    for one in candidates:
        if all(other[1] != one[1] or _iou(other[2], one[2]) <= NMS_IOU for other in kept):
            kept.append(one)
    return kept[:top_k]


def _iou(a: tuple[float, ...], b: tuple[float, ...]) -> float:
    width = max(min(a[2], b[2]) - max(a[0], b[0]) + 1, 0)
    height = max(min(a[3], b[3]) - max(a[1], b[1]) + 1, 0)
    areas = [(box[2] - box[0] + 1) * (box[3] - box[1] + 1) for box in (a, b)]
    return width * height / (sum(areas) - width * height)


def _select(scores: Tensor, deltas: Tensor, centerness: Tensor, top_k: int) -> Found:
    return select_boxes(scores, deltas, centerness, _anchors(), SHAPES, SIZE, top_k)


@pytest.mark.parametrize(("top_k", "spread"), [(1000, 1.0), (20, 1.0), (1000, 0.1)])
def test_choice_of_boxes_is_the_loops(top_k: int, spread: float) -> None:
    """Small deltas leave many duplicates; large ones leave the image, where boxes are cut."""
    generator = torch.Generator().manual_seed(1)
    count = len(_anchors())
    logits = 3 * torch.randn(count, 6, generator=generator, dtype=torch.float64) - 2
    deltas = spread * 3 * torch.randn(count, 4, generator=generator, dtype=torch.float64)
    centerness = 2 * torch.randn(count, generator=generator, dtype=torch.float64)
    scores = logits.sigmoid()
    assert 0.2 < (scores > SCORE_THRESHOLD).double().mean() < 0.8
    found = _select(scores, deltas, centerness, top_k)
    expected = _reference(scores, deltas, centerness, _anchors(), top_k)
    assert found.classes.tolist() == [number for _, number, _ in expected]
    assert len(expected) >= 20
    torch.testing.assert_close(found.scores.tolist(), [score for score, _, _ in expected])
    torch.testing.assert_close(found.boxes_xyxy, torch.tensor([box for _, _, box in expected], dtype=torch.float64))


def test_each_level_keeps_its_best_thousand() -> None:
    """One level of 20 x 30 locations with two classes, all over the threshold and far apart in class or place."""
    shapes, size = ((20, 30),), (1000, 1500)
    anchors = anchor_boxes(shapes, (50,), (10,))
    scores = torch.linspace(0.1, 0.9, 1200).view(600, 2)
    found = select_boxes(scores, torch.zeros(600, 4), torch.zeros(600), anchors, shapes, size, 5000)
    assert len(found.scores) == LEVEL_TOP_K
    torch.testing.assert_close(found.scores, (scores.flatten().flip(0)[:LEVEL_TOP_K] * 0.5).sqrt())


def test_the_threshold_comes_before_the_centerness() -> None:
    anchors, shapes = anchor_boxes(((1, 2),), (8,), (8,)), ((1, 2),)
    scores, centerness = torch.tensor([[0.06], [0.05]]), torch.tensor([-4.0, 9.0])
    found = select_boxes(scores, torch.zeros(2, 4), centerness, anchors, shapes, (8, 16), 5)
    torch.testing.assert_close(found.scores, (0.06 * centerness[:1].sigmoid()).sqrt())


def test_equal_scores_go_to_the_earlier_location_then_class() -> None:
    anchors, shapes = anchor_boxes(((1, 3),), (40,), (8,)), ((1, 3),)
    found = select_boxes(torch.full((3, 2), 0.5), torch.zeros(3, 4), torch.zeros(3), anchors, shapes, (40, 120), 4)
    assert found.classes.tolist() == [0, 1, 0, 1]
    assert found.boxes_xyxy[:, 0].tolist() == [16.0, 16.0, 56.0, 56.0]


def test_nothing_over_the_threshold_is_nothing_found() -> None:
    count = len(_anchors())
    found = _select(torch.full((count, 3), 0.04), torch.zeros(count, 4), torch.zeros(count), 10)
    assert found.boxes_xyxy.shape == (0, 4)
    assert found.scores.shape == found.classes.shape == (0,)
