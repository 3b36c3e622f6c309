"""Randomness and number of the denoising queries."""

from __future__ import annotations

import numpy as np
import pytest

from ovd_bench.grounding_dino_jt.training.batch import Targets
from ovd_bench.grounding_dino_jt.training.denoising import DenoisingConfig, Slots, denoising_queries, draw_noise


@pytest.mark.parametrize(("most", "queries", "groups"), [(1, 100, 100), (7, 100, 14), (100, 100, 1), (101, 100, 1)])
def test_groups(most: int, queries: int, groups: int) -> None:
    assert Slots.of(most, DenoisingConfig(queries)) == Slots(groups, most)


def test_nothing_to_denoise() -> None:
    assert Slots.of(0, DenoisingConfig(100)) is None
    assert Slots.of(3, DenoisingConfig(0)) is None


def test_draws_are_uniform_and_repeat() -> None:
    config = DenoisingConfig(labels=4)
    noise = draw_noise(10, 500, config, np.random.default_rng(0))
    rows = 2 * 500 * 10
    assert noise.relabel.shape == (rows,)
    assert (noise.relabel < config.label_noise / 2).mean() == pytest.approx(0.25, abs=0.02)
    np.testing.assert_allclose(np.bincount(noise.labels) / rows, [0.25] * 4, atol=0.02)
    assert np.unique(noise.signs).tolist() == [-1, 1]
    assert abs(noise.signs.mean()) < 0.02
    assert noise.parts.shape == (rows, 4)
    assert 0 <= noise.parts.min() < 0.01
    assert 0.99 < noise.parts.max() < 1
    again = draw_noise(10, 500, config, np.random.default_rng(0))
    assert (again.parts == noise.parts).all()


def test_positives_stay_close_and_negatives_do_not() -> None:
    """Corners of a box far from all edges: up to half a side away, and half a side to a whole one."""
    box = np.array([[0.5, 0.5, 0.2, 0.1]], np.float32)
    target = Targets(box, np.array([3]), np.ones((1, 2), np.bool_))
    config = DenoisingConfig(queries=400, label_noise=0.0)
    slots = Slots.of(1, config)
    assert slots is not None
    noise = draw_noise(1, slots.groups, config, np.random.default_rng(1))
    queries = denoising_queries([target], [noise], slots, 5, config, 1e-6)
    assert (queries.phrases == 3).all()
    low, high = (
        queries.boxes[0, :, :2] - queries.boxes[0, :, 2:] / 2,
        queries.boxes[0, :, :2] + queries.boxes[0, :, 2:] / 2,
    )
    moved = np.abs(np.concatenate([low, high], 1) - [0.4, 0.45, 0.6, 0.55]) / [0.2, 0.1, 0.2, 0.1]
    positive = np.zeros(800, np.bool_)
    positive[queries.positives[0]] = True
    assert positive.sum() == 400
    assert moved[positive].max() <= 0.5 + 1e-5
    # a negative box whose corners have passed each other has no side left, and is not looked at
    whole = ~positive & (queries.boxes[0, :, 2:] > 0.01).all(1)
    assert moved[whole].min() >= 0.5 - 1e-5
    assert moved[whole].max() <= 1 + 1e-5
