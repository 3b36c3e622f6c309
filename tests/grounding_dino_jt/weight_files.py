"""Small models and the files that other projects would write of them."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from ovd_bench.grounding_dino_jt.config import Config, SwinConfig, TextConfig
from ovd_bench.grounding_dino_jt.weights import expected_shapes
from ovd_bench.grounding_dino_jt.weights.names_mmdet import is_patch_merging, mmdet_names

Tensors = dict[str, npt.NDArray[np.float32]]

#: Sizes that a reader can tell from shapes: heads of 64 in the text encoder, 4 sampling points.
SMALL = Config(
    backbone=SwinConfig(embed_dim=8, depths=(1, 2, 1, 1), num_heads=(1, 2, 4, 8), window_size=3),
    text=TextConfig(hidden_size=64, num_layers=2, num_heads=1, intermediate_size=96, vocab_size=40, max_positions=24),
    hidden_dim=32,
    num_heads=4,
    dim_feedforward=48,
    enc_layers=2,
    dec_layers=3,
    num_queries=7,
    num_feature_levels=4,
)
SMALL_MM = replace(SMALL, class_scale="sqrt", class_bias=True, shared_box_head=False)


def random_tensors(config: Config, seed: int = 0) -> Tensors:
    """A model with random weights."""
    rng = np.random.default_rng(seed)
    shapes = expected_shapes(config)
    return {name: rng.standard_normal(shape).astype(np.float32) for name, shape in shapes.items()}


def same(first: Tensors, second: Tensors) -> bool:
    """Whether two models are equal to the bit, order included."""
    return list(first) == list(second) and all(first[name].tobytes() == second[name].tobytes() for name in first)


def unfold_order(tensor: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """Patch merging from the official order of the last axis to mmdetection's, element by element."""
    width = tensor.shape[-1]
    result = np.empty_like(tensor)
    for channel in range(width // 4):
        for row in range(2):
            for column in range(2):
                official = (row + 2 * column) * (width // 4) + channel
                result[..., 4 * channel + 2 * row + column] = tensor[..., official]
    return result


def mmdet_state(tensors: Tensors, config: Config) -> dict[str, torch.Tensor]:
    """State dict of mmdetection; its decoder has a box head per layer."""
    levels, layers = len(config.backbone.out_stages), config.dec_layers
    wanted = [f"neck.convs.{level}.conv.weight" for level in range(levels)]
    wanted += [f"decoder.layers.{layer}.norms.0.weight" for layer in range(layers)]
    names = mmdet_names(wanted)
    state = {}
    for name, tensor in tensors.items():
        numbers = unfold_order(tensor) if is_patch_merging(name) else tensor
        repeat = layers if config.shared_box_head and name.startswith("bbox_embed.0.") else 1
        for layer in range(repeat):
            [foreign] = names.foreign(name.replace("bbox_embed.0.", f"bbox_embed.{layer}.") if repeat > 1 else name)
            state[foreign] = torch.from_numpy(numbers.copy())
    return state


def official_state(tensors: Tensors, config: Config) -> dict[str, Any]:
    """State dict of the published checkpoint: prefix, copies, leftovers."""
    state: dict[str, Any] = {}
    for name, tensor in tensors.items():
        own = torch.from_numpy(tensor)
        if name.startswith("bbox_embed.0."):
            for layer in range(config.dec_layers):
                state[f"module.{name.replace('.0.', f'.{layer}.', 1)}"] = own
                state[f"module.transformer.decoder.{name.replace('.0.', f'.{layer}.', 1)}"] = own
        else:
            state[f"module.{name}"] = own
    tokens = config.backbone.window_size**2
    state["module.label_enc.weight"] = torch.zeros(5, config.hidden_dim)
    state["module.bert.pooler.dense.weight"] = torch.zeros(config.text.hidden_size, config.text.hidden_size)
    state["module.bert.pooler.dense.bias"] = torch.zeros(config.text.hidden_size)
    state["module.bert.embeddings.position_ids"] = torch.arange(config.text.max_positions)[None]
    state["module.backbone.0.layers.0.blocks.0.attn.relative_position_index"] = torch.zeros(
        tokens, tokens, dtype=torch.int64
    )
    return state


def write_torch_file(path: Path, content: Any) -> Path:
    """A ``.pth`` file."""
    torch.save(content, path)
    return path
