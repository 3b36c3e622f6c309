"""Each part of the network alone against the same part in transformers, given the same input.

A fault of one part shows here by name, where the comparison of the whole only says that there is one.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from transformers.models.grounding_dino.modeling_grounding_dino import (
    generate_masks_with_special_tokens_and_transfer_map as reference_masks,
)

from ovd_bench.grounding_dino_jt.tokenizer import packaged_tokenizer
from ovd_bench.grounding_dino_jt.tokens import BERT_SEPARATORS, TokenBatch, phrase_masks
from ovd_bench.kernels.runtime import jittor
from ovd_bench.perf.random_models import bert_tokenizer
from ovd_bench.tests.grounding_dino_jt.draws import CAPTIONS, Draw
from ovd_bench.tests.grounding_dino_jt.pair import Ours, Pair, make_pair, run_ours, run_reference, tokens_of

jt = jittor()

BATCH = Draw("ladder", ((64, 100), (90, 48)), ("a cat. two old dogs.", "traffic light"), seed=3)


class Heard:
    """Inputs and outputs of the reference's modules during one forward pass, by module name."""

    def __init__(self, model: torch.nn.Module) -> None:
        self.inputs: dict[str, dict[Any, Any]] = {}
        self.outputs: dict[str, Any] = {}
        self._handles = [
            module.register_forward_hook(self._listener(name), with_kwargs=True)
            for name, module in model.named_modules()
        ]

    def stop(self) -> None:
        for handle in self._handles:
            handle.remove()

    def _listener(self, name: str) -> Any:
        def listen(_: Any, arguments: Any, named: Any, output: Any) -> None:
            self.inputs.setdefault(name, {**dict(enumerate(arguments)), **named})
            self.outputs.setdefault(name, output)

        return listen


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> Pair:
    return make_pair(tmp_path_factory.mktemp("ladder"), 5)


@pytest.fixture(scope="module")
def heard(pair: Pair) -> Heard:
    listener = Heard(pair.reference.model)
    pixels, padding = BATCH.pixels()
    run_reference(pair, pixels, tokens_of(BATCH.captions), padding)
    listener.stop()
    return listener


@pytest.fixture(scope="module")
def ours(pair: Pair) -> Ours:
    pixels, padding = BATCH.pixels()
    return run_ours(pair, pixels, tokens_of(BATCH.captions), padding)


def near(found: Any, expected: torch.Tensor, within: float = 2e-5) -> None:
    """Equal up to ``within`` of the largest value, and at least of 1."""
    wanted = expected.detach().numpy()
    limit = within * max(1.0, float(np.abs(wanted).max()))
    np.testing.assert_allclose(found.numpy(), wanted, rtol=0, atol=limit)


@pytest.mark.parametrize("name", CAPTIONS)
def test_token_ids(name: str) -> None:
    for text in CAPTIONS[name]:
        assert list(packaged_tokenizer().inner.encode(text).ids) == bert_tokenizer()(text).input_ids
        dotted = text if text.endswith(".") else text + "."
        assert packaged_tokenizer().caption(f"  {text} ") == bert_tokenizer()(dotted).input_ids


@pytest.mark.parametrize("name", CAPTIONS)
def test_masks_and_positions(name: str) -> None:
    tokens = tokens_of(CAPTIONS[name])
    mask, positions = phrase_masks(tokens.ids)
    ids = torch.from_numpy(tokens.ids.astype(np.int64))
    expected, places = reference_masks(ids, torch.tensor(BERT_SEPARATORS))
    assert (mask == expected.numpy()).all()
    assert (positions == places.numpy()).all()


def test_a_long_caption_is_cut_after_its_masks_are_made(pair: Pair) -> None:
    ids = list(packaged_tokenizer().inner.encode(CAPTIONS["more than 256 tokens"][0]).ids)
    assert len(ids) > 256
    tokens = torch.tensor([ids])
    mask, places = reference_masks(tokens, torch.tensor(BERT_SEPARATORS))
    core = pair.reference.model
    with torch.no_grad():
        encoded = core.text_backbone(
            input_ids=tokens[:, :256], attention_mask=mask[:, None, :256, :256], position_ids=places[:, :256]
        )
        expected = core.text_projection(encoded.last_hidden_state)
    with jt.no_grad():
        text = pair.ours.encode_tokens(TokenBatch.of([ids]))
    near(text.features, expected)


def test_text_encoder_and_its_projection(heard: Heard, ours: Ours) -> None:
    near(ours.text.features, heard.outputs["text_projection"])


def test_backbone_levels(pair: Pair, heard: Heard) -> None:
    pixels, _ = BATCH.pixels()
    with jt.no_grad():
        maps = pair.ours.backbone[0](jt.array(pixels))
    levels = heard.outputs["backbone"][0]
    assert len(maps) == len(levels) == 3
    for found, (expected, _) in zip(maps, levels, strict=True):
        near(found.permute(0, 3, 1, 2), expected)


def test_projected_levels_and_positions(pair: Pair, heard: Heard, ours: Ours) -> None:
    levels = [heard.outputs[f"input_proj_vision.{level}"] for level in range(4)]
    flat = torch.cat([level.flatten(2).transpose(1, 2) for level in levels], dim=1)
    norm = pair.reference.model.encoder.layers[0].fusion_layer.layer_norm_vision
    near(ours.image.features, norm(flat))
    near(ours.image.positions, heard.inputs["encoder"]["vision_position_embedding"])
    assert (ours.image.padding.numpy() == heard.inputs["encoder"]["vision_attention_mask"].numpy()).all()


