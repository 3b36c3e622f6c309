"""What contestants read: the words that Grounding DINO reads, from the same frozen encoder."""

from __future__ import annotations

import numpy as np
import torch

from baselines.controlled.captions import CaptionEncoder, split
from baselines.text import packaged_encoder
from grounding_dino_jt.config import NANO
from grounding_dino_jt.model import GroundingDino
from grounding_dino_jt.tokenizer import packaged_folder
from grounding_dino_jt.tokens import TokenBatch
from grounding_dino_jt.training.frozen_text import FrozenText
from grounding_dino_jt.weights import read_text_encoder, tensors_sha256
from kernels.runtime import jittor
from tests.baselines.controlled.toy import BENCH, CAT, CLS, DOGS, DOT, ENCODER, ROWS, SEP, tokens


def test_tokens_are_those_of_grounding_dino() -> None:
    jt = jittor()
    network = GroundingDino(NANO)
    named = network.state_dict()
    for name, values in read_text_encoder(packaged_folder())[0].items():
        named[name].assign(jt.array(values))
    wanted = FrozenText(network)(TokenBatch(*tokens())).numpy()
    found = ENCODER(*tokens()).tokens.numpy()
    np.testing.assert_allclose(found, wanted, atol=2e-5)
    assert (found[1, len(ROWS[1]) :] == 0).all()


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
    captions = CaptionEncoder(packaged_encoder())(*tokens(((CLS, SEP),)))
    assert (captions.count, captions.phrase_vectors().shape) == (0, (1, 0, 384))


def test_parts_that_are_read_together() -> None:
    assert split((CLS, *CAT, *DOGS, SEP)) == [(CLS,), CAT, DOGS, (SEP,)]
    assert split((CLS, SEP)) == [(CLS,), (SEP,)]
    assert split((CLS, *BENCH, 2048, SEP)) == [(CLS,), BENCH, (2048,), (SEP,)]  # no dot behind it: it falls apart
    assert split((DOT, 2048)) == [(DOT,), (2048,)]
