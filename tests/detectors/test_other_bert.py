"""Grounding DINO whose text encoder is another BERT: its own vocabulary decides what tokens and phrases are."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import BertTokenizer

from ovd_bench.detectors.grounding_dino_hf import GroundingDinoDetector
from ovd_bench.detectors.interface import DetectorSettings, TextDetector
from ovd_bench.detectors.prompts import PLANS
from ovd_bench.detectors.registry import load_detector
from ovd_bench.detectors.types import DetectorError, Vocabulary
from ovd_bench.grounding_dino_jt.tokenizer import read_tokenizer
from ovd_bench.tests.detectors.tiny_models import random_image, write_grounding_dino

#: Separators have other numbers than in BERT's uncased vocabulary, and lower case is up to the caller.
WORDS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", ".", "?", ",", *"红色的猫狗在左边", "dog", "hair", "##y", "a"]
NUMBER = {word: row for row, word in enumerate(WORDS)}
VOCABULARY = Vocabulary((7, 3, 9), ("红色的猫", "Hairy Dog", "狗"))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_grounding_dino(tmp_path_factory.mktemp("chinese") / "model", words=WORDS)


def _load(folder: Path) -> GroundingDinoDetector:
    detector = load_detector("grounding-dino-tiny-hf", DetectorSettings(weights=str(folder), top_k=20))
    assert isinstance(detector, GroundingDinoDetector)
    return detector


def test_chinese_characters_are_tokens_of_their_own(folder: Path) -> None:
    detector = _load(folder)
    detector.set_vocabulary(VOCABULARY, PLANS["raw"])
    assert detector._queries is not None
    (text,) = detector._queries.texts
    written = BertTokenizer.from_pretrained(folder)("红色的猫. hairy dog. 狗.").input_ids
    order = {category: row for row, category in enumerate(detector._queries.category_ids)}
    assert sorted(text.caption.ids) == sorted(written)
    words = [[WORDS[token] for token in text.caption.ids[one.start : one.stop]] for one in text.caption.phrases]
    assert [words[order[category]] for category in (7, 3, 9)] == [list("红色的猫"), ["hair", "##y", "dog"], ["狗"]]
    assert not [note for note in detector.card.notes if "unknown" in note]


def test_phrases_end_at_its_own_separators(folder: Path) -> None:
    """Positions start anew behind every dot, and no token sees another phrase."""
    detector = _load(folder)
    detector.set_vocabulary(VOCABULARY, PLANS["raw"])
    assert detector._queries is not None
    (text,) = detector._queries.texts
    ids, mask = np.array(text.caption.ids), text.phrase_mask[0].numpy()
    group = np.cumsum(np.isin(ids, [NUMBER[mark] for mark in ("[CLS]", "[SEP]", ".", "?")]))
    group = np.concatenate([[0], group[:-1] + 1])  # a separator belongs to the phrase before it
    assert np.array_equal(mask, group[:, None] == group)
    starts = [int(np.flatnonzero(group == one)[0]) for one in group]
    assert text.position_ids[0].tolist() == [place - start for place, start in enumerate(starts)]


def test_it_detects_and_grounds(folder: Path) -> None:
    detector, image = _load(folder), random_image(40, 70, 1)
    detector.set_vocabulary(VOCABULARY, PLANS["raw"])
    (found,) = detector.detect([image])
    assert set(found.category_ids.tolist()) == {7, 3, 9}
    (grounding,) = detector.ground([image], ["红色的猫在左边. 狗?"])
    assert grounding.boxes_xyxy.shape[1] == 4
    detector.set_vocabulary(Vocabulary((1,), ("红鸟",)), PLANS["raw"])
    assert "1 class names have words unknown to BERT, such as '红鸟'" in detector.card.notes


def test_another_tokenizer_than_the_text_encoders_is_refused(folder: Path, tmp_path: Path) -> None:
    copy = write_grounding_dino(tmp_path / "copy", words=WORDS)
    larger = {word: row for row, word in enumerate([*WORDS, "one", "more"])}
    BertTokenizer(vocab=larger, do_lower_case=False).save_pretrained(copy)
    with pytest.raises(DetectorError, match=f"{len(larger)} words, the text encoder has {len(WORDS)}"):
        _load(copy)
    for file in (*copy.glob("tokenizer*"), *copy.glob("vocab*")):
        file.unlink()
    with pytest.raises(DetectorError, match=r"the tokenizer's files are missing|the tokenizer does not load"):
        _load(copy)
    assert json.loads((copy / "config.json").read_text())["text_config"]["vocab_size"] == len(WORDS)
    assert torch.is_grad_enabled()


def test_the_tokeniser_of_jittors_model_is_the_folders(folder: Path, tmp_path: Path) -> None:
    words = read_tokenizer(folder, len(WORDS))
    written = BertTokenizer.from_pretrained(folder)
    assert words.caption(" 红色的猫. Dog? ") == written("红色的猫. dog?.").input_ids
    assert words.words("狗 DOG") == ([NUMBER["狗"], NUMBER["dog"]], [(0, 1), (2, 5)])
    assert words.separators == tuple(NUMBER[mark] for mark in ("[CLS]", "[SEP]", ".", "?"))
    (tmp_path / "vocab.txt").write_text("\n".join(WORDS) + "\n", encoding="utf-8")
    assert read_tokenizer(tmp_path, len(WORDS)).caption("红猫") == words.caption("红猫")
    for size, message in ((30522, "is of another vocabulary"), (7, "the text encoder has 7"), (900, "encoder has 900")):
        with pytest.raises(ValueError, match=message):
            read_tokenizer(folder, size)


def test_jittor_reads_text_as_pytorch_does(folder: Path) -> None:
    vectors = []
    for name in ("grounding-dino-tiny-hf", "grounding-dino-tiny"):
        detector = load_detector(name, DetectorSettings(weights=str(folder)))
        assert isinstance(detector, TextDetector)
        detector.set_vocabulary(VOCABULARY, PLANS["raw"])
        vectors.append(detector.class_vectors())
    for category in VOCABULARY.ids:
        np.testing.assert_allclose(vectors[1][category], vectors[0][category], atol=1e-4)
