"""The losses that torch races with are the slow reference's, and the batch is what it is said to be."""

from __future__ import annotations

import numpy as np
import torch

from ovd_bench.grounding_dino_jt.training.batch import Targets
from ovd_bench.grounding_dino_jt.training.denoising import DenoisingConfig, Slots, denoising_queries, draw_noise
from ovd_bench.perf.torch_losses import total_loss
from ovd_bench.perf.torch_training import Layer, Predictions
from ovd_bench.perf.training import SIZES, make_batch
from ovd_bench.tests.grounding_dino_jt.training import reference_losses as reference

_CONFIG, _EPSILON = DenoisingConfig(queries=6), 1e-3


def _layer(targets: list[Targets], queries: int, seed: int) -> Layer:
    generator = torch.Generator().manual_seed(seed)
    logits = torch.randn((len(targets), queries, targets[0].token_map.shape[1]), generator=generator)
    boxes = torch.rand((len(targets), queries, 4), generator=generator) * 0.4 + 0.3
    return Layer(logits.double(), boxes.double())


def test_vectorised_losses() -> None:
    real = np.array([[True] * 6, [True] * 4 + [False] * 2])
    maps = np.zeros((3, 6), np.bool_)
    maps[0, 1] = maps[1, 2:4] = maps[2, 1:3] = True
    boxes = np.array([[0.4, 0.5, 0.2, 0.3], [0.6, 0.3, 0.5, 0.4], [0.5, 0.5, 0.3, 0.6]], np.float32)
    targets = [Targets(boxes[:2], np.array([0, 1]), maps[:2]), Targets(boxes[2:], np.array([0]), maps[2:])]
    slots = Slots.of(2, _CONFIG)
    assert slots is not None
    noise = [draw_noise(len(one), slots.groups, _CONFIG, np.random.default_rng(1)) for one in targets]
    queries = denoising_queries(targets, noise, slots, 5, _CONFIG, _EPSILON)
    predictions = Predictions(
        [_layer(targets, 5, 1), _layer(targets, 5, 2)],
        [_layer(targets, queries.phrases.shape[1], 3), _layer(targets, queries.phrases.shape[1], 4)],
        _layer(targets, 5, 5),
        torch.zeros((2, 5)),
    )
    expected = 0.0
    for layer in [*predictions.decoder, predictions.encoder]:
        expected += float(sum(reference.layer_losses(layer.logits, layer.boxes, targets, real, "mmdet").values()))
    pairs = [
        list(zip(a.tolist(), b.tolist(), strict=True)) for a, b in zip(queries.positives, queries.found, strict=True)
    ]
    denoising = reference.Denoising(queries.phrases, queries.boxes.astype(np.float64), queries.hidden, pairs)
    for layer in predictions.denoising:
        found = reference.denoising_losses(layer.logits, layer.boxes, denoising, targets, real, "mmdet")
        expected += float(sum(found.values()))
    np.testing.assert_allclose(float(total_loss(predictions, queries, targets, real)), expected, rtol=1e-6)


def test_batch() -> None:
    size = SIZES["nano"]
    batch = make_batch(size)
    assert batch.images.shape == (4, 192, 192, 3)
    assert batch.padding() is None
    assert 180 <= batch.tokens.ids.shape[1] <= 190
    for target in batch.targets:
        assert target.token_map.any(1).all()
        assert not target.token_map[:, np.isin(batch.tokens.ids[0], (101, 102, 1012))].any()
