"""Steps of the trainer against the same steps in torch, float64: the losses and their decrease."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from ovd_bench.grounding_dino_jt.query_selection import best_places
from ovd_bench.grounding_dino_jt.training.batch import Targets, TrainingBatch
from ovd_bench.grounding_dino_jt.training.denoising import DenoisingQueries, denoising_queries
from ovd_bench.grounding_dino_jt.training.optimisation import GroundingDinoOptimisation, Settings, normalised
from ovd_bench.grounding_dino_jt.training.recipe import Recipe
from ovd_bench.perf.torch_losses import total_loss
from ovd_bench.perf.torch_training import Extra
from ovd_bench.tests.grounding_dino_jt.pair import tokens_of
from ovd_bench.tests.grounding_dino_jt.training.reference_model import Twins, make_twins


def _batch(height: int, width: int, images: int) -> TrainingBatch:
    """Noise, of which the second image is smaller, with two boxes each."""
    rng = np.random.default_rng(4)
    captions = ("a cat. two old dogs. a very long bench.", "traffic light. a cat.")[:images]
    tokens = tokens_of(captions)
    sizes = np.array([(height, width), (height - 20, width - 30)])[:images]
    pixels = np.zeros((images, height, width, 3), np.uint8)
    for row, (h, w) in enumerate(sizes):
        pixels[row, :h, :w] = rng.integers(0, 256, (h, w, 3))
    maps = np.zeros((2, tokens.ids.shape[1]), np.bool_)
    maps[0, 1:3] = maps[1, 4:6] = True
    boxes = np.array([[0.3, 0.4, 0.2, 0.5], [0.6, 0.5, 0.5, 0.3]], np.float32)
    targets = [Targets(boxes + np.float32(0.05) * row, np.array([0, 1]), maps) for row in range(images)]
    return TrainingBatch(pixels, sizes, tokens, targets)


@dataclass
class Heard:
    """What chance and rounding decided in a step of ours: denoising queries and selected places."""

    queries: DenoisingQueries | None = None
    places: np.ndarray[Any, Any] | None = None

    def listen(self, patch: pytest.MonkeyPatch) -> None:
        def queries(*arguments: Any) -> DenoisingQueries:
            self.queries = denoising_queries(*arguments)
            return self.queries

        def places(*arguments: Any) -> Any:
            found = best_places(*arguments)
            self.places = found.numpy().astype(np.int64)
            return found

        patch.setattr("ovd_bench.grounding_dino_jt.training.optimisation.denoising_queries", queries)
        patch.setattr("ovd_bench.grounding_dino_jt.model.best_places", places)


def _compare(twins: Twins, batch: TrainingBatch, steps: int, patch: pytest.MonkeyPatch, within: float) -> None:
    recipe = Recipe(steps=10, lr=1e-3, clip=0.1)
    trainer = GroundingDinoOptimisation(twins.ours, Settings(recipe))
    labels = trainer.trained["label_enc.weight"].numpy()
    with torch.no_grad():
        twins.double.label_embedding.weight.copy_(torch.from_numpy(labels))
    named = list(twins.double.named_parameters())
    rates = {False: recipe.lr, True: recipe.lr / 10}
    groups = [
        {"params": [value for name, value in named if ("backbone." in name) is slow], "lr": rate}
        for slow, rate in rates.items()
    ]
    optimizer = torch.optim.AdamW(groups, weight_decay=recipe.weight_decay)
    heard = Heard()
    heard.listen(patch)
    losses = []
    for step in range(steps):
        found = trainer.train_step([batch])
        queries = heard.queries
        assert queries is not None
        assert heard.places is not None
        with torch.set_grad_enabled(step + 1 < steps):
            predictions = twins.double(
                torch.from_numpy(normalised(batch)).double(),
                batch.padding(),
                batch.tokens,
                Extra(queries.phrases, queries.boxes, queries.hidden),
                torch.from_numpy(heard.places),
            )
            expected = total_loss(predictions, queries, batch.targets, batch.tokens.real)
        np.testing.assert_allclose(found["loss"], float(expected), rtol=within)
        losses.append(found["loss"])
        if step + 1 < steps:
            optimizer.zero_grad()
            expected.backward()
            norm = torch.nn.utils.clip_grad_norm_(twins.double.parameters(), recipe.clip)
            np.testing.assert_allclose(found["gradient"], float(norm), rtol=1e-3)
            optimizer.step()
    assert steps == 1 or losses[-1] < losses[0]


def test_steps_of_the_small_network(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _compare(make_twins(tmp_path, 7), _batch(64, 100, 2), 4, monkeypatch, 1e-4)


@pytest.mark.full
def test_step_of_the_full_size_network(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Swin-T and BERT, 480 x 640: one whole step of ours; its loss is that of torch."""
    _compare(make_twins(tmp_path, 7, full_size=True), _batch(480, 640, 1), 1, monkeypatch, 1e-4)
