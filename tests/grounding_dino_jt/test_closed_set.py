"""The control without language: no two names share a token."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from ovd_bench.detectors.captions import CLS, DOT, QUESTION, SEP, caption_of_text, tokenize_names
from ovd_bench.grounding_dino_jt.closed_set import ClassTokenizer, class_encoder
from ovd_bench.grounding_dino_jt.config import NANO, Config
from ovd_bench.grounding_dino_jt.tokenizer import packaged_tokenizer
from ovd_bench.grounding_dino_jt.weights.shapes import text_layers_fit

NAMES = ("striped red star", "Dotted  red star", "ring", "st. bernard")
UNKNOWN = 100


def _tokenizer() -> ClassTokenizer:
    return ClassTokenizer.of(packaged_tokenizer(), NAMES)


def test_names_keep_their_number_of_tokens_and_share_none() -> None:
    tokenizer = _tokenizer()
    found = tokenize_names(tokenizer.words, NAMES)
    plain = tokenize_names(packaged_tokenizer().words, NAMES)
    assert [len(ids) for ids in found.ids] == [len(ids) for ids in plain.ids]
    every = [token for ids in found.ids for token in ids]
    assert len(set(every)) == len(every)
    assert min(every) > QUESTION
    assert max(every) == tokenizer.count - 1
    assert found.notes == ()


def test_an_unknown_name_is_unknown_whatever_words_it_shares() -> None:
    tokenizer = _tokenizer()
    found = tokenize_names(tokenizer.words, ["dotted red ring", "red star", "a striped red star"])
    assert all(set(ids) == {UNKNOWN} for ids in found.ids)
    assert len(found.ids[0]) == 3
    assert found.notes


def test_captions_are_cut_into_the_same_phrases() -> None:
    tokenizer, words = _tokenizer(), packaged_tokenizer()
    text = "Striped red star. dotted red ring? ring"
    ids = tokenizer.caption(text)
    plain = words.caption(text)
    assert len(ids) == len(plain)
    known = tokenizer.tokens
    assert ids == [CLS, *known["striped red star"], DOT, *[UNKNOWN] * 3, QUESTION, *known["ring"], DOT, SEP]
    assert caption_of_text(tokenizer.words, text).phrases == caption_of_text(words.words, text).phrases
    assert caption_of_text(tokenizer.words, text).spans == caption_of_text(words.words, text).spans


def test_the_encoder_is_stored_with_its_names() -> None:
    tokenizer, text = class_encoder(packaged_tokenizer(), [*NAMES, "Ring"], 64)
    assert text.classes == ("dotted red star", "ring", "st bernard", "striped red star")
    assert text.vocab_size == tokenizer.count
    assert text_layers_fit(text)
    config = Config(text=text)
    assert Config.from_json(config.to_json()) == config
    again = ClassTokenizer.of(packaged_tokenizer(), text.classes)
    assert again.tokens == tokenizer.tokens


def test_a_model_of_it_is_written_and_read(tmp_path: Path) -> None:
    import dataclasses

    from ovd_bench.grounding_dino_jt.load import load
    from ovd_bench.grounding_dino_jt.training.start import new_network
    from ovd_bench.grounding_dino_jt.weights import write_canonical

    tokenizer, text = class_encoder(packaged_tokenizer(), NAMES, 64)
    config = dataclasses.replace(NANO, text=text)
    network = new_network(config, {}, 0)
    path = tmp_path / "weights.safetensors"
    tensors = {name: value.numpy() for name, value in network.state_dict().items()}
    write_canonical(tensors, config, path, source="test", source_sha256="")
    model = load(path)
    assert isinstance(model.tokenizer, ClassTokenizer)
    assert model.tokenizer.tokens == tokenizer.tokens
    features = model.encode_text(["ring. striped red star. a ball. a cube."])
    rows = features.features.numpy()[0]
    ring, star, ball, cube = rows[1], rows[3:6], rows[7:9], rows[10:12]
    np.testing.assert_allclose(ball, cube, atol=1e-6)  # the model does not know either
    assert np.abs(ring - star[0]).max() > 0.1
