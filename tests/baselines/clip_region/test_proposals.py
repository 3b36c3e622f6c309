"""Regions: the grid, boxes of a detector pooled over its classes, and their effect on the score."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from ovd_bench.baselines.clip_region.proposals import GridProposer, pooled
from ovd_bench.baselines.clip_region.scores import class_probabilities, fused_scores


def test_the_grid_has_four_scales_inside_the_image() -> None:
    (boxes, objectness), _ = GridProposer().propose([np.zeros((40, 80, 3), np.uint8), np.zeros((1, 1, 3), np.uint8)])
    assert boxes.dtype == objectness.dtype == np.float32
    assert len(boxes) == len(objectness) == 1 + 9 + 49 + 225
    assert boxes[0].tolist() == [0, 0, 80, 40]
    assert boxes[1:4].tolist() == [[0, 0, 40, 20], [20, 0, 60, 20], [40, 0, 80, 20]]
    assert (boxes[:, :2] >= 0).all()
    assert (boxes[:, 2:] <= (80, 40)).all()
    assert boxes[10:, 2:].max(axis=0).tolist() == [80, 40]
    assert len({tuple(box) for box in boxes.tolist()}) == len(boxes)


def test_pooled_boxes_are_those_of_a_plain_suppression() -> None:
    rng = np.random.default_rng(0)
    corners = rng.uniform(-10, 60, (200, 2, 2)).astype(np.float32)
    boxes = np.concatenate([corners.min(axis=1), corners.max(axis=1)], axis=1)
    scores = rng.uniform(size=200).astype(np.float32)
    found, objectness = pooled(boxes, scores, (40, 50), 0.5, 30)
    cut = np.clip(boxes, 0, (50, 40, 50, 40))
    kept: list[list[float]] = []
    for row in np.argsort(-scores, kind="stable"):
        x1, y1, x2, y2 = cut[row].tolist()
        if min(x2 - x1, y2 - y1) < 0.5:
            continue
        for a1, b1, a2, b2 in kept:
            over = max(min(x2, a2) - max(x1, a1), 0) * max(min(y2, b2) - max(y1, b1), 0)
            if over > 0.5 * ((x2 - x1) * (y2 - y1) + (a2 - a1) * (b2 - b1) - over):
                break
        else:
            kept.append([x1, y1, x2, y2])
    assert len(kept) > 30
    assert found.tolist() == kept[:30]
    assert (np.diff(objectness) <= 0).all()


def test_pooling_nothing_gives_nothing_and_other_scores_are_refused() -> None:
    boxes, objectness = pooled(np.empty((0, 4), np.float32), np.empty(0, np.float32), (4, 4), 0.5, 3)
    assert boxes.shape == (0, 4)
    assert objectness.shape == (0,)
    with pytest.raises(ValueError, match="from -1 to 7: it must lie between 0 and 1"):
        pooled(np.tile(np.array([0, 0, 2, 2], np.float32), (2, 1)), np.array([7, -1], np.float32), (4, 4), 0.5, 3)


def test_probabilities_and_fusion_follow_their_formulas() -> None:
    rng = np.random.default_rng(0)
    regions, texts, objectness = rng.normal(size=(5, 8)), rng.normal(size=(3, 8)), rng.uniform(size=5)
    probabilities = class_probabilities(torch.from_numpy(regions), torch.from_numpy(texts), 2.5)
    fused = fused_scores(probabilities, torch.from_numpy(objectness), 0.3)
    for region in range(5):
        powers = [np.exp(2.5 * float(text @ regions[region])) for text in texts]
        for row, power in enumerate(powers):
            expected = power / sum(powers)
            assert float(probabilities[row, region]) == pytest.approx(expected)
            assert float(fused[row, region]) == pytest.approx(objectness[region] ** 0.3 * expected**0.7)
    likely = torch.from_numpy(objectness)
    torch.testing.assert_close(fused_scores(probabilities, likely, 0.0), probabilities)
    torch.testing.assert_close(fused_scores(probabilities, likely, 1.0), likely.expand(3, 5))
    assert float(fused_scores(torch.tensor([[0.5]]), torch.zeros(1), 0.0)) == 0.5
