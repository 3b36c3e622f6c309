"""Scores of classes and phrases from probabilities of tokens."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from ovd_bench.detectors.captions import Caption
from ovd_bench.detectors.sigmoid import sigmoid
from ovd_bench.detectors.tensor_scores import mean_probabilities
from ovd_bench.detectors.token_scores import class_scores, grounded
from ovd_bench.detectors.types import DetectorError, Image


def _caption(*lengths: int) -> Caption:
    """Phrases of so many tokens, with [CLS] before and a dot behind each."""
    phrases, begin = [], 1
    for length in lengths:
        phrases.append(range(begin, begin + length))
        begin += length + 1
    return Caption(tuple(range(begin + 1)), tuple(phrases))


@pytest.mark.parametrize("seed", range(10))
def test_means_have_the_bits_of_a_product_of_matrices(seed: int) -> None:
    """Of several classes; with one, PyTorch's library takes another routine, which adds in another order."""
    draw = np.random.default_rng(seed)
    caption = _caption(*draw.integers(1, 9, int(draw.integers(2, 41))).tolist())
    width = len(caption.ids)
    logits = draw.normal(-3, 3, (100, max(256, width))).astype(np.float32)
    ours = class_scores(sigmoid(logits[:, :width]), caption.phrases)
    theirs = mean_probabilities(torch.from_numpy(logits)[:, :width], torch.from_numpy(caption.shares())).numpy()
    if torch.backends.cpu.get_cpu_capability() == "AVX512":
        np.testing.assert_array_equal(ours, theirs)
    np.testing.assert_allclose(ours, theirs, rtol=1e-6, atol=0)


@pytest.mark.parametrize("lengths", [(1,), (7,), (3, 1, 40)])
def test_means_are_means(lengths: tuple[int, ...]) -> None:
    caption = _caption(*lengths)
    probabilities = np.random.default_rng(0).random((50, len(caption.ids)), np.float32)
    exact = [probabilities[:, phrase.start : phrase.stop].mean(axis=1, dtype=np.float64) for phrase in caption.phrases]
    np.testing.assert_allclose(class_scores(probabilities, caption.phrases), exact, rtol=1e-6)


def test_a_phrase_scores_its_best_token_and_spans_those_above_the_threshold() -> None:
    text = "red dog. cat."
    caption = Caption((101, 1, 2, 1012, 3, 1012, 102), (range(1, 3), range(4, 5)), (((0, 3), (4, 7)), ((9, 12),)))
    probabilities = np.zeros((2, 7), np.float32)
    probabilities[0, 1:3] = 0.2, 0.9
    probabilities[1, 4] = 0.1
    boxes = np.array([[0.5, 0.5, 0.5, 0.5], [0.25, 0.5, 0.5, 1]], np.float32)
    found = grounded(Image(3, np.zeros((10, 20, 3), np.uint8)), text, caption, probabilities, boxes, 2)
    assert found.scores.tolist() == [np.float32(0.9), np.float32(0.1)]
    assert found.boxes_xyxy.tolist() == [[5, 2.5, 15, 7.5], [0, 0, 10, 10]]
    assert found.phrases == ("dog", "cat")


def test_a_caption_without_words_is_refused() -> None:
    image = Image(3, np.zeros((4, 4, 3), np.uint8))
    with pytest.raises(DetectorError, match="has no words"):
        grounded(image, ".", _caption(), np.zeros((1, 2), np.float32), np.zeros((1, 4), np.float32), 1)
