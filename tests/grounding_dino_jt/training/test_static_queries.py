"""Static queries with and without the encoder's own loss."""

from __future__ import annotations

import numpy as np
import pytest

from grounding_dino_jt.layers import drawn_by
from grounding_dino_jt.load import normalised
from grounding_dino_jt.training.forward import all_predictions
from grounding_dino_jt.training.losses import LossConfig
from grounding_dino_jt.weights import expected_shapes
from kernels.runtime import jittor
from tests.grounding_dino_jt.pair import tokens_of
from tests.grounding_dino_jt.training.small import small_network

jt = jittor()

CAPTIONS = ("a cat. two old dogs.", "a bench.")


@pytest.mark.parametrize(
    ("selection", "encoder"), [("language", True), ("static", False), ("static_encoder_loss", True)]
)
def test_predictions_that_have_a_loss(selection: str, encoder: bool) -> None:
    """The decoder starts from the learned boxes with both static ones; the encoder's heads learn by their own loss."""
    network = small_network(query_selection=selection)
    network.train()
    assert {name: tuple(value.shape) for name, value in network.state_dict().items()} == expected_shapes(network.config)
    pixels = normalised(np.random.default_rng(5).uniform(0, 255, (2, 3, 48, 64)).astype(np.float32))
    with drawn_by([np.random.default_rng(number) for number in range(2)]):
        image = network.encode_image(pixels)
        text = network.encode_tokens(tokens_of(CAPTIONS))
        matching, _ = all_predictions(network, image, text, None, LossConfig())
    by_name = {one.name: one for one in matching}
    assert ("encoder" in by_name) is encoder
    heads = {name: value for name, value in network.state_dict().items() if "enc_out" in name}
    assert bool(heads) is encoder
    if encoder:
        own = by_name["encoder"]
        gradients = jt.grad((own.logits * (own.logits > -1e9)).sum() + own.boxes.sum(), list(heads.values()))
        moved = {name for name, gradient in zip(heads, gradients, strict=True) if (gradient.numpy() != 0).any()}
        assert {"transformer.enc_output.weight", "transformer.enc_out_bbox_embed.layers.2.bias"} <= moved
    if selection != "language":
        learned = network.state_dict()["transformer.refpoint_embed.weight"]
        [gradient] = jt.grad(by_name["decoder.0"].boxes.sum(), [learned])
        assert (gradient.numpy() != 0).any()
