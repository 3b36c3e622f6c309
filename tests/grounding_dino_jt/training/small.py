"""A network that trains in milliseconds, and batches for it."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np

from ovd_bench.grounding_dino_jt.config import Config, SwinConfig, TextConfig
from ovd_bench.grounding_dino_jt.model import GroundingDino
from ovd_bench.grounding_dino_jt.training.batch import Targets, TrainingBatch
from ovd_bench.grounding_dino_jt.training.start import new_network
from ovd_bench.tests.grounding_dino_jt.pair import tokens_of

#: Everything that a full one has: drop path, class biases, a scale of the logits.
SMALL = Config(
    backbone=SwinConfig(8, (1, 1), (2, 2), window_size=4, out_stages=(0, 1)),
    text=TextConfig(hidden_size=8, num_layers=1, num_heads=2, intermediate_size=16),
    hidden_dim=32,
    num_heads=2,
    dim_feedforward=32,
    enc_layers=1,
    dec_layers=2,
    num_queries=20,
    num_feature_levels=2,
    class_scale="sqrt",
    class_bias=True,
    image_size=64,
    image_longest=64,
)
CAPTIONS = ("a cat. two old dogs. a bench.", "a cat. a bench. traffic light.", "traffic light.", "two old dogs. a cat.")
BOXES = (2, 0, 1, 3)


def small_network(seed: int = 0, **changes: Any) -> GroundingDino:
    """Random weights; the same for the same seed."""
    return new_network(dataclasses.replace(SMALL, **changes), {}, seed)


def small_batch(seed: int = 0) -> TrainingBatch:
    """Four images of noise of two sizes, one of them without boxes; every box is the first word of its caption."""
    rng = np.random.default_rng(seed)
    tokens = tokens_of(CAPTIONS)
    sizes = np.array([[64, 64], [64, 48], [48, 64], [64, 64]])
    images = np.zeros((4, 64, 64, 3), np.uint8)
    targets = []
    for image, ((height, width), count) in enumerate(zip(sizes, BOXES, strict=True)):
        images[image, :height, :width] = rng.integers(0, 256, (height, width, 3))
        sides = rng.uniform(0.1, 0.5, (count, 2))
        boxes = np.concatenate([rng.uniform(sides / 2, 1 - sides / 2), sides], 1).astype(np.float32)
        token_map = np.zeros((count, tokens.ids.shape[1]), np.bool_)
        token_map[:, 1] = True
        targets.append(Targets(boxes, np.zeros(count, np.int64), token_map))
    return TrainingBatch(images, sizes, tokens, targets)
