"""Small DINOs with random weights, and the state dict that the official code would save of them."""

from __future__ import annotations

import math
from functools import cache
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from ovd_bench.grounding_dino_jt.config import SwinConfig
from ovd_bench.grounding_dino_jt.dino.config import DinoConfig, ResNetConfig
from ovd_bench.grounding_dino_jt.dino.weights import expected_shapes

Tensors = dict[str, npt.NDArray[np.float32]]

SMALL = DinoConfig(
    backbone=ResNetConfig(blocks=(2, 1, 1, 1)),
    num_classes=9,
    hidden_dim=64,  # GroupNorm has 32 groups, and one value per group says nothing on a map of 1 x 1
    num_heads=4,
    dim_feedforward=48,
    enc_layers=2,
    dec_layers=2,
    num_queries=12,
)
_FIVE: dict[str, Any] = {**vars(SMALL), "num_feature_levels": 5}
SMALL_5SCALE = DinoConfig(**{**_FIVE, "backbone": ResNetConfig((1, 1, 1, 1), (0, 1, 2, 3))})
SMALL_SWIN = DinoConfig(**{**_FIVE, "backbone": SwinConfig(8, (1, 1, 2, 1), (1, 2, 2, 4), 4, out_stages=(0, 1, 2, 3))})
CONFIGS = {"ResNet, 4 scales": SMALL, "ResNet, 5 scales": SMALL_5SCALE, "Swin, 5 scales": SMALL_SWIN}


def drawn(config: DinoConfig, seed: int = 0) -> Tensors:
    """Weights that leave no path silent: box heads, norms, statistics and sampling offsets included."""
    return dict(_drawn(config, seed))


@cache
def _drawn(config: DinoConfig, seed: int) -> Tensors:
    rng = np.random.default_rng(seed)
    tensors = {}
    for name, shape in expected_shapes(config).items():
        values = rng.standard_normal(shape)
        norm = ".norm" in name or "_norm." in name or ".bn" in name or "downsample.1" in name or ".1." in name[:14]
        if len(shape) > 1:
            values *= math.sqrt((2 if "body" in name else 1) / math.prod(shape[1:]))
        elif name.endswith("running_var"):
            values = rng.uniform(0.5, 2, shape)
        else:
            values = 0.2 * values + (norm and name.endswith("weight"))
        tensors[name] = values.astype(np.float32)
    return tensors


def official_state(tensors: Tensors, config: DinoConfig, prefix: str = "") -> dict[str, torch.Tensor]:
    """State dict of ``models/dino/dino.py``: copies of the shared heads, leftovers of the training."""
    state: dict[str, torch.Tensor] = {}
    for name, tensor in tensors.items():
        own = torch.from_numpy(tensor)
        head, _, rest = name.partition(".0.")
        if head in ("bbox_embed", "class_embed"):
            for layer in range(config.dec_layers):
                state[f"{prefix}{head}.{layer}.{rest}"] = own
                state[f"{prefix}transformer.decoder.{head}.{layer}.{rest}"] = own
        else:
            state[f"{prefix}{name}"] = own
    state[f"{prefix}label_enc.weight"] = torch.zeros(config.num_classes + 1, config.hidden_dim)
    if isinstance(config.backbone, SwinConfig):
        state[f"{prefix}backbone.0.layers.0.blocks.0.attn.relative_position_index"] = torch.zeros(16, 16).long()
    return state
