"""The whole network against transformers' Grounding DINO with the same random weights.

How it is compared. The inverse sigmoid of ours is guarded as in transformers (1e-5), for the comparison only. Queries
are ranked by a score, and a rank chooses a learned vector; two places whose scores differ by less than rounding may
change ranks between the two implementations. So the *set* of places must be the same, and logits and boxes are compared
from the reference's order of it.
"""

from __future__ import annotations

import numpy as np
import pytest

from ovd_bench.tests.grounding_dino_jt.draws import Draw, draws
from ovd_bench.tests.grounding_dino_jt.pair import (
    Floats,
    Pair,
    decode_from,
    make_pair,
    run_ours,
    run_reference,
    tokens_of,
)

SMALL = draws({"wide": (64, 150), "high": (131, 70), "tiny": (33, 40), "square": (96, 96)})
#: transformers cannot select 900 places of an image that has fewer.
FULL = draws({"wide": (224, 480), "high": (400, 208), "tiny": (200, 240), "large": (800, 1066)})


def _compare(pair: Pair, draw: Draw, logits_within: float, boxes_within: float) -> None:
    pixels, padding = draw.pixels()
    tokens = tokens_of(draw.captions)
    reference, ours = run_reference(pair, pixels, tokens, padding), run_ours(pair, pixels, tokens, padding)
    there = np.isfinite(reference.logits)
    assert (np.isfinite(ours.logits) == there).all()
    assert there.any()
    real = tokens.real[:, : reference.text.shape[1]]
    np.testing.assert_allclose(ours.words.numpy()[real], reference.text[real], rtol=0, atol=1e-4)
    assert _same_places(ours.selection.boxes.numpy(), reference.start)
    logits, boxes = decode_from(pair, ours, reference.start)
    np.testing.assert_allclose(logits[there], reference.logits[there], rtol=0, atol=logits_within)
    np.testing.assert_allclose(boxes, reference.boxes, rtol=0, atol=boxes_within)


def _same_places(some: Floats, others: Floats) -> bool:
    """Whether every starting box of an image is there in both sets, in whatever order."""
    for own, other in zip(some, others, strict=True):
        apart = np.abs(own[:, None] - other[None]).max(-1)
        if max(apart.min(0).max(), apart.min(1).max()) > 1e-4:
            return False
    return True


@pytest.fixture(scope="module", params=[0, 1, 2])
def small(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Pair:
    return make_pair(tmp_path_factory.mktemp("small"), request.param)


@pytest.mark.parametrize("draw", SMALL, ids=lambda draw: draw.name)
def test_small_network_equals_the_reference(small: Pair, draw: Draw) -> None:
    _compare(small, draw, 1e-3, 1e-4)


@pytest.fixture(scope="module", params=[0, 1, 2])
def full(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[int, Pair]:
    return request.param, make_pair(tmp_path_factory.mktemp("full"), request.param, full_size=True)


@pytest.mark.full
def test_full_size_network_equals_the_reference(full: tuple[int, Pair]) -> None:
    seed, pair = full
    for draw in FULL[seed::3]:
        _compare(pair, draw, 1e-3, 1e-4)


def test_draws_are_many_and_odd() -> None:
    assert len(SMALL) >= 20
    assert len(FULL) >= 20
    assert max(tokens_of(draw.captions).ids.shape[1] for draw in SMALL) == 256
