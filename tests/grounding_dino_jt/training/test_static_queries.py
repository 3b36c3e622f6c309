"""Static queries with and without the encoder's own loss."""

from __future__ import annotations

import numpy as np
import pytest

from ovd_bench.grounding_dino_jt.training.optimisation import GroundingDinoOptimisation, Settings
from ovd_bench.grounding_dino_jt.training.recipe import Recipe
from ovd_bench.grounding_dino_jt.weights import expected_shapes
from ovd_bench.tests.grounding_dino_jt.training.small import small_batch, small_network

ENCODER = ("transformer.enc_output.weight", "transformer.enc_out_bbox_embed.layers.2.bias")


@pytest.mark.parametrize(
    ("selection", "encoder"), [("language", True), ("static", False), ("static_encoder_loss", True)]
)
def test_what_a_step_learns(selection: str, encoder: bool) -> None:
    """With both static ones the learned boxes move; the encoder's heads move where their loss is kept."""
    network = small_network(query_selection=selection)
    assert {name: tuple(value.shape) for name, value in network.state_dict().items()} == expected_shapes(network.config)
    before = {name: value.numpy().copy() for name, value in network.state_dict().items()}
    log = GroundingDinoOptimisation(network, Settings(Recipe(steps=10, weight_decay=0.0))).train_step([small_batch()])
    moved = {name for name, value in network.state_dict().items() if not np.array_equal(value.numpy(), before[name])}
    assert ("encoder" in log) is encoder
    assert [name in moved for name in ENCODER] == [encoder, encoder]
    assert ("transformer.refpoint_embed.weight" in moved) is (selection != "language")
    assert "transformer.decoder.layers.0.linear1.weight" in moved
