"""AdamW, clipping and the running average against torch."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest
import torch

from ovd_bench.grounding_dino_jt.training.optimizer import AdamW, gradient_norm
from ovd_bench.grounding_dino_jt.training.recipe import Recipe, Schedule
from ovd_bench.kernels.runtime import jittor

jt = jittor()

Floats = npt.NDArray[np.float32]

SHAPES = {"a.matrix": (5, 7), "a.vector": (6,), "b.matrix": (3, 2, 4), "b.number": (1,)}
STEPS = 20


def _draw(seed: int, scale: float) -> dict[str, Floats]:
    rng = np.random.default_rng(seed)
    return {name: (rng.standard_normal(shape) * scale).astype(np.float32) for name, shape in SHAPES.items()}


@pytest.mark.parametrize("clip", [0.0, 0.5])
@pytest.mark.parametrize("decay_vectors", [True, False])
def test_twenty_steps_are_those_of_torch(clip: float, decay_vectors: bool) -> None:
    """Two rates, warm-up and a milestone; gradients of which clipping shortens some and leaves others."""
    schedule = Schedule(milestones=(12,), warm_up=4)
    recipe = Recipe(
        STEPS,
        lr=0.01,
        schedule=schedule,
        rates={"b.": 0.1},
        weight_decay=0.05,
        decay_vectors=decay_vectors,
        betas=(0.9, 0.98),
        clip=clip,
        average=0.9,
    )
    start = _draw(0, 1.0)
    ours = {name: jt.array(value) for name, value in start.items()}
    averages = {name: jt.array(value) for name, value in start.items()}
    jt.sync([*ours.values(), *averages.values()])
    optimizer = AdamW(ours, recipe, averages)
    theirs = {name: torch.nn.Parameter(torch.from_numpy(value.copy())) for name, value in start.items()}
    groups = [
        {
            "params": [value],
            "lr": recipe.lr,
            "weight_decay": 0.05 if decay_vectors or value.ndim > 1 else 0.0,
            "share": 0.1 if name.startswith("b.") else 1.0,
        }
        for name, value in theirs.items()
    ]
    reference = torch.optim.AdamW(groups, betas=(0.9, 0.98))
    expected = {name: value.astype(np.float64) for name, value in start.items()}
    for step in range(STEPS):
        drawn = _draw(step + 1, 0.03 if step % 2 else 3.0)
        for group in reference.param_groups:
            group["lr"] = 0.01 * group["share"] * (0.1 + 0.9 * step / 4 if step < 4 else 1.0 if step < 12 else 0.1)
        for name, value in theirs.items():
            value.grad = torch.from_numpy(drawn[name].copy())
        norm = torch.nn.utils.clip_grad_norm_(list(theirs.values()), clip or float("inf"))
        reference.step()
        gradients = [jt.array(drawn[name]) for name in ours]
        length = gradient_norm(gradients)
        optimizer.apply(gradients, length)
        np.testing.assert_allclose(length.numpy(), [float(norm)], rtol=1e-6)
        decay = min(0.9, (2 + step) / (11 + step))
        for name, value in theirs.items():
            expected[name] = decay * expected[name] + (1 - decay) * value.detach().double().numpy()
    assert optimizer.step == STEPS
    for name, value in theirs.items():
        np.testing.assert_allclose(ours[name].numpy(), value.detach().numpy(), rtol=1e-6, atol=1e-6)
        np.testing.assert_allclose(averages[name].numpy(), expected[name], rtol=1e-6, atol=1e-6)
        state = reference.state[value]
        np.testing.assert_allclose(optimizer.moments[f"first.{name}"].numpy(), state["exp_avg"], rtol=1e-5, atol=1e-7)
        np.testing.assert_allclose(
            optimizer.moments[f"second.{name}"].numpy(), state["exp_avg_sq"], rtol=1e-5, atol=1e-9
        )
