"""Products in bfloat16, weights and gradients in float32."""

from __future__ import annotations

from contextlib import nullcontext
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from ovd_bench.grounding_dino_jt.model import GroundingDino
from ovd_bench.grounding_dino_jt.precision import mixed_precision
from ovd_bench.grounding_dino_jt.training.optimisation import GroundingDinoOptimisation, Settings, normalised
from ovd_bench.grounding_dino_jt.training.recipe import Recipe
from ovd_bench.grounding_dino_jt.training.recompute import recompute_layers
from ovd_bench.kernels import feed_forward, linear
from ovd_bench.kernels.bases import gradients_once
from ovd_bench.kernels.runtime import jittor
from ovd_bench.tests.grounding_dino_jt.training.small import SMALL, small_batch, small_network

jt = jittor()

Floats = npt.NDArray[np.float32]
#: Without drop path.
STILL: dict[str, Any] = {"backbone": replace(SMALL.backbone, drop_path_rate=0.0), "fusion_drop_path": 0.0}


def _trainer(recompute: int = False, **settings: Any) -> GroundingDinoOptimisation:
    network = small_network()
    if recompute:
        recompute_layers(network)
    return GroundingDinoOptimisation(network, Settings(Recipe(20, lr=1e-3, rates={}, seed=3), **settings))


def _first_step(trainer: GroundingDinoOptimisation) -> tuple[float, float]:
    log = trainer.train_step([small_batch()])
    return log["loss"], log["gradient"]


def _gradients(network: GroundingDino, half: bool) -> dict[str, Floats]:
    """Of a smooth function of what the encoder gives: rounding changes no choice of a query and no assignment."""
    network.train()
    named, batch = network.state_dict(), small_batch()
    with mixed_precision(network, "bfloat16") if half else nullcontext():
        text = network.encode_tokens(batch.tokens)
        outputs = network.transformer.encoder(network.encode_image(normalised(batch), batch.padding()), text)
        rng = np.random.default_rng(0)
        total = sum((y * jt.array(rng.normal(size=y.shape).astype(np.float32))).sum() for y in outputs)
        found = gradients_once(total, list(named.values()))
    assert {str(gradient.dtype) for gradient in found} == {"float32"}
    return {name: gradient.numpy() for name, gradient in zip(named, found, strict=True)}


def _product(x: Any, weight: Any) -> Any:
    """``kernels.linear.product`` as a graphics processor makes it: rounded numbers, summed up in float32.

    Jittor's own for the CPU sums in half precision as well, which loses far more.
    """
    return jt.nn.linear(x.cast(weight.dtype).cast("float32"), weight.cast("float32"))


def test_gradients_point_the_same_way(monkeypatch: pytest.MonkeyPatch) -> None:
    """Also those of matrices that are rounded."""
    for user in (linear, feed_forward):
        monkeypatch.setattr(user, "product", _product)
    exact, near = (_gradients(small_network(**STILL), half) for half in (False, True))
    cosines = {}
    for name, gradient in exact.items():
        length = float(np.linalg.norm(gradient))
        if length < 1e-3:  # what the decoder has, and biases that a norm takes away again
            assert np.linalg.norm(near[name]) < 1e-2, name
        else:
            cosines[name] = float((gradient * near[name]).sum()) / length / float(np.linalg.norm(near[name]))
    assert min(cosines.values()) > 0.98, min(cosines, key=lambda n: cosines[n])
    assert sum(cosine < 0.99999 for cosine in cosines.values()) > 50


def test_recomputed_layers_are_rounded_as_well() -> None:
    """To the bit of a loop's order, what is computed twice is what is computed once."""
    losses, norms = zip(*(_first_step(_trainer(recompute, precision="bfloat16")) for recompute in (0, 1)), strict=True)
    assert losses[1] == pytest.approx(losses[0], rel=1e-5)
    assert norms[1] == pytest.approx(norms[0], rel=1e-4)


def test_the_loss_falls_and_the_weights_stay_in_float32() -> None:
    trainer = _trainer(precision="bfloat16")
    before = {name: id(value) for name, value in trainer.network.state_dict().items()}
    batch = small_batch()
    log = [trainer.train_step([batch])["loss"] for _ in range(12)]
    assert log[-1] < 0.9 * log[0]
    after = trainer.network.state_dict()
    assert {name: id(value) for name, value in after.items()} == before
    assert {str(value.dtype) for value in after.values()} == {"float32"}


def test_the_first_step_differs_by_rounding_only() -> None:
    losses = [_first_step(_trainer(precision=precision))[0] for precision in ("float32", "bfloat16")]
    assert losses[1] != losses[0]
    assert losses[1] == pytest.approx(losses[0], rel=0.02)
