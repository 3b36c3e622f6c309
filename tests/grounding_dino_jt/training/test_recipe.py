"""Rates over steps and parameters."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest

from ovd_bench.grounding_dino_jt.training.recipe import ENCODER_RATES, Recipe, Schedule


def _shares(schedule: Schedule, steps: int) -> list[float]:
    return [schedule.share(step, steps) for step in range(steps)]


def test_steps_with_warm_up() -> None:
    shares = _shares(Schedule(milestones=(6, 8), warm_up=4, warm_up_from=0.2), 10)
    np.testing.assert_allclose(shares, [0.2, 0.4, 0.6, 0.8, 1, 1, 0.1, 0.1, 0.01, 0.01])


def test_cosine_falls_from_the_peak_to_the_final_share() -> None:
    shares = _shares(Schedule("cosine", final=0.02, warm_up=100, warm_up_from=0.01), 1101)
    assert shares[0] == 0.01
    assert shares[100] == 1.0
    assert shares[600] == pytest.approx(0.51)
    assert shares[-1] == pytest.approx(0.02)
    assert all(earlier > later for earlier, later in pairwise(shares[100:]))
    assert all(earlier < later for earlier, later in pairwise(shares[:101]))


def test_a_training_shorter_than_its_warm_up() -> None:
    assert _shares(Schedule("cosine", warm_up=10, warm_up_from=0.0), 4) == [0.0, 0.1, 0.2, 0.3]
    assert _shares(Schedule("cosine"), 1) == [1.0]


def test_the_longest_beginning_of_a_name_counts() -> None:
    recipe = Recipe(1, lr=2.0, rates={"backbone.": 0.0, "backbone.0.layers.1.": 0.5, "bert.": 0.1})
    assert recipe.rate(0) == 2.0
    assert recipe.factor("backbone.0.layers.0.blocks.0.norm1.weight") == 0.0
    assert recipe.factor("backbone.0.layers.1.blocks.0.norm1.weight") == 0.5
    assert recipe.factor("bert.embeddings.LayerNorm.bias") == 0.1
    assert recipe.factor("transformer.level_embed") == 1.0
    assert Recipe(1, rates={"": 0.0, "label_enc.": 1.0}).factor("bert.x") == 0.0
    assert Recipe(1).factor("backbone.x") == ENCODER_RATES["backbone."] == 0.1


def test_vectors_may_be_spared_the_decay() -> None:
    assert [Recipe(1, weight_decay=0.3).decay(n) for n in (1, 2)] == [0.3, 0.3]
    assert [Recipe(1, weight_decay=0.3, decay_vectors=False).decay(n) for n in (1, 2, 4)] == [0.0, 0.3, 0.3]


def test_the_average_follows_faster_at_first() -> None:
    recipe = Recipe(1000, average=0.998)
    assert recipe.average_decay(1) == pytest.approx(2 / 11)
    assert recipe.average_decay(90) == pytest.approx(0.91)
    assert recipe.average_decay(100_000) == 0.998
