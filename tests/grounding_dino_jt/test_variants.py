"""Ablation switches do what they say; small networks with random weights."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ovd_bench.grounding_dino_jt.config import Config, SwinConfig, TextConfig
from ovd_bench.grounding_dino_jt.load import load
from ovd_bench.grounding_dino_jt.model import GroundingDino, Output
from ovd_bench.grounding_dino_jt.tokens import TokenBatch, phrase_masks, phrase_means, prompt_masks
from ovd_bench.grounding_dino_jt.weights import write_canonical
from ovd_bench.kernels.runtime import jittor

jt = jittor()

PLAIN = Config(
    backbone=SwinConfig(embed_dim=8, depths=(1, 1, 2), num_heads=(1, 2, 2), window_size=4, out_stages=(1, 2)),
    text=TextConfig(hidden_size=24, num_layers=1, num_heads=2, intermediate_size=32, vocab_size=3000),
    hidden_dim=32,
    num_heads=4,
    dim_feedforward=64,
    enc_layers=2,
    dec_layers=2,
    num_queries=8,
    num_feature_levels=3,
)
VARIANTS: dict[str, dict[str, Any]] = {
    "plain": {},
    "no fusion": {"use_fusion": False},
    "no text enhancer": {"use_text_enhancer": False},
    "no text cross-attention": {"use_text_cross_attention": False},
    "static queries": {"query_selection": "static"},
    "static queries, encoder loss": {"query_selection": "static_encoder_loss"},
    "word prompt": {"prompt": "word"},
    "sentence prompt": {"prompt": "sentence"},
    "dense attention": {"attention": "dense"},
    "heads of MM-Grounding-DINO": {"class_scale": "sqrt", "class_bias": True, "shared_box_head": False},
}

CAT_AND_DOG = [101, 1037, 2368, 1012, 1999, 1012, 102]
CAT = [101, 1037, 2368, 1012, 102]


def _network(name: str) -> GroundingDino:
    """With weights that let every path speak."""
    jt.set_global_seed(0)
    network = GroundingDino(dataclasses.replace(PLAIN, **VARIANTS[name]))
    for variable in network.state_dict().values():
        variable.assign(variable + jt.randn(variable.shape) * 0.1)
    network.eval()
    return network


def _run(network: GroundingDino, rows: list[list[int]]) -> Output:
    pixels = np.random.default_rng(0).standard_normal((1, 3, 48, 64)).astype(np.float32)
    with jt.no_grad():
        output: Output = network(network.encode_image(pixels), network.encode_tokens(TokenBatch.of(rows)))
    return output


@pytest.mark.parametrize("name", VARIANTS)
def test_one_image_and_several_captions(name: str) -> None:
    network = _network(name)
    output = _run(network, [CAT_AND_DOG, CAT])
    logits, boxes = output.pred_logits.numpy(), output.pred_boxes.numpy()
    assert logits.shape == (2, 8, 256)
    assert boxes.shape == (2, 8, 4)
    assert np.isfinite(logits[0, :, :7]).all()
    assert np.isneginf(logits[0, :, 7:]).all()
    assert np.isneginf(logits[1, :, 5:]).all()
    assert ((boxes > 0) & (boxes < 1)).all()
    alone = _run(network, [CAT_AND_DOG])
    np.testing.assert_allclose(alone.pred_boxes.numpy()[0], boxes[0], atol=1e-4)


@pytest.mark.parametrize("name", [name for name in VARIANTS if name != "plain"])
def test_a_switch_changes_the_parameters_or_the_result(name: str) -> None:
    network, plain = _network(name), _network("plain")
    if set(network.state_dict()) == set(plain.state_dict()):
        for mine, other in zip(network.state_dict().values(), plain.state_dict().values(), strict=True):
            mine.assign(other)
        difference = _run(network, [CAT_AND_DOG]).pred_logits - _run(plain, [CAT_AND_DOG]).pred_logits
        assert np.abs(difference.numpy()[..., :7]).max() > 1e-3


def test_without_fusion_the_image_says_nothing_to_the_text() -> None:
    network = _network("no fusion")
    with jt.no_grad():
        text = network.encode_tokens(TokenBatch.of([CAT]))
        memories = []
        for seed in (0, 1):
            pixels = np.random.default_rng(seed).standard_normal((1, 3, 48, 64)).astype(np.float32)
            _, words = network.transformer.encoder(network.encode_image(pixels), text)
            memories.append(words.numpy())
    np.testing.assert_array_equal(*memories)


def test_prompts_differ_in_who_sees_whom() -> None:
    tokens = TokenBatch.of([CAT_AND_DOG, CAT])
    phrase, _ = phrase_masks(tokens.ids)
    word, places = prompt_masks(tokens, "word")
    assert not phrase[0, 1, 4]
    assert word[0, :7, :7].all()
    assert not word[1, 0, 5]
    assert places[0].tolist() == list(range(7))
    means = phrase_means(tokens, phrase)
    np.testing.assert_allclose(means.sum(-1), 1, atol=1e-6)
    assert means[0, 1].tolist() == [0, 0.5, 0.5, 0, 0, 0, 0]
    assert means[0, 3, 3] == 1


def test_a_model_with_clip_is_not_fed_with_the_tokens_of_bert(tmp_path: Path) -> None:
    config = dataclasses.replace(PLAIN, text=dataclasses.replace(PLAIN.text, kind="clip", layer_norm_eps=1e-5))
    tensors = {name: value.numpy() for name, value in GroundingDino(config).state_dict().items()}
    write_canonical(tensors, config, tmp_path / "clip.safetensors", source="test", source_sha256="0" * 64)
    with pytest.raises(ValueError, match="tokeniser is not here"):
        load(tmp_path / "clip.safetensors")
