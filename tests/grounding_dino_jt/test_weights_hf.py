"""Hugging Face folders against transformers itself."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.torch
import torch
from transformers import (
    GroundingDinoConfig,
    GroundingDinoForObjectDetection,
    MMGroundingDinoConfig,
    MMGroundingDinoForObjectDetection,
)

from ovd_bench.grounding_dino_jt.config import TINY, TextConfig
from ovd_bench.grounding_dino_jt.weights import (
    Checkpoint,
    WeightsError,
    read_checkpoint,
    read_weights,
    write_canonical,
    write_hf,
)
from ovd_bench.grounding_dino_jt.weights.hf_config import config_from_hf
from ovd_bench.tests.detectors.tiny_models import write_grounding_dino
from ovd_bench.tests.grounding_dino_jt.weight_files import SMALL, SMALL_MM, random_tensors, same

_CLASSES: dict[str, Any] = {
    "grounding-dino": GroundingDinoForObjectDetection,
    "mm-grounding-dino": MMGroundingDinoForObjectDetection,
}
_SWIN = "model.backbone.conv_encoder.model"
State = dict[str, torch.Tensor]


@pytest.fixture(scope="module", params=list(_CLASSES))
def folder(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small model as ``save_pretrained`` writes it, with its tokenizer."""
    return write_grounding_dino(tmp_path_factory.mktemp("hf") / request.param, request.param)


def _outputs(folder: Path) -> tuple[torch.Tensor, torch.Tensor]:
    model_type = json.loads((folder / "config.json").read_text())["model_type"]
    model = _CLASSES[model_type].from_pretrained(folder).eval()
    generator = torch.Generator().manual_seed(3)
    pixels = torch.randn(1, 3, 70, 101, generator=generator)
    ids = torch.tensor([[101, 4937, 1012, 2601, 3899, 1012, 102]])
    with torch.inference_mode():
        out = model(pixel_values=pixels, input_ids=ids)
    return out.logits, out.pred_boxes


def test_there_and_back_gives_the_same_outputs_bit_for_bit(folder: Path, tmp_path: Path) -> None:
    model = read_checkpoint(folder)
    assert model.kind == "hf"
    write_canonical(model.tensors, model.config, tmp_path / "own", source="", source_sha256=model.sha256)
    tensors, config, _ = read_weights(tmp_path / "own")
    write_hf(tensors, config, tmp_path / "hf", tokenizer_from=folder)
    for first, second in zip(_outputs(folder), _outputs(tmp_path / "hf"), strict=True):
        assert torch.equal(first, second)
    assert (tmp_path / "hf" / "tokenizer.json").read_bytes() == (folder / "tokenizer.json").read_bytes()
    again = read_checkpoint(tmp_path / "hf")
    assert again.config == model.config
    assert same(again.tensors, model.tensors)
    assert again.dropped == ()


def test_configuration(folder: Path) -> None:
    config = read_checkpoint(folder).config
    mm = folder.name == "mm-grounding-dino"
    assert config.backbone.depths == (1, 1, 2, 1)
    assert config.backbone.out_stages == (1, 2, 3)
    assert (config.hidden_dim, config.num_heads, config.dim_feedforward, config.num_queries) == (64, 4, 48, 12)
    assert (config.text.hidden_size, config.text.num_heads, config.text.layer_norm_eps) == (24, 2, 1e-12)
    assert (config.image_size, config.image_longest) == (64, 96)
    assert (config.class_bias, config.class_scale, config.shared_box_head) == (mm, "sqrt" if mm else "none", not mm)
    assert config.box_epsilon == 1e-3


def _old_leftovers(state: State) -> State:
    """What transformers 4 wrote besides."""
    added = {f"{_SWIN}.encoder.layers.0.blocks.0.attention.self.relative_position_index": torch.zeros(4, 4).long()}
    added["model.text_backbone.embeddings.position_ids"] = torch.arange(5)[None]
    return {**{name: tensor for name, tensor in state.items() if ".swin." not in name}, **added}


def _tied_copies(state: State) -> State:
    heads = {name: tensor for name, tensor in state.items() if name.startswith(("bbox_embed.", "class_embed."))}
    return {**state, **{f"model.decoder.{name}": tensor for name, tensor in heads.items()}}


def _changed(folder: Path, target: Path, change: Callable[[State], State], kind: torch.dtype | None = None) -> Path:
    target.mkdir()
    (target / "config.json").write_bytes((folder / "config.json").read_bytes())
    state = change(safetensors.torch.load_file(folder / "model.safetensors"))
    state = {name: (tensor.to(kind) if kind else tensor).clone() for name, tensor in state.items()}
    safetensors.torch.save_file(state, target / "model.safetensors")
    return target


@pytest.mark.parametrize("change", [_old_leftovers, _tied_copies])
def test_other_forms_of_published_files(folder: Path, tmp_path: Path, change: Callable[[State], State]) -> None:
    read = read_checkpoint(_changed(folder, tmp_path / "b", change))
    assert same(read.tensors, read_checkpoint(folder).tensors)


def test_names_that_transformers_5_has_in_memory(folder: Path, tmp_path: Path) -> None:
    model = _CLASSES[folder.name].from_pretrained(folder)
    read = read_checkpoint(_changed(folder, tmp_path / "b", lambda _: model.state_dict()))
    assert same(read.tensors, read_checkpoint(folder).tensors)


