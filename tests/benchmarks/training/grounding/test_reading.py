"""How text encoders of trainings read, and what they are centred on."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from ovd_bench.benchmarks.training.grounding.config import ModelSettings
from ovd_bench.benchmarks.training.grounding.reading import (
    check_given,
    reading,
    reading_facts,
    text_is_frozen,
    vocabulary_phrases,
)
from ovd_bench.benchmarks.training.grounding.settings import SourceSettings
from ovd_bench.benchmarks.training.grounding.sources import Source, open_source
from ovd_bench.grounding_dino_jt.config import MINILM, TextConfig
from ovd_bench.grounding_dino_jt.tokenizer import packaged_tokenizer
from ovd_bench.grounding_dino_jt.training.recipe import Recipe

FRAMED = TextConfig(phrase_frame="framed", centred=True)


def test_a_frozen_encoder_reads_in_frames_and_centred_and_one_that_learns_bare() -> None:
    frozen, learning = (reading(ModelSettings(), MINILM, frozen=frozen) for frozen in (True, False))
    assert (frozen.phrase_frame, frozen.centred) == ("framed", True)
    assert (learning.phrase_frame, learning.centred) == ("bare", False)
    assert learning == MINILM


def test_another_reading_must_be_asked_for() -> None:
    bare = reading(ModelSettings(phrase_frame="bare", centred=False), MINILM, frozen=True)
    assert (bare.phrase_frame, bare.centred) == ("bare", False)
    assert reading(ModelSettings(phrase_frame="framed"), MINILM, frozen=False).phrase_frame == "framed"
    with pytest.raises(ValueError, match="text encoder that does not learn"):
        reading(ModelSettings(centred=True), MINILM, frozen=False)


def test_clip_has_frames_of_its_own() -> None:
    clip = TextConfig(kind="clip")
    assert reading(ModelSettings(), clip, frozen=True) == clip
    with pytest.raises(ValueError, match="BERT"):
        reading(ModelSettings(phrase_frame="framed"), clip, frozen=True)


def test_weights_that_read_bare_with_an_encoder_that_never_learned_are_refused_unless_asked_for() -> None:
    with pytest.raises(ValueError, match="phrase_frame: bare"):
        check_given(ModelSettings(), TextConfig(), unlearned=True)
    check_given(ModelSettings(phrase_frame="bare"), TextConfig(), unlearned=True)
    check_given(ModelSettings(), TextConfig(), unlearned=False)  # released weights: their encoder learned it
    check_given(ModelSettings(), FRAMED, unlearned=True)


def test_weights_keep_their_reading() -> None:
    with pytest.raises(ValueError, match="phrase_frame is bare, but the weights have framed"):
        check_given(ModelSettings(phrase_frame="bare"), FRAMED, unlearned=True)
    with pytest.raises(ValueError, match="centred is True, but the weights have False"):
        check_given(ModelSettings(centred=True), TextConfig(), unlearned=False)


@pytest.mark.parametrize("name", ["phrase_frame", "centred"])
def test_options_are_no_second_way(name: str) -> None:
    with pytest.raises(ValueError, match=f"write model.{name}"):
        ModelSettings(options={"text": {name: "framed"}}).config()


def test_an_encoder_is_frozen_if_none_of_its_parameters_learns() -> None:
    names = ["bert.a", "bert.b", "backbone.a"]
    assert text_is_frozen(Recipe(1, rates={"bert.": 0.0}), names)
    assert not text_is_frozen(Recipe(1, rates={"bert.": 0.0, "bert.b": 0.1}), names)


def source(folder: Path, lines: list[dict[str, object]], names: list[str]) -> Source:
    (folder / "r.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    (folder / "map.json").write_text(json.dumps({str(number): name for number, name in enumerate(names)}))
    files = SourceSettings(annotations=str(folder / "r.jsonl"), images=str(folder), label_map=str(folder / "map.json"))
    return open_source(files)


def test_the_vocabulary_is_what_a_training_reads(tmp_path: Path) -> None:
    """Classes with a box, and captions between their separators, cut as in training; each once."""
    size = {"filename": "a.png", "height": 8, "width": 8}
    boxes = {"detection": {"instances": [{"bbox": [0, 0, 4, 4], "label": label} for label in (2, 0)]}}
    caption = {"caption": "a cat. two old dogs", "regions": [{"bbox": [0, 0, 4, 4], "phrase": "a cat"}]}
    names = ["a cat", "never seen", "traffic light"]
    opened = source(tmp_path, [{**size, **boxes}, {**size, "grounding": caption}], names)
    words = packaged_tokenizer().words
    wanted = [tuple(words(text)[0]) for text in ("a cat", "traffic light", "two old dogs")]
    assert vocabulary_phrases([opened], words, max_tokens=256) == wanted
    cut = vocabulary_phrases([opened], words, max_tokens=6)  # [CLS] a cat . two [SEP]
    assert cut == [*wanted[:2], tuple(words("two")[0])]


def test_facts_tell_vocabularies_apart() -> None:
    one, other, none = (reading_facts("framed", phrases) for phrases in ([(1, 2)], [(1,), (2,)], []))
    assert one["text_mean_of_sha256"] != other["text_mean_of_sha256"]
    assert none == {"phrase_frame": "framed", "text_mean_of_sha256": ""}
