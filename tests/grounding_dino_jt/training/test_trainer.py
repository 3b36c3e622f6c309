"""One step at a time: what is frozen, what parts and processes share, and what stops a step."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from ovd_bench.grounding_dino_jt.model import GroundingDino
from ovd_bench.grounding_dino_jt.tokens import TokenBatch
from ovd_bench.grounding_dino_jt.training.denoising import DenoisingConfig
from ovd_bench.grounding_dino_jt.training.losses import MMDETECTION, OPEN_GROUNDINGDINO, Counts, divisors
from ovd_bench.grounding_dino_jt.training.optimisation import GroundingDinoOptimisation, Settings
from ovd_bench.grounding_dino_jt.training.recipe import Recipe
from ovd_bench.kernels.runtime import jittor
from ovd_bench.tests.grounding_dino_jt.training.small import small_batch, small_network

jt = jittor()

Floats = npt.NDArray[np.float32]


def _trainer(network: GroundingDino | None = None, **options: Any) -> GroundingDinoOptimisation:
    losses, queries = options.pop("losses", MMDETECTION), options.pop("queries", 12)
    recipe = Recipe(**{"steps": 20, "lr": 1e-3, "seed": 3, **options})
    return GroundingDinoOptimisation(network or small_network(), Settings(recipe, losses, DenoisingConfig(queries)))


def _values(network: GroundingDino) -> dict[str, Floats]:
    return {name: value.numpy() for name, value in network.state_dict().items()}


def _changed(before: Mapping[str, Floats], after: Mapping[str, Floats]) -> set[str]:
    return {name for name in before if (before[name] != after[name]).any()}


def test_the_loss_falls_and_everything_learns() -> None:
    trainer = _trainer(rates={})
    before, batch = _values(trainer.network), small_batch()
    log = [trainer.train_step([batch]) for _ in range(12)]
    assert trainer.step == 12
    assert log[-1]["loss"] < 0.9 * log[0]["loss"]
    assert set(log[0]) == {"loss", "class", "l1", "giou", "auxiliary", "encoder", "denoising", "gradient", "lr"}
    assert _changed(before, _values(trainer.network)) == set(before)


@pytest.mark.parametrize("average", [0.0, 0.9])
def test_what_is_frozen_stays_to_the_bit(average: float) -> None:
    """Whole encoders, and one of which a later stage learns."""
    rates = {"bert.": 0.0, "backbone.": 0.0, "backbone.0.layers.1.": 1.0}
    trainer = _trainer(rates=rates, average=average)
    before = _values(trainer.network)
    for _ in range(3):
        trainer.train_step([small_batch()])
    after = _values(trainer.network)
    changed = _changed(before, after)
    assert changed == {
        name for name in before if not name.startswith(("bert.", "backbone.")) or name.startswith(tuple(rates)[-1])
    }
    assert _changed(before, _values(trainer.average)) == changed
    assert (_changed(after, _values(trainer.average)) == changed) is bool(average)
    assert not any("bert." in name or "backbone.0.layers.0." in name for name in trainer.state())


def test_a_frozen_text_encoder_is_not_run_again(monkeypatch: pytest.MonkeyPatch) -> None:
    trainer = _trainer(rates={"bert.": 0.0})
    trainer.train_step([small_batch()])
    monkeypatch.setattr(GroundingDino, "read_tokens", None)
    trainer.train_step([small_batch()])


def _steps(
    trainer: GroundingDinoOptimisation, parts: int, steps: int = 3
) -> tuple[list[dict[str, float]], dict[str, Floats]]:
    log = [trainer.train_step(small_batch(step).split(parts)) for step in range(steps)]
    return log, trainer.state()


def _same(first: tuple[Any, dict[str, Floats]], second: tuple[Any, dict[str, Floats]]) -> None:
    """Terms of the loss, norms of gradients and both moments, which are sums of all gradients so far."""
    for one, other in zip(first[0], second[0], strict=True):
        assert one.keys() == other.keys()
        np.testing.assert_allclose(list(one.values()), list(other.values()), rtol=2e-5)
    for name, expected in first[1].items():
        if name.startswith("first."):
            scale = max(float(np.abs(expected).max()), 1e-6)
            np.testing.assert_allclose(second[1][name], expected, rtol=0, atol=1e-3 * scale, err_msg=name)


@pytest.mark.parametrize("losses", [MMDETECTION, OPEN_GROUNDINGDINO])
def test_parts_add_up_to_the_whole_batch(losses: Any) -> None:
    """With drop path and denoising, both drawn per image, images without boxes, and padding."""
    whole = _steps(_trainer(losses=losses), 1)
    _same(whole, _steps(_trainer(losses=losses), 2))
    _same(whole, _steps(_trainer(losses=losses), 4))


def test_processes_agree_on_divisors() -> None:
    """Two processes with 3 and 1 boxes, of which the first has an image with more boxes than its two queries."""
    targets = [small_batch().targets[3]], [small_batch().targets[2]]
    own = [Counts.of(part, queries=2, groups=4) for part in targets]
    assert own == [Counts(2, 3, 12), Counts(1, 1, 4)]
    everywhere = Counts(3, 4, 16)
    mmdetection = [divisors(one, everywhere, 2, "mmdetection") for one in own]
    assert [(d.classes, d.boxes, d.denoising) for d in mmdetection] == [(1.5, 1.5, 8.0)] * 2
    official = [divisors(one, everywhere, 2, "open-groundingdino") for one in own]
    assert [(d.classes, d.boxes, d.denoising) for d in official] == [(2.0, 2.0, 8.0), (1.0, 2.0, 8.0)]
    nothing = divisors(Counts(0, 0, 0), Counts(0, 0, 0), 2, "mmdetection")
    assert (nothing.classes, nothing.boxes, nothing.denoising) == (1.0, 1.0, 1.0)


def test_batches_without_boxes_and_without_denoising() -> None:
    batch = small_batch()
    empty = replace(batch.split(4)[1], tokens=TokenBatch(batch.tokens.ids[1:2], batch.tokens.real[1:2]))
    trainer = _trainer()
    values = trainer.train_step([empty])
    assert values["l1"] == values["giou"] == 0.0
    assert values["class"] > 0
    assert "denoising" not in values
    without = _trainer(queries=0)
    assert "denoising" not in without.train_step([batch])
    assert not any("label_enc" in name for name in without.state())


def _is_untouched(trainer: GroundingDinoOptimisation, message: str) -> None:
    step, before = trainer.step, trainer.state()
    with pytest.raises(FloatingPointError, match=message):
        trainer.train_step([small_batch()])
    after = trainer.state()
    assert trainer.step == step
    assert all(np.array_equal(after[name], before[name], equal_nan=True) for name in before)


def test_numbers_that_are_not_finite_leave_all_as_it_was(monkeypatch: pytest.MonkeyPatch) -> None:
    trainer = _trainer(average=0.9)
    trainer.train_step([small_batch()])
    with monkeypatch.context() as patch:
        patch.setattr(
            "ovd_bench.grounding_dino_jt.training.optimisation.gradient_norm", lambda gradients: jt.array([np.nan])
        )
        _is_untouched(trainer, "the gradient is not a finite number at step 2")
    bias = trainer.trained["feat_map.bias"]
    bias.update(bias * np.nan)
    _is_untouched(trainer, "not finite")


def test_evaluation_between_steps_changes_nothing() -> None:
    """Without an average it is the network in training that is evaluated, and it has to drop paths again."""
    log = []
    for evaluated in (False, True):
        trainer = _trainer()
        for step in range(3):
            values = trainer.train_step([small_batch(step)])
            if evaluated:
                trainer.average.eval()
        log.append(values)
    assert log[0] == log[1]


def test_a_state_goes_on_to_the_bit() -> None:
    whole, first, second = (_trainer(average=0.9) for _ in range(3))
    for step in range(4):
        whole.train_step([small_batch(step)])
    for step in range(2):
        first.train_step([small_batch(step)])
    second.restore(2, first.state())
    for step in range(2, 4):
        values = second.train_step([small_batch(step)])
    assert values["gradient"] > 0
    expected, found = whole.state(), second.state()
    assert found.keys() == expected.keys()
    assert all((found[name] == expected[name]).all() for name in expected)


def test_states_of_others_are_refused() -> None:
    trainer = _trainer()
    state = trainer.state()
    with pytest.raises(ValueError, match=r"weight\.feat_map\.bias is missing"):
        trainer.restore(1, {name: value for name, value in state.items() if name != "weight.feat_map.bias"})
    with pytest.raises(ValueError, match=r"average\.x is unknown"):
        trainer.restore(1, state | {"average.x": np.zeros(1, np.float32)})
    with pytest.raises(ValueError, match=r"first\.feat_map\.bias has the shape \(1,\), \(32,\) is needed"):
        trainer.restore(1, state | {"first.feat_map.bias": np.zeros(1, np.float32)})
    assert trainer.step == 0
