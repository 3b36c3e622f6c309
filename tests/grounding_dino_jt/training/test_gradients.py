"""Gradients of every parameter of the small network against torch in float64."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from benchmarks.perf.torch_training import Extra, Layer, Predictions
from grounding_dino_jt.decoder import ExtraQueries
from kernels.runtime import jittor
from tests.grounding_dino_jt.draws import Draw
from tests.grounding_dino_jt.pair import tokens_of
from tests.grounding_dino_jt.training.reference_model import Floats, Twins, apart, make_twins, our_gradients

jt = jittor()

WITHIN = 1e-4
BATCH = Draw("gradients", ((64, 100), (90, 48)), ("a cat. two old dogs. a very long bench.", "traffic light."), seed=3)
#: A key's bias adds the same to all logits of a query, and softmax does not see it. Elsewhere keys share a parameter
#: with queries and values.
ZERO = ("attention.self.key.bias",)


@pytest.fixture(scope="module")
def twins(tmp_path_factory: pytest.TempPathFactory) -> Twins:
    return make_twins(tmp_path_factory.mktemp("twins"), 5)


def _extra(queries: int) -> Extra:
    """Two groups of four denoising queries, one slot of the second image is empty."""
    rng = np.random.default_rng(1)
    labels = rng.integers(0, 256, (2, 8))
    labels[1, [3, 7]] = -1
    hidden = np.zeros((8 + queries, 8 + queries), np.bool_)
    hidden[8:, :8] = hidden[:4, 4:8] = hidden[4:8, :4] = True
    return Extra(labels, rng.uniform(0.2, 0.8, (2, 8, 4)), hidden)


def _predictions_of_ours(twins: Twins, extra: Extra | None, places: torch.Tensor, patch: pytest.MonkeyPatch) -> Any:
    """Predictions of ours, padded tokens 0, from the reference's places; and the label content, for its gradient."""
    network = twins.ours
    pixels, padding = BATCH.pixels()
    chosen: list[Any] = []

    def best(scores: Any, number: int) -> Any:
        chosen.append(jt.topk(scores, number, dim=1)[1].numpy())
        return jt.array(places.numpy().astype(np.int32))

    patch.setattr("grounding_dino_jt.model.best_places", best)
    image, text = network.encode_image(pixels, padding), network.encode_tokens(tokens_of(BATCH.captions))
    seen, words = network.transformer.encoder(image, text)
    selection = network.transformer.select(seen, words, image, text)
    for ours, theirs in zip(chosen[0], places.numpy(), strict=True):
        assert set(ours.tolist()) == set(theirs.tolist())
    queries, count, content = None, 0, None
    if extra is not None:
        count = extra.labels.shape[1]
        rows = twins.torch.label_embedding.weight.detach().numpy()[extra.labels.clip(min=0)]
        content = jt.array((rows * (extra.labels >= 0)[..., None]).astype(np.float32))
        bias = np.where(extra.hidden, np.float32(-np.inf), np.float32(0))[None, None]
        queries = ExtraQueries(content, jt.array(extra.boxes.astype(np.float32)), jt.array(bias))
    decoded = network.decode(seen, words, selection, image, text, queries)
    found = []
    for layer in range(network.config.dec_layers):
        output = network.output(decoded, layer, words, text, pad=False)
        found += [(output.pred_logits[:, count:], output.pred_boxes[:, count:])]
        found += [(output.pred_logits[:, :count], output.pred_boxes[:, :count])] if count else []
    found.append((network.transformer.selected_logits(selection, words, text), selection.boxes))
    padded = jt.array(~tokens_of(BATCH.captions).real).unsqueeze(1)
    return [(logits.masked_fill(padded, 0.0), boxes) for logits, boxes in found], content


def _of_torch(predictions: Predictions) -> list[tuple[torch.Tensor, torch.Tensor]]:
    layers: list[Layer] = []
    for number, layer in enumerate(predictions.decoder):
        layers += [layer, *predictions.denoising[number : number + 1]]
    padded = torch.from_numpy(~tokens_of(BATCH.captions).real)[:, None]
    return [(layer.logits.masked_fill(padded, 0.0), layer.boxes) for layer in [*layers, predictions.encoder]]


@pytest.mark.parametrize("denoising", [False, True])
def test_gradients_of_a_linear_functional(twins: Twins, denoising: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """All logits and boxes times random numbers, summed: what no loss hides behind a small weight."""
    pixels, padding = BATCH.pixels()
    extra = _extra(twins.ours.config.num_queries) if denoising else None
    twins.torch.zero_grad()
    predictions = twins.torch(torch.from_numpy(pixels).double(), padding, tokens_of(BATCH.captions), extra)
    theirs = _of_torch(predictions)
    ours, content = _predictions_of_ours(twins, extra, predictions.places, monkeypatch)
    assert len(ours) == len(theirs) == (5 if denoising else 3)
    rng = np.random.default_rng(0)
    our_sum, their_sum = jt.array(0.0), torch.zeros((), dtype=torch.float64)
    for mine, yours in zip(ours, theirs, strict=True):
        for a, b in zip(mine, yours, strict=True):
            np.testing.assert_allclose(a.numpy(), b.detach().numpy(), rtol=0, atol=1e-4)
            weights = rng.standard_normal(b.shape).astype(np.float32)
            our_sum = our_sum + (a * jt.array(weights)).sum()
            their_sum = their_sum + (b * torch.from_numpy(weights)).sum()
    their_sum.backward()
    _compare(our_gradients(our_sum, twins.ours), twins.torch_gradients())


def _compare(found: dict[str, Floats], expected: dict[str, Floats]) -> None:
    assert set(found) == set(expected)
    typical = float(np.median([np.linalg.norm(gradient) for gradient in expected.values()]))
    silent = {name for name, gradient in expected.items() if np.linalg.norm(gradient) < 1e-6 * typical}
    assert silent == {name for name in expected if name.endswith(ZERO)}
    for name in silent:
        assert np.linalg.norm(found[name]) < 1e-5 * typical, name
    distances = {name: apart(found[name], expected[name]) for name in expected if name not in silent}
    wrong = {name: distance for name, distance in distances.items() if not distance < WITHIN}
    assert not wrong
