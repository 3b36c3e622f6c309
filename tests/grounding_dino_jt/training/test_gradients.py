"""Gradients of every parameter of the small network against torch in float64.

The places that queries start from are the reference's: a rank decides which learned vector a place gets, and two places
may swap ranks by rounding. That both find the same set is asserted.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
import torch

from ovd_bench.grounding_dino_jt.training.batch import Targets
from ovd_bench.grounding_dino_jt.training.denoising import DenoisingQueries
from ovd_bench.grounding_dino_jt.training.forward import all_predictions
from ovd_bench.grounding_dino_jt.training.losses import (
    MMDETECTION,
    OPEN_GROUNDINGDINO,
    Counts,
    Predictions,
    divisors,
    total_loss,
)
from ovd_bench.kernels.runtime import jittor
from ovd_bench.perf.torch_training import Extra, Layer
from ovd_bench.tests.grounding_dino_jt.draws import Draw
from ovd_bench.tests.grounding_dino_jt.pair import tokens_of
from ovd_bench.tests.grounding_dino_jt.training import reference_losses as reference
from ovd_bench.tests.grounding_dino_jt.training.reference_model import Floats, Twins, apart, by_name, make_twins

jt = jittor()

WITHIN = 1e-4
DRAW = Draw("gradients", ((64, 100), (90, 48)), ("a cat. two old dogs. a very long bench.", "traffic light."), seed=3)
TOKENS = tokens_of(DRAW.captions)
STYLES = {"mmdet": MMDETECTION, "open": OPEN_GROUNDINGDINO}
PARTS = ("class", "l1", "giou")

#: A key's bias adds the same to all logits of a query, and softmax does not see it. Elsewhere keys share a parameter
#: with queries and values.
KEYS = {f"bert.encoder.layer.{layer}.attention.self.key.bias" for layer in (0, 1)}
#: Only denoising queries have labels.
LABELS = {"label_enc.weight"}
#: Class losses do not see them: boxes are handed on without gradient, and logits are made of hidden states alone.
BOX_HEADS = {
    f"{head}.layers.{layer}.{kind}"
    for head in ("bbox_embed.0", "transformer.enc_out_bbox_embed")
    for layer in (0, 1, 2)
    for kind in ("weight", "bias")
}


def _targets() -> list[Targets]:
    """Three boxes of two phrases and one box of one, so the second image leaves denoising slots empty."""
    maps = np.zeros((4, TOKENS.ids.shape[1]), np.bool_)
    for row, (first, last) in enumerate(((1, 2), (4, 6), (4, 6), (1, 2))):
        maps[row, first : last + 1] = True
    several = np.array([[0.3, 0.4, 0.2, 0.5], [0.6, 0.5, 0.5, 0.3], [0.2, 0.7, 0.1, 0.2]], np.float32)
    one = np.array([[0.5, 0.4, 0.6, 0.3]], np.float32)
    return [Targets(several, np.array([0, 1, 1]), maps[:3]), Targets(one, np.array([0]), maps[3:])]


@dataclass(frozen=True)
class Both:
    """What both networks say of the batch: ours of the model's queries and of the denoising ones, theirs by name."""

    ours: tuple[list[Predictions], list[Predictions]]
    theirs: dict[str, Layer]
    denoising: reference.Denoising | None

    def pairs(self) -> list[tuple[Predictions, Layer]]:
        return [(part, self.theirs[part.name]) for group in self.ours for part in group]


@pytest.fixture(scope="module")
def twins(tmp_path_factory: pytest.TempPathFactory) -> Twins:
    return make_twins(tmp_path_factory.mktemp("twins"), 5)


def _denoising(twins: Twins) -> reference.Denoising:
    config, noise = twins.ours.config, reference.Noise.draw(_targets(), 8, 256, seed=2)
    return reference.denoise(_targets(), noise, config.num_queries, config.box_epsilon)


def _queries(denoising: reference.Denoising) -> DenoisingQueries:
    """The reference's denoising queries as ours read them."""
    pairs = [np.array(pair).T for pair in denoising.pairs]
    boxes = denoising.boxes.astype(np.float32)
    return DenoisingQueries(
        denoising.labels, boxes, denoising.hidden, [pair[0] for pair in pairs], [pair[1] for pair in pairs]
    )