@pytest.mark.parametrize("kind", [torch.bfloat16, torch.float16, torch.float64])
def test_other_number_types(folder: Path, tmp_path: Path, kind: torch.dtype) -> None:
    read = read_checkpoint(_changed(folder, tmp_path / "b", dict, kind))
    expected = {
        name: torch.from_numpy(tensor).to(kind).float().numpy()
        for name, tensor in read_checkpoint(folder).tensors.items()
    }
    assert same(read.tensors, expected)


def test_several_files(folder: Path, tmp_path: Path) -> None:
    model = _CLASSES[folder.name].from_pretrained(folder)
    model.save_pretrained(tmp_path, max_shard_size="1MB")
    assert not (tmp_path / "model.safetensors").exists()
    read = read_checkpoint(tmp_path)
    assert same(read.tensors, read_checkpoint(folder).tensors)
    assert len(read.sha256) == 64
    index = tmp_path / "model.safetensors.index.json"
    document = json.loads(index.read_text())
    lost = next(iter(document["weight_map"]))
    del document["weight_map"][lost]
    index.write_text(json.dumps(document))
    with pytest.raises(WeightsError, match="disagree about 1 tensors"):
        read_checkpoint(tmp_path)
    document["weight_map"][lost] = "../model.safetensors"
    index.write_text(json.dumps(document))
    with pytest.raises(WeightsError, match="is not a safetensors file in the same folder"):
        read_checkpoint(tmp_path)


def test_class_bias_shared_by_all_layers(tmp_path: Path) -> None:
    tensors = random_tensors(SMALL_MM)
    write_hf(tensors, SMALL_MM, tmp_path / "a")
    config = json.loads((tmp_path / "a" / "config.json").read_text())
    del config["decoder_cls_embed_share"]
    (tmp_path / "a" / "config.json").write_text(json.dumps(config))
    gone = ("class_embed.1.bias", "class_embed.2.bias")
    target = _changed(
        tmp_path / "a", tmp_path / "b", lambda state: {n: tensor for n, tensor in state.items() if n not in gone}
    )
    read = read_checkpoint(target).tensors
    assert [read[f"class_embed.{layer}.bias"] for layer in range(3)] == [tensors["class_embed.0.bias"]] * 3


@pytest.mark.parametrize("config", [SMALL, SMALL_MM, replace(SMALL_MM, shared_box_head=True)])
def test_any_model_keeps_its_tensors(tmp_path: Path, config: Any) -> None:
    tensors = random_tensors(config)
    write_hf(tensors, config, tmp_path / "a")
    read: Checkpoint = read_checkpoint(tmp_path / "a")
    assert read.config == config
    assert same(read.tensors, tensors)


@pytest.mark.parametrize("config_class", [GroundingDinoConfig, MMGroundingDinoConfig])
def test_defaults_of_the_library_stand_for_what_config_json_leaves_out(config_class: Any) -> None:
    said = config_from_hf(config_class().to_dict(), {}, box_heads=1)
    assert config_from_hf({"model_type": config_class.model_type}, {}, box_heads=1) == said
    mm: dict[str, Any] = {"class_scale": "sqrt", "class_bias": True} if config_class is MMGroundingDinoConfig else {}
    assert said == replace(TINY, backbone=replace(TINY.backbone, drop_path_rate=0.1), **mm)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("model_type", "deformable_detr"),
        ("activation_function", "gelu"),
        ("two_stage", False),
        ("encoder_layers", "2"),
        ("encoder_layers", 10**12),
        ("d_model", -64),
        ("decoder_attention_heads", 2),
        ("encoder_attention_heads", 0),
        ("backbone_config", {"model_type": "resnet"}),
        ("backbone_config", {"out_features": ["stem"]}),
        ("backbone_config", {"num_heads": [2]}),
        ("text_config", {"model_type": "roberta"}),
        ("text_config", []),
        ("text_config", "bert"),
    ],
)
def test_other_configurations_are_refused_in_one_line(tmp_path: Path, key: str, value: object) -> None:
    write_hf(random_tensors(SMALL), SMALL, tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps({**config, key: value}))
    with pytest.raises(WeightsError) as error:
        read_checkpoint(tmp_path)
    assert str(tmp_path) in str(error.value)
    assert "\n" not in str(error.value)


def test_another_normalisation_of_pixels_is_refused(tmp_path: Path) -> None:
    write_hf(random_tensors(SMALL), SMALL, tmp_path)
    path = tmp_path / "preprocessor_config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "image_std": [1, 1, 1]}))
    with pytest.raises(WeightsError, match="image_std is "):
        read_checkpoint(tmp_path)


def test_clip_is_no_model_of_transformers(tmp_path: Path) -> None:
    config = replace(SMALL, text=TextConfig("clip", 32, 1, 4, 48, 60, 12, 1e-5))
    with pytest.raises(WeightsError, match="no such model: text"):
        write_hf(random_tensors(config), config, tmp_path / "a")


def test_sum_of_the_file(folder: Path) -> None:
    import hashlib

    content = (folder / "model.safetensors").read_bytes()
    assert read_checkpoint(folder).sha256 == hashlib.sha256(content).hexdigest()
    assert np.all([tensor.dtype == np.float32 for tensor in read_checkpoint(folder).tensors.values()])
