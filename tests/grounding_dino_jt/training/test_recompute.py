"""Recomputed activations: the same loss and gradients, less memory."""

from __future__ import annotations

import dataclasses
import subprocess
import sys
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from ovd_bench.grounding_dino_jt.model import GroundingDino
from ovd_bench.grounding_dino_jt.training.optimisation import GroundingDinoOptimisation, Settings
from ovd_bench.grounding_dino_jt.training.recipe import Recipe
from ovd_bench.grounding_dino_jt.training.recompute import recompute_layers
from ovd_bench.kernels.bases import gradients_once
from ovd_bench.tests.grounding_dino_jt.training.small import SMALL, small_batch, small_network

Floats = npt.NDArray[np.float32]

#: Paths are dropped in every place that can drop them.
DROPPING: dict[str, Any] = {
    "backbone": dataclasses.replace(SMALL.backbone, drop_path_rate=0.5),
    "fusion_drop_path": 0.4,
}


def _loss_and_gradients(network: GroundingDino, rates: dict[str, float]) -> tuple[float, dict[str, Floats]]:
    trainer = GroundingDinoOptimisation(network, Settings(Recipe(20, rates=rates, seed=3)))
    network.train()
    batch = small_batch()
    slots, divided = trainer._slots_and_divisors([batch])
    loss = trainer.loss(batch, slots, divided)
    gradients = gradients_once(loss.total, list(trainer.trained.values()))
    named = {name: gradient.numpy() for name, gradient in zip(trainer.trained, gradients, strict=True)}
    return float(loss.terms.numpy().sum()), named


@pytest.mark.parametrize(
    ("rates", "changes"),
    [
        ({}, DROPPING),
        ({"bert.": 0.0}, DROPPING),
        ({"bert.": 0.0, "backbone.": 0.0}, {}),
        ({"": 0.0, "bbox_embed.": 1.0}, {}),
        ({}, {"use_fusion": False, "use_text_enhancer": False}),
    ],
    ids=["all", "text frozen", "encoders frozen", "nothing to recompute", "a part is missing"],
)
def test_loss_and_gradients_are_the_same(rates: dict[str, float], changes: dict[str, Any]) -> None:
    """Within rounding: what is fused into one loop differs."""
    plain, expected = _loss_and_gradients(small_network(**changes), rates)
    network = small_network(**changes)
    recompute_layers(network)
    recomputed, found = _loss_and_gradients(network, rates)
    assert recomputed == pytest.approx(plain, rel=1e-6)
    assert found.keys() == expected.keys()
    for name, gradient in expected.items():
        np.testing.assert_allclose(
            found[name], gradient, rtol=1e-4, atol=2e-6 * max(1.0, float(np.abs(gradient).max())), err_msg=name
        )


def test_steps_in_parts_are_the_same() -> None:
    """Two parts, and several steps: what was recomputed once is computed anew from changed weights."""
    logs = []
    for wrap in (False, True):
        network = small_network(**DROPPING)
        if wrap:
            recompute_layers(network)
        trainer = GroundingDinoOptimisation(network, Settings(Recipe(20, lr=1e-3, rates={}, seed=3)))
        logs.append([trainer.train_step(small_batch(step).split(2))["loss"] for step in range(4)])
    np.testing.assert_allclose(logs[1], logs[0], rtol=1e-4)


def test_evaluation_is_not_touched() -> None:
    network = small_network()
    recompute_layers(network)
    plain = small_network()
    batch = small_batch()
    features = []
    for each in (plain, network):
        each.eval()
        features.append(each.encode_image(np.ones((1, 3, 64, 64), np.float32), None).features.numpy())
    np.testing.assert_array_equal(features[0], features[1])
    assert len(batch)


_STEP = """
import resource, sys
import numpy as np
from dataclasses import replace
from ovd_bench.grounding_dino_jt.config import SwinConfig
from ovd_bench.grounding_dino_jt.training.recipe import Recipe
from ovd_bench.grounding_dino_jt.training.recompute import recompute_layers
from ovd_bench.grounding_dino_jt.training.optimisation import Settings, GroundingDinoOptimisation
from ovd_bench.tests.grounding_dino_jt.training.small import small_batch, small_network

backbone = SwinConfig(32, (2, 4), (2, 4), window_size=8, out_stages=(0, 1))
network = small_network(backbone=backbone, hidden_dim=64, enc_layers=4)
if sys.argv[1] == "recomputed":
    recompute_layers(network)
trainer = GroundingDinoOptimisation(network, Settings(Recipe(20)))
small = small_batch()
batch = replace(small, images=small.images.repeat(6, 1).repeat(6, 2), sizes=small.sizes * 6)
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
trainer.train_step([batch])
print("KIB", resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
"""


@pytest.mark.full
def test_memory_falls() -> None:
    """What one step takes beyond the network, each in a process of its own, 384 px."""
    taken = {}
    for how in ("plain", "recomputed"):
        command = [sys.executable, "-c", _STEP, how]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        taken[how] = int(done.stdout.split("KIB")[1])
    assert taken["recomputed"] < 0.65 * taken["plain"], taken
