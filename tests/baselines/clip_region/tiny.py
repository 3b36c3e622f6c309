"""A small CLIP with random weights, in the layouts of open_clip and of transformers."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import open_clip
import torch
from safetensors.torch import save_file
from transformers import CLIPConfig, CLIPModel

from ovd_bench.perf.random_models import draw_weights

CONFIG: dict[str, Any] = {
    "embed_dim": 16,
    "vision_cfg": {"image_size": 32, "layers": 3, "width": 32, "head_width": 16, "patch_size": 8},
    "text_cfg": {"context_length": 16, "vocab_size": 49408, "width": 16, "heads": 2, "layers": 2},
}


def open_clip_model(**vision: Any) -> open_clip.CLIP:
    """The same random weights every time, wherever the vision tower's settings allow it."""
    torch.manual_seed(0)
    model = open_clip.CLIP(**{**CONFIG, "vision_cfg": CONFIG["vision_cfg"] | vision})
    draw_weights(model, 0.1)
    return model


def write_open_clip(folder: Path) -> Path:
    """Open_clip's layout, with colours of its own."""
    folder.mkdir(parents=True, exist_ok=True)
    tensors = {name: value.contiguous() for name, value in open_clip_model().state_dict().items()}
    save_file(tensors, folder / "open_clip_model.safetensors")
    content = {"model_cfg": CONFIG, "preprocess_cfg": {"mean": [0.4, 0.5, 0.6], "std": [0.3, 0.2, 0.1]}}
    (folder / "open_clip_config.json").write_text(json.dumps(content))
    return folder


def write_transformers(folder: Path, activation: str = "quick_gelu") -> Path:
    """The layout of transformers' ``CLIPModel``."""
    torch.manual_seed(0)
    tower = {"num_hidden_layers": 2, "num_attention_heads": 2, "hidden_act": activation}
    config = CLIPConfig(
        text_config={**tower, "hidden_size": 16, "intermediate_size": 40, "max_position_embeddings": 16},
        vision_config={**tower, "hidden_size": 32, "intermediate_size": 56, "image_size": 32, "patch_size": 8},
        projection_dim=24,
    )
    model = CLIPModel(config)
    draw_weights(model, 0.1)
    model.save_pretrained(folder)
    colours = {"image_mean": [0.4, 0.5, 0.6], "image_std": [0.3, 0.2, 0.1]}
    (folder / "preprocessor_config.json").write_text(json.dumps(colours))
    return folder
