"""Loading CLIP: two equivalent layouts, strict checks, and hostile files that execute nothing."""

from __future__ import annotations

import json
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import open_clip
import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import CLIPModel

from ovd_bench.baselines.clip_region.weights import load_clip
from ovd_bench.perf.random_models import clip_tokenizer
from ovd_bench.tests.baselines.clip_region.tiny import CONFIG, write_open_clip, write_transformers

TEXTS = ["a photo of a cat", "traffic light"]


def noise() -> Any:
    return np.random.default_rng(0).integers(0, 256, (32, 32, 3), dtype=np.uint8)


@pytest.mark.parametrize("activation", ["quick_gelu", "gelu"])
def test_a_model_of_transformers_means_the_same_here(activation: str, tmp_path: Path) -> None:
    folder = write_transformers(tmp_path / "clip", activation)
    network = load_clip(folder).network
    model = CLIPModel.from_pretrained(folder).eval()
    pixels = (torch.from_numpy(noise()).permute(2, 0, 1) / 255 - torch.tensor([0.4, 0.5, 0.6]).view(3, 1, 1)) / (
        torch.tensor([0.3, 0.2, 0.1]).view(3, 1, 1)
    )
    ids = clip_tokenizer(pad="!")(TEXTS, padding="max_length", return_tensors="pt")
    with torch.inference_mode():
        output = model(input_ids=ids.input_ids, attention_mask=ids.attention_mask, pixel_values=pixels[None])
    torch.testing.assert_close(network.encode_crops([noise()]), output.image_embeds, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(network.encode_texts(TEXTS), output.text_embeds, atol=1e-5, rtol=1e-5)
    assert network.scale == pytest.approx(float(model.logit_scale.detach().exp()))
    assert network.parameters == sum(parameter.numel() for parameter in model.parameters())


def test_a_folder_of_open_clip_is_what_open_clip_loads(tmp_path: Path) -> None:
    folder = write_open_clip(tmp_path / "clip")
    loaded = load_clip(folder)
    model, _ = open_clip.create_model_from_pretrained(f"local-dir:{folder}")
    for name, tensor in model.state_dict().items():
        torch.testing.assert_close(loaded.network.model.state_dict()[name], tensor, atol=0, rtol=0)
    assert loaded.network.normalisation.mean == (0.4, 0.5, 0.6)
    assert [file.name for file in loaded.files] == ["open_clip_model.safetensors"]
    tensors = load_file(folder / "open_clip_model.safetensors")
    (folder / "open_clip_model.safetensors").unlink()
    torch.save(tensors, folder / "open_clip_pytorch_model.bin")
    assert [file.name for file in load_clip(folder).files] == ["open_clip_pytorch_model.bin"]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda t: t.pop("ln_final.bias"), "missing: ln_final.bias"),
        (lambda t: t.update(extra=torch.zeros(3)), "not of this model: extra"),
        (lambda t: t.update({"ln_final.bias": torch.zeros(3)}), "of the wrong shape: ln_final.bias"),
        (lambda t: [t.pop(name) for name in list(t) if "resblocks" in name], r"missing: .* … \(\+\d+\)"),
    ],
)
def test_every_tensor_must_fit(change: Callable[[Any], object], message: str, tmp_path: Path) -> None:
    folder = write_open_clip(tmp_path / "clip")
    tensors = load_file(folder / "open_clip_model.safetensors")
    change(tensors)
    save_file(tensors, folder / "open_clip_model.safetensors")
    with pytest.raises(ValueError, match=message) as caught:
        load_clip(folder)
    assert "\n" not in str(caught.value)


def test_a_projection_of_attention_that_is_missing_is_told(tmp_path: Path) -> None:
    folder = write_transformers(tmp_path / "clip")
    tensors = load_file(folder / "model.safetensors")
    del tensors["text_model.encoder.layers.0.self_attn.k_proj.weight"]
    save_file(tensors, folder / "model.safetensors")
    with pytest.raises(ValueError, match=r"missing: transformer.resblocks.0.attn.in_proj_weight; not of this model: "):
        load_clip(folder)


def test_files_of_torch_execute_nothing(tmp_path: Path) -> None:
    folder = write_open_clip(tmp_path / "clip")
    (folder / "open_clip_model.safetensors").unlink()
    marker = folder / "executed"

    class Hostile:
        def __reduce__(self) -> tuple[object, ...]:
            return Path.touch, (marker,)

    file = folder / "open_clip_pytorch_model.bin"
    torch.save({"logit_scale": Hostile()}, file)
    with pytest.raises(ValueError, match="the weights do not load"):
        load_clip(folder)
    file.write_bytes(pickle.dumps(Hostile(), protocol=2))
    with pytest.raises(ValueError, match="the weights do not load"):
        load_clip(folder)
    assert not marker.exists()


def _with(**changes: dict[str, Any]) -> dict[str, Any]:
    return {"model_cfg": CONFIG | {name: CONFIG.get(name, {}) | value for name, value in changes.items()}}


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({}, "model_cfg: Field required"),
        ([], "valid dictionary"),
        ({"model_cfg": {"embed_dim": 16}}, "make a CLIP"),
        ({"model_cfg": CONFIG | {"custom_text": True}}, "make a CLIP"),
        (_with(vision_cfg={"timm_model_name": "vit_base_patch16_224"}), "vision_cfg is not a tower of open_clip's own"),
        (_with(text_cfg={"hf_model_name": "owner/model"}), "text_cfg is not a tower of open_clip's own"),
        (_with(text_cfg={"hf_tokenizer_name": "owner/model"}), "text_cfg is not a tower of open_clip's own"),
        (_with(text_cfg={"vocab_size": 100}), "100 tokens, CLIP's byte pairs are 49408"),
        (_with(vision_cfg={"layers": [1, 1, 1, 1]}), "cannot be built as CLIP"),
        (_with(vision_cfg={"pool_type": "avg"}), "not a plain square vision transformer"),
        (_with(vision_cfg={"strange": 1}), "cannot be built as CLIP"),
    ],
)
def test_other_models_are_refused_in_one_line(content: Any, message: str, tmp_path: Path) -> None:
    folder = write_open_clip(tmp_path / "clip")
    (folder / "open_clip_config.json").write_text(json.dumps(content))
    with pytest.raises(ValueError, match=message) as caught:
        load_clip(folder)
    assert "\n" not in str(caught.value)


def test_folders_that_are_none_are_refused_in_one_line(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"model\.safetensors is needed"):
        load_clip(tmp_path)
    folder = write_transformers(tmp_path / "clip")
    config = json.loads((folder / "config.json").read_text())
    for changed, message in (
        (config | {"model_type": "siglip"}, "type 'siglip', 'clip' is needed"),
        (config | {"projection_dim": 0}, "projection_dim: "),
        (config | {"text_config": config["text_config"] | {"hidden_act": "relu"}}, "hidden_act must be"),
    ):
        (folder / "config.json").write_text(json.dumps(changed))
        with pytest.raises(ValueError, match=message):
            load_clip(folder)
    (folder / "config.json").write_text("no JSON")
    with pytest.raises(ValueError, match="cannot be read as JSON"):
        load_clip(folder)
    (folder / "config.json").unlink()
    with pytest.raises(ValueError, match=r"no config\.json"):
        load_clip(folder)
