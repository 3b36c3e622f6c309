"""Phrase vectors of the packaged encoder."""

from __future__ import annotations

import numpy as np

from ovd_bench.baselines.text import WIDTH, packaged_encoder
from ovd_bench.benchmarks.scoring.text_judge import build_similarity

PHRASES = ["striped red star", "ring", "a photo of a dotted blue heart"]


def test_vectors_are_units_and_do_not_depend_on_company() -> None:
    together = packaged_encoder().encode([*PHRASES, PHRASES[0]])
    assert together.shape == (4, WIDTH)
    assert together.dtype == np.float32
    np.testing.assert_allclose(np.linalg.norm(together, axis=1), 1, rtol=1e-6)
    assert np.array_equal(together[0], together[3])
    assert np.array_equal(packaged_encoder().encode(PHRASES[1:2])[0], together[1])
    assert packaged_encoder().encode([]).shape == (0, WIDTH)


def test_it_agrees_with_sentence_transformers() -> None:
    vectors = packaged_encoder().encode(PHRASES)
    expected = build_similarity(PHRASES, template="{}").matrix
    np.testing.assert_allclose(vectors @ vectors.T, expected, atol=1e-5)
