"""Contestants that train in milliseconds, and batches for them."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from ovd_bench.baselines.controlled.captions import CaptionEncoder, listed
from ovd_bench.baselines.controlled.config import NANO_SWIN, ContestantConfig
from ovd_bench.baselines.controlled.models import build
from ovd_bench.baselines.controlled.train import CaptionedBatch, ContestantOptimisation
from ovd_bench.baselines.controlled.weights import save_weights
from ovd_bench.baselines.optimisation import Recipe
from ovd_bench.baselines.text import packaged_encoder

SMALL_SWIN = replace(NANO_SWIN, embed_dim=8, depths=(1, 1, 1), num_heads=(1, 2, 4), window_size=4)
SMALL = ContestantConfig(backbone=SMALL_SWIN, width=16, regions=12)
#: [CLS] a cat . two old dogs . a bench . [SEP], and parts of it.
CLS, SEP, DOT = 101, 102, 1012
CAT, DOGS, BENCH = (1037, 4937, DOT), (2048, 2214, 6077, DOT), (1037, 6847, DOT)
ROWS = ((CLS, *CAT, *DOGS, *BENCH, SEP), (CLS, *BENCH, SEP), (CLS, *DOGS, *CAT, SEP), (CLS, *CAT, SEP))
#: Objects of each image, of phrases in the order of its caption.
PHRASES = ((0, 2), (), (1,), (0, 0, 0))
PHRASE_IDS = [CAT[:-1], DOGS[:-1], BENCH[:-1]]
ENCODER = CaptionEncoder(packaged_encoder(), "bare")


def tokens(rows: tuple[tuple[int, ...], ...] = ROWS) -> tuple[Any, Any]:
    """Ids and what of them is real."""
    ids = np.zeros((len(rows), max(map(len, rows))), np.int32)
    real = np.zeros(ids.shape, np.bool_)
    for number, row in enumerate(rows):
        ids[number, : len(row)], real[number, : len(row)] = row, True
    return ids, real


def batch(seed: int = 0) -> CaptionedBatch:
    """Four images of noise of two sizes with bright rectangles in them, one image without objects."""
    rng = np.random.default_rng(seed)
    sizes = np.array([[64, 64], [64, 48], [48, 64], [64, 64]])
    images = np.zeros((4, 64, 64, 3), np.uint8)
    boxes = []
    for image, ((height, width), names) in enumerate(zip(sizes.tolist(), PHRASES, strict=True)):
        images[image, :height, :width] = rng.integers(0, 100, (height, width, 3))
        corners = rng.uniform(0, 0.5, (len(names), 2)) * (width, height)
        own = np.concatenate([corners, corners + rng.uniform(12, 22, (len(names), 2))], 1)
        for x0, y0, x1, y1 in own.astype(int):
            images[image, y0:y1, x0:x1] += 150
        boxes.append(own.astype(np.float32))
    ids, real = tokens()
    words = [listed(*caption) for caption in zip(ids, real, strict=True)]
    return CaptionedBatch(images, sizes, ids, real, words, boxes, [np.array(names, np.int64) for names in PHRASES])


def trainer(config: ContestantConfig, **recipe: Any) -> ContestantOptimisation:
    """From a backbone that does not depend on the seed of the rest."""
    donor = build(replace(config, kind="owl"))
    for number, parameter in enumerate(donor.backbone.parameters()):
        values = np.random.default_rng(number).normal(0.0, 0.1, tuple(parameter.shape))
        parameter.data.copy_(parameter.data.new_tensor(values))
    backbone = {name: tensor.numpy().copy() for name, tensor in donor.backbone.state_dict().items()}
    return ContestantOptimisation(
        config, Recipe(**{"steps": 60, "lr": 5e-3, **recipe}), packaged_encoder(), PHRASE_IDS, backbone
    )


def write_weights(path: Path, config: ContestantConfig, seed: int = 0, *, half: bool = False) -> Path:
    """A weights file of a contestant with random numbers in every parameter."""
    torch.manual_seed(seed)
    model = build(config)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "norm" not in name and name != "log_scale":
                parameter.add_(0.1 * torch.randn(parameter.shape))
    path.write_bytes(save_weights(model, config, {"note": "random"}, half=half))
    return path