def _predict(twins: Twins, denoising: reference.Denoising | None, patch: pytest.MonkeyPatch) -> Both:
    pixels, padding = DRAW.pixels()
    extra = None if denoising is None else Extra(denoising.labels, denoising.boxes, denoising.hidden)
    predictions = twins.double(torch.from_numpy(pixels).double(), padding, TOKENS, extra)
    places = predictions.places.numpy().astype(np.int32)

    def best(scores: Any, number: int) -> Any:
        found = jt.topk(scores, number, dim=1)[1].numpy()
        assert (np.sort(found, 1) == np.sort(places, 1)).all()
        return jt.array(places)

    patch.setattr("ovd_bench.grounding_dino_jt.model.best_places", best)
    network = twins.ours
    image, text = network.encode_image(pixels, padding), network.encode_tokens(TOKENS)
    ours = all_predictions(
        network, image, text, None if denoising is None else twins.labels(_queries(denoising)), MMDETECTION
    )
    return Both(ours, by_name(predictions), denoising)


def _compare(found: Mapping[str, Floats], expected: Mapping[str, Floats], zero: set[str]) -> None:
    """All gradients are close; those that are zero in both are exactly the named ones."""
    assert set(found) == set(expected)
    typical = float(np.median([np.linalg.norm(gradient) for gradient in expected.values()]))
    assert {name for name, gradient in expected.items() if np.linalg.norm(gradient) < 1e-6 * typical} == zero
    assert {name for name, gradient in found.items() if np.linalg.norm(gradient) < 1e-5 * typical} == zero
    distances = {name: apart(found[name], expected[name]) for name in expected.keys() - zero}
    assert not {name: distance for name, distance in distances.items() if not distance < WITHIN}


@pytest.mark.parametrize("denoising", [False, True])
def test_linear_functional(twins: Twins, denoising: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """All logits and boxes times random numbers, summed: no loss hides a part of the network behind a small weight."""
    both = _predict(twins, _denoising(twins) if denoising else None, monkeypatch)
    assert set(both.theirs) == {"decoder.0", "decoder.1", "encoder"} | (
        {"denoising.0", "denoising.1"} if denoising else set()
    )
    rng = np.random.default_rng(0)
    padded = ~TOKENS.real[:, None]
    our_sum, their_sum = jt.array(0.0), torch.zeros((), dtype=torch.float64)
    for ours, theirs in both.pairs():
        logits = ours.logits.masked_fill(jt.array(padded), 0.0)
        expected = theirs.logits.masked_fill(torch.from_numpy(padded), 0.0)
        for mine, other in ((logits, expected), (ours.boxes, theirs.boxes)):
            np.testing.assert_allclose(mine.numpy(), other.detach().numpy(), rtol=0, atol=1e-4)
            weights = rng.standard_normal(other.shape).astype(np.float32)
            our_sum = our_sum + (mine * jt.array(weights)).sum()
            their_sum = their_sum + (other * torch.from_numpy(weights)).sum()
    zero = KEYS if denoising else KEYS | LABELS
    _compare(twins.our_gradients(our_sum), twins.torch_gradients(their_sum), zero)


def _reference_terms(both: Both, style: reference.Style) -> dict[str, dict[str, torch.Tensor]]:
    """Weighted terms by prediction and part."""
    targets, real = _targets(), TOKENS.real
    terms = {}
    for name, layer in both.theirs.items():
        if name.startswith("denoising"):
            assert both.denoising is not None
            found = reference.denoising_losses(layer.logits, layer.boxes, both.denoising, targets, real, style)
        else:
            found = reference.layer_losses(layer.logits, layer.boxes, targets, real, style)
        terms[name] = found
    return terms


@pytest.mark.parametrize("denoising", [False, True])
@pytest.mark.parametrize("style", STYLES)
def test_losses(twins: Twins, style: reference.Style, denoising: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every term, the total, and the gradients of the total and of the sum of each kind of term."""
    given = _denoising(twins) if denoising else None
    both = _predict(twins, given, monkeypatch)
    counts = Counts.of(_targets(), twins.ours.config.num_queries, 2 if denoising else 0)
    divided = divisors(counts, counts, 1, STYLES[style].style)
    queries = None if given is None else _queries(given)
    loss = total_loss(*both.ours, queries, _targets(), TOKENS.real, divided, STYLES[style])
    expected = _reference_terms(both, style)
    assert set(loss.names) == set(expected)
    wanted = np.array([[float(expected[name][part]) for part in PARTS] for name in loss.names])
    np.testing.assert_allclose(loss.terms.numpy(), wanted, rtol=2e-5)
    np.testing.assert_allclose(loss.total.numpy(), [wanted.sum()], rtol=1e-5)
    labels = set() if denoising else LABELS
    total = sum(term for terms in expected.values() for term in terms.values())
    _compare(twins.our_gradients(loss.total), twins.torch_gradients(torch.as_tensor(total)), KEYS | labels)
    for column, part in enumerate(PARTS):
        theirs = torch.stack([terms[part] for terms in expected.values()]).sum()
        ours = loss.terms[:, column].sum()
        zero = KEYS | labels | (BOX_HEADS if part == "class" else set())
        _compare(twins.our_gradients(ours), twins.torch_gradients(theirs), zero)
