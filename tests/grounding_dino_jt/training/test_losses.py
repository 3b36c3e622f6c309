"""Denoising queries, matching and every term of the loss against the slow reference, on random predictions."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest
import torch

from ovd_bench.grounding_dino_jt.training.batch import Targets
from ovd_bench.grounding_dino_jt.training.denoising import (
    DenoisingConfig,
    DenoisingQueries,
    Noise,
    Slots,
    denoising_queries,
)
from ovd_bench.grounding_dino_jt.training.losses import (
    MMDETECTION,
    OPEN_GROUNDINGDINO,
    Counts,
    Predictions,
    divisors,
    total_loss,
)
from ovd_bench.grounding_dino_jt.training.matching import match
from ovd_bench.kernels.runtime import jittor
from ovd_bench.tests.grounding_dino_jt.training import reference_losses as reference

jt = jittor()

Floats = npt.NDArray[np.float32]

EPSILON, QUERIES, TOKENS = 1e-3, 9, 7
STYLES = {"mmdet": MMDETECTION, "open": OPEN_GROUNDINGDINO}
REAL = np.arange(TOKENS)[None] < np.array([[7], [5], [4]])


def _targets(counts: tuple[int, ...], seed: int) -> list[Targets]:
    """Boxes inside their image, each with one to three real tokens."""
    rng = np.random.default_rng(seed)
    found = []
    for image, count in enumerate(counts):
        sides = rng.uniform(0.05, 0.6, (count, 2))
        centres = rng.uniform(sides / 2, 1 - sides / 2)
        tokens = np.zeros((count, TOKENS), np.bool_)
        for row in tokens:
            row[rng.choice(REAL[image].sum() - 2, rng.integers(1, 3), replace=False) + 1] = True
        boxes = np.concatenate([centres, sides], 1).astype(np.float32)
        found.append(Targets(boxes, rng.integers(0, 4, count), tokens))
    return found


def _both_denoised(targets: list[Targets], queries: int, seed: int) -> tuple[DenoisingQueries, reference.Denoising]:
    """Denoising queries of ours and of the reference, from the same random numbers."""
    noise = reference.Noise.draw(targets, queries, 256, seed)
    expected = reference.denoise(targets, noise, QUERIES, EPSILON)
    rows = [
        [part[image][:, :, : len(target)] for part in (noise.chances, noise.others, noise.signs, noise.shares)]
        for image, target in enumerate(targets)
    ]
    drawn = [Noise(a.reshape(-1), b.reshape(-1), c.reshape(-1, 4), d.reshape(-1, 4)) for a, b, c, d in rows]
    config = DenoisingConfig(queries=queries)
    slots = Slots.of(max(map(len, targets)), config)
    assert slots is not None
    return denoising_queries(targets, drawn, slots, QUERIES, config, EPSILON), expected


@pytest.mark.parametrize(
    ("counts", "queries", "groups"), [((3, 1, 0), 10, 3), ((3, 1, 2), 2, 1), ((1, 1, 1), 5, 5), ((6, 0, 2), 12, 2)]
)
def test_denoising_queries(counts: tuple[int, ...], queries: int, groups: int) -> None:
    targets = _targets(counts, seed=queries)
    ours, expected = _both_denoised(targets, queries, seed=groups)
    assert ours.phrases.shape[1] == 2 * max(counts) * groups
    assert (ours.phrases == expected.labels).all()
    np.testing.assert_allclose(ours.boxes, expected.boxes, atol=1e-6)
    assert (ours.hidden == expected.hidden).all()
    pairs = [list(zip(a.tolist(), b.tolist(), strict=True)) for a, b in zip(ours.positives, ours.found, strict=True)]
    assert pairs == expected.pairs


def test_denoising_pushes_corners_over_each_other_and_out_of_the_image() -> None:
    """What the random draws above must have met for their comparison to mean much."""
    boxes = np.concatenate([_both_denoised(_targets((3, 1, 2), seed), 60, seed)[0].boxes[0] for seed in range(5)])
    assert (np.abs(boxes[:, 2:] - EPSILON) < 1e-4).any()
    edges = np.concatenate([boxes[:, :2] - boxes[:, 2:] / 2, 1 - boxes[:, :2] - boxes[:, 2:] / 2])
    assert (np.abs(edges) < 1e-6).any()


def _predictions(queries: int, seed: int) -> tuple[Floats, Floats]:
    """Logits that a caption's padding spoils, and boxes."""
    rng = np.random.default_rng(seed)
    logits = (rng.standard_normal((len(REAL), queries, TOKENS)) * 3).astype(np.float32)
    sides = rng.uniform(0.05, 0.8, (len(REAL), queries, 2))
    boxes = np.concatenate([rng.uniform(0.2, 0.8, sides.shape), sides], -1).astype(np.float32)
    return np.where(REAL[:, None], logits, np.float32(-np.inf)), boxes


@pytest.mark.parametrize("style", STYLES)
@pytest.mark.parametrize("counts", [(3, 1, 0), (2, 12, 1)])
def test_matching(style: reference.Style, counts: tuple[int, ...]) -> None:
    """With an image without boxes, and with one that has more boxes than there are queries."""
    for seed in range(5):
        logits, boxes = _predictions(QUERIES, seed)
        targets = _targets(counts, seed)
        found = match(logits, boxes, REAL, targets, STYLES[style].costs)
        for image, target in enumerate(targets):
            expected = reference.match(
                torch.from_numpy(logits[image]).double(),
                torch.from_numpy(boxes[image]).double(),
                target,
                REAL[image],
                style,
            )
            assert list(zip(found[image].queries, found[image].boxes, strict=True)) == expected


@pytest.mark.parametrize("style", STYLES)
@pytest.mark.parametrize("counts", [(3, 1, 0), (2, 2, 2), (2, 12, 1), (0, 0, 0)])
def test_every_term(style: reference.Style, counts: tuple[int, ...]) -> None:
    targets = _targets(counts, seed=1)
    parts = {"decoder.0": _predictions(QUERIES, 1), "encoder": _predictions(QUERIES, 2)}
    expected = {
        name: reference.layer_losses(
            torch.from_numpy(logits).double(), torch.from_numpy(boxes).double(), targets, REAL, style
        )
        for name, (logits, boxes) in parts.items()
    }
    queries, groups = None, 0
    if any(counts):
        queries, denoising = _both_denoised(targets, 8, seed=3)
        groups = reference.denoising_groups(targets, 8)
        parts["denoising.0"] = logits, boxes = _predictions(queries.boxes.shape[1], 3)
        expected["denoising.0"] = reference.denoising_losses(
            torch.from_numpy(logits).double(), torch.from_numpy(boxes).double(), denoising, targets, REAL, style
        )
    said = [Predictions(name, jt.array(logits), jt.array(boxes)) for name, (logits, boxes) in parts.items()]
    counted = Counts.of(targets, QUERIES, groups)
    divided = divisors(counted, counted, 1, STYLES[style].style)
    loss = total_loss(said[:2], said[2:], queries, targets, REAL, divided, STYLES[style])
    wanted = [[float(expected[name][part]) for part in ("class", "l1", "giou")] for name in loss.names]
    np.testing.assert_allclose(loss.terms.numpy(), np.array(wanted), rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(loss.total.numpy(), [np.sum(wanted)], rtol=1e-5)