def test_fusion_layer(pair: Pair, heard: Heard) -> None:
    asked, (image, text) = (
        heard.inputs["encoder.layers.1.fusion_layer"],
        [part[0] if isinstance(part, tuple) else part for part in heard.outputs["encoder.layers.1.fusion_layer"]],
    )
    layer = pair.ours.transformer.encoder.fusion_layers[1]
    hidden = {name: asked.get(name) for name in ("attention_mask_vision", "attention_mask_text")}
    padding = {name: None if mask is None else jt.array(mask.numpy().astype(bool)) for name, mask in hidden.items()}
    with jt.no_grad():
        normalised = layer.layer_norm_v(jt.array(asked["vision_features"].numpy()))
        words = jt.array(asked["text_features"].numpy())
        found = layer(normalised, words, padding["attention_mask_vision"], padding["attention_mask_text"])
    near(found[0], image)
    near(found[1], text)


def test_text_layer(pair: Pair, heard: Heard, ours: Ours) -> None:
    asked = heard.inputs["encoder.layers.1.text_enhancer_layer"]
    with jt.no_grad():
        layer = pair.ours.transformer.encoder.text_layers[1]
        found = layer(jt.array(asked["hidden_states"].numpy()), ours.text.positions, ours.text.bias)
    near(found, heard.outputs["encoder.layers.1.text_enhancer_layer"][0])


def test_image_layer(pair: Pair, heard: Heard, ours: Ours) -> None:
    asked = heard.inputs["encoder.layers.1.deformable_layer"]
    with jt.no_grad():
        found = pair.ours.transformer.encoder.layers[1](jt.array(asked["hidden_states"].numpy()), ours.image)
    near(found, heard.outputs["encoder.layers.1.deformable_layer"][0])


def test_decoder_layer(pair: Pair, heard: Heard, ours: Ours) -> None:
    asked = heard.inputs["decoder.layers.0"]
    from ovd_bench.grounding_dino_jt.decoder import Memory

    hidden = heard.inputs["decoder"]["text_encoder_attention_mask"].numpy().astype(bool)
    bias = jt.array(np.where(hidden, np.float32(-np.inf), np.float32(0))[:, None, None])
    memory = Memory(
        jt.array(asked["vision_encoder_hidden_states"].numpy()),
        jt.array(asked["text_encoder_hidden_states"].numpy()),
        bias,
        ours.image,
    )
    with jt.no_grad():
        found = pair.ours.transformer.decoder.layers[0](
            jt.array(asked[0].numpy() if 0 in asked else asked["hidden_states"].numpy()),
            jt.array(asked["position_embeddings"].numpy()),
            jt.array(asked["reference_points"].numpy()),
            memory,
        )
    output = heard.outputs["decoder.layers.0"]
    near(found, output[0] if isinstance(output, tuple) else output)


def test_an_image_in_a_batch_with_longer_captions_is_the_same(pair: Pair) -> None:
    """With a final dot, padding of the caption changes nothing; images of one size need none."""
    draw = Draw("batch", ((64, 100), (64, 100)), ("a cat. a dog.", "a very small dog on a long bench. tree."), seed=8)
    pixels, padding = draw.pixels()
    both = run_ours(pair, pixels, tokens_of(draw.captions), padding)
    for row, caption in enumerate(draw.captions):
        alone = run_ours(pair, pixels[row : row + 1], tokens_of([caption]), padding[row : row + 1])
        there = np.isfinite(alone.logits[0])
        assert (np.isfinite(both.logits[row]) == there).all()
        np.testing.assert_allclose(both.logits[row][there], alone.logits[0][there], atol=1e-4)
        np.testing.assert_allclose(both.boxes[row], alone.boxes[0], atol=1e-5)


def test_one_image_for_several_captions_is_the_image_several_times(pair: Pair) -> None:
    captions = ("a cat. a dog.", "tree.", "a very small dog on a long bench. tree.")
    pixels, padding = Draw("one", ((64, 100),), ("",), seed=8).pixels()
    tokens = tokens_of(captions)
    shared = run_ours(pair, pixels, tokens, padding)
    repeated = run_ours(pair, pixels.repeat(3, 0), tokens, padding.repeat(3, 0))
    there = np.isfinite(repeated.logits)
    near(jt.array(shared.logits[there]), torch.from_numpy(repeated.logits[there]), 1e-5)
    np.testing.assert_allclose(shared.boxes, repeated.boxes, atol=1e-6)


def test_parameters_are_those_of_the_weight_files(pair: Pair, tmp_path: Path) -> None:
    from ovd_bench.grounding_dino_jt.config import BASE, NANO, TINY
    from ovd_bench.grounding_dino_jt.model import GroundingDino
    from ovd_bench.grounding_dino_jt.weights import expected_shapes

    for config in (TINY, BASE, NANO, pair.ours.config):
        found = {name: tuple(value.shape) for name, value in GroundingDino(config).state_dict().items()}
        assert found == expected_shapes(config)
