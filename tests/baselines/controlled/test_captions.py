"""What contestants read: the words that Grounding DINO reads, from the same frozen encoder."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import pytest
import torch

from ovd_bench.baselines.controlled.captions import CaptionEncoder, mean_of_phrases, split
from ovd_bench.baselines.text import packaged_encoder
from ovd_bench.grounding_dino_jt.config import NANO
from ovd_bench.grounding_dino_jt.model import GroundingDino
from ovd_bench.grounding_dino_jt.tokenizer import packaged_folder, packaged_tokenizer
from ovd_bench.grounding_dino_jt.tokens import TokenBatch
from ovd_bench.grounding_dino_jt.training.centring import centre_text
from ovd_bench.grounding_dino_jt.training.frozen_text import FrozenText
from ovd_bench.grounding_dino_jt.weights import read_text_encoder, tensors_sha256
from ovd_bench.kernels.runtime import jittor
from ovd_bench.tests.baselines.controlled.toy import BENCH, CAT, CLS, DOGS, DOT, ENCODER, PHRASE_IDS, ROWS, SEP, tokens


def grounding_dino(**reading: Any) -> GroundingDino:
    """With the packaged text encoder."""
    jt = jittor()
    network = GroundingDino(dataclasses.replace(NANO, text=dataclasses.replace(NANO.text, **reading)))
    named = network.state_dict()
    for name, values in read_text_encoder(packaged_folder())[0].items():
        named[name].assign(jt.array(values))
    return network


@pytest.mark.parametrize("centred", [False, True])
@pytest.mark.parametrize("frame", ["bare", "framed"])
def test_tokens_are_those_of_grounding_dino(frame: Any, centred: bool) -> None:
    network, mean = grounding_dino(phrase_frame=frame, centred=centred), None
    if centred:
        centre_text(network, PHRASE_IDS)
        mean = mean_of_phrases(packaged_encoder(), frame, PHRASE_IDS)
        np.testing.assert_allclose(mean, network.text_mean.numpy(), atol=1e-6)
        assert np.linalg.norm(mean) > 0.3  # names have much in common
    rows = tokens((*ROWS, (CLS, SEP), (CLS, DOT, *CAT, DOT, SEP)))
    wanted = FrozenText(network)(TokenBatch(*rows)).numpy()
    found = CaptionEncoder(packaged_encoder(), frame, mean)(*rows).tokens.numpy()
    np.testing.assert_allclose(found, wanted, atol=2e-5)
    assert (found[1, len(ROWS[1]) :] == 0).all()


def test_a_frame_is_what_the_encoder_was_trained_with() -> None:
    """Its words are those of ``PhraseEncoder``, which reads [CLS] text [SEP] through the tokeniser."""
    framed = CaptionEncoder(packaged_encoder(), "framed")(*tokens()).tokens[0].numpy()
    whole = packaged_encoder().hidden((CLS, *DOGS[:-1], SEP))
    np.testing.assert_array_equal(framed[4:8], whole[1:])  # and [SEP] in place of the dot
    np.testing.assert_array_equal(framed[[0, -1]], packaged_encoder().hidden((CLS, SEP)))


def test_a_centred_phrase_is_its_unit_vector_without_the_mean() -> None:
    mean = mean_of_phrases(packaged_encoder(), "framed", PHRASE_IDS)
    plain = CaptionEncoder(packaged_encoder(), "framed")(*tokens()).phrase_vectors()[0].numpy()
    units = plain / np.linalg.norm(plain, axis=1, keepdims=True)
    np.testing.assert_allclose(mean, units.mean(0), atol=1e-6)
    centred = CaptionEncoder(packaged_encoder(), "framed", mean)(*tokens()).phrase_vectors()[0].numpy()
    np.testing.assert_allclose(centred, units - mean, atol=1e-6)


def test_a_frozen_encoder_reads_first_words_only_in_a_frame() -> None:
    """Measured on the encoder: without [CLS] all words in first place are the same to it."""
    words = ["dog", "cat", "freedom", "star", "ring", "river", "seven"]
    ids = [packaged_tokenizer().words(word)[0] for word in words]
    rows = tokens(tuple((CLS, *word, DOT, SEP) for word in ids))

    def mean_cosine(frame: Any, mean: Any = None) -> float:
        vectors = CaptionEncoder(packaged_encoder(), frame, mean)(*rows).phrase_vectors()[:, 0].numpy()
        units = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
        return float((units @ units.T)[~np.eye(len(words), dtype=bool)].mean())

    assert mean_cosine("bare") > 0.999
    assert mean_cosine("framed") < 0.3
    assert mean_cosine("framed", mean_of_phrases(packaged_encoder(), "framed", ids)) < 0


def test_no_phrase_to_centre_on_is_refused() -> None:
    with pytest.raises(ValueError, match="needs the phrases"):
        mean_of_phrases(packaged_encoder(), "framed", [])
    with pytest.raises(ValueError, match="needs the phrases"):
        centre_text(grounding_dino(centred=True), [])


def test_the_sum_of_the_encoder_is_that_of_grounding_dino() -> None:
    ours = {f"bert.{name}": values for name, values in packaged_encoder().numbers().items()}
    assert tensors_sha256(ours) == tensors_sha256(read_text_encoder(packaged_folder())[0])


def test_phrases_are_numbered_in_the_order_of_the_caption() -> None:
    captions = ENCODER(*tokens())
    assert captions.count == 3
    places = [[row.nonzero().flatten().tolist() for row in caption] for caption in captions.words]
    assert places[0] == [[1, 2], [4, 5, 6], [8, 9]]
    assert places[2] == [[1, 2, 3], [5, 6], []]
    assert captions.known().tolist() == [[True] * 3, [True, False, False], [True, True, False], [True, False, False]]


def test_a_phrase_is_the_mean_of_its_words_in_whatever_caption() -> None:
    captions = ENCODER(*tokens())
    vectors = captions.phrase_vectors()
    torch.testing.assert_close(vectors[0, 1], captions.tokens[0, 4:7].mean(0))
    torch.testing.assert_close(vectors[0, 0], vectors[2, 1])  # a cat
    torch.testing.assert_close(vectors[0, 2], vectors[1, 0])  # a bench
    assert (vectors[~captions.known()] == 0).all()


def test_a_caption_without_phrases() -> None:
    captions = CaptionEncoder(packaged_encoder(), "bare")(*tokens(((CLS, SEP),)))
    assert (captions.count, captions.phrase_vectors().shape) == (0, (1, 0, 384))


def test_parts_that_are_read_together() -> None:
    assert split((CLS, *CAT, *DOGS, SEP)) == [(CLS,), CAT, DOGS, (SEP,)]
    assert split((CLS, SEP)) == [(CLS,), (SEP,)]
    assert split((CLS, *BENCH, 2048, SEP)) == [(CLS,), BENCH, (2048,), (SEP,)]  # no dot behind it: it falls apart
    assert split((DOT, 2048)) == [(DOT,), (2048,)]
