"""Training on a handful of tiny images."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator

import numpy as np
import pytest
import torch

from ovd_bench.baselines.optimisation import Recipe
from ovd_bench.baselines.owl_nano.config import OwlNanoConfig
from ovd_bench.baselines.owl_nano.train import OwlNanoOptimisation
from ovd_bench.tests.baselines.nano import TINY, random_batch

PHRASES = np.random.default_rng(0).normal(size=(3, 12)).astype(np.float32)
LEARNED = dataclasses.replace(TINY, classifier="learned", classes=3)
HUNGARIAN = dataclasses.replace(TINY, assignment="hungarian")


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.mark.parametrize("config", [TINY, HUNGARIAN, LEARNED], ids=["text", "hungarian", "learned"])
def test_it_learns(config: OwlNanoConfig) -> None:
    trainer = OwlNanoOptimisation(config, Recipe(steps=60, lr=5e-3), PHRASES)
    losses = [trainer.train_step(random_batch(step % 4))["loss"] for step in range(60)]
    assert np.mean(losses[-8:]) < 0.6 * np.mean(losses[:8])


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_resumed_training_is_the_same_bit_for_bit(precision: str) -> None:
    recipe = Recipe(steps=6, precision=precision)  # type: ignore[arg-type]
    whole = OwlNanoOptimisation(TINY, recipe, PHRASES)
    curve = [whole.train_step(random_batch(step)) for step in range(6)]
    first = OwlNanoOptimisation(TINY, recipe, PHRASES)
    for step in range(3):
        first.train_step(random_batch(step))
    torch.manual_seed(99)
    second = OwlNanoOptimisation(TINY, recipe, PHRASES)
    second.restore(first.checkpoint())
    assert second.step == 3
    assert [second.train_step(random_batch(step)) for step in range(3, 6)] == curve[3:]
    for model in ("model", "average"):
        states = [getattr(trainer, model).state_dict() for trainer in (second, whole)]
        assert all(torch.equal(states[0][name], states[1][name]) for name in states[0])


def test_another_seed_is_another_curve() -> None:
    first, second = (OwlNanoOptimisation(TINY, Recipe(steps=2, seed=seed), PHRASES) for seed in (0, 1))
    assert first.train_step(random_batch(0)) != second.train_step(random_batch(0))


def test_a_checkpoint_of_something_else_is_refused() -> None:
    trainer = OwlNanoOptimisation(TINY, Recipe(steps=2), PHRASES)
    with pytest.raises(ValueError, match="another model or recipe"):
        trainer.restore(OwlNanoOptimisation(TINY, Recipe(steps=3), PHRASES).checkpoint())
    with pytest.raises(ValueError, match="is not a checkpoint"):
        trainer.restore(b"something")


def test_a_loss_that_is_no_number_stops_before_the_weights_change() -> None:
    trainer = OwlNanoOptimisation(TINY, Recipe(steps=2), PHRASES)
    with torch.no_grad():
        trainer.model.box.bias[0] = float("nan")
    before = trainer.model.embed.weight.clone()
    with pytest.raises(FloatingPointError, match="at step 1"):
        trainer.train_step(random_batch(0))
    assert torch.equal(trainer.model.embed.weight, before)
    assert trainer.step == 0


def test_rate_rises_then_falls_along_a_cosine() -> None:
    recipe = Recipe(steps=100, lr=1.0)
    rates = [recipe.rate(step) for step in range(100)]
    assert rates[:4] == [0.25, 0.5, 0.75, 1.0]
    assert rates[4] == pytest.approx(1.0)
    assert rates[51] == pytest.approx(0.51, abs=0.02)
    assert rates[99] == pytest.approx(0.02)
    assert rates[3:] == sorted(rates[3:], reverse=True)


def test_the_average_follows_slowly_and_biases_do_not_decay() -> None:
    trainer = OwlNanoOptimisation(TINY, Recipe(steps=4), PHRASES)
    start = trainer.model.box.weight.clone()
    trainer.train_step(random_batch(0))
    step = trainer.model.box.weight - start
    torch.testing.assert_close(trainer.average.box.weight - start, step * (1 - 2 / 11), rtol=1e-4, atol=1e-7)
    decays = {
        group["weight_decay"]: {p.ndim for p in group["params"]}
        for group in trainer._optimisation._optimizer.param_groups
    }
    assert decays[0.0] == {1}
    assert 1 not in decays[0.05]


def test_the_mean_of_the_training_phrases_is_what_is_subtracted() -> None:
    trainer = OwlNanoOptimisation(TINY, Recipe(steps=1), PHRASES)
    np.testing.assert_allclose(trainer.average.text_mean, PHRASES.mean(0), rtol=1e-6)
