"""Cached text per phrase against text that is encoded as a whole."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import pytest

from ovd_bench.grounding_dino_jt.training.centring import centre_text
from ovd_bench.grounding_dino_jt.training.frozen_text import FrozenText
from ovd_bench.tests.grounding_dino_jt.pair import tokens_of
from ovd_bench.tests.grounding_dino_jt.training.small import SMALL, small_network

ODD = (
    "a cat. two old dogs. a very long bench.",
    "two old dogs. a cat. ",
    "a cat",
    ".",
    "",
    ". . a cat..",
    "a cat? two old dogs! a bench.",
    "two old dogs. a cat",
    "?",
    "a cat. a cat. a cat.",
)


@pytest.mark.parametrize("reading", [{}, {"phrase_frame": "framed"}, {"phrase_frame": "framed", "centred": True}])
@pytest.mark.parametrize("prompt", ["phrase", "sentence"])
@pytest.mark.parametrize("captions", [ODD, ODD[:1], ODD[2:4], ("a cat",) * 2])
def test_it_equals_what_the_encoder_makes_of_the_whole(
    prompt: Any, captions: tuple[str, ...], reading: dict[str, Any]
) -> None:
    """Rounding apart: the same products are summed over rows of other lengths."""
    network = small_network(prompt=prompt, text=dataclasses.replace(SMALL.text, **reading))
    if reading.get("centred"):
        centre_text(network, [(1037, 4937), (2048, 2214, 6077)])
    frozen, tokens = FrozenText(network, phrases_at_once=2), tokens_of(captions)
    expected = network.read_tokens(tokens).numpy()
    for _ in range(2):  # the second time from what is kept
        found = frozen(tokens).numpy()
        np.testing.assert_allclose(found[tokens.real], expected[tokens.real], rtol=1e-5, atol=1e-6)
        assert (found[~tokens.real] == 0).all()


def test_what_is_kept_is_the_same_in_every_caption() -> None:
    network = small_network()
    frozen = FrozenText(network)
    alone = frozen(tokens_of(["a cat."])).numpy()
    among = frozen(tokens_of(["two old dogs. a cat. a bench."])).numpy()
    assert (alone[0, 1:4] == among[0, 5:8]).all()


def test_it_forgets_when_it_is_full() -> None:
    frozen = FrozenText(small_network(), most=3)
    tokens = [tokens_of([caption]) for caption in ("a cat. a dog. a bench.", "a horse.", "a cat. a dog. a bench.")]
    first, _, again = (frozen(one).numpy() for one in tokens)
    np.testing.assert_allclose(again, first, atol=1e-6)


def test_words_that_see_only_themselves_and_clip_are_refused() -> None:
    with pytest.raises(ValueError, match="BERT"):
        FrozenText(small_network(prompt="word"))
    clip = dataclasses.replace(SMALL.text, kind="clip", vocab_size=50, max_positions=16, layer_norm_eps=1e-5)
    with pytest.raises(ValueError, match="BERT"):
        FrozenText(small_network(text=clip))
