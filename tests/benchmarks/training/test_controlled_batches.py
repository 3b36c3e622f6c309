"""What contestants get from a batch: the boxes and phrases of Grounding DINO, of class names and of sentences."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from ovd_bench.baselines.controlled.captions import listed
from ovd_bench.benchmarks.training.controlled_batches import captioned, class_names, with_class_names
from ovd_bench.benchmarks.training.grounding.free_captions import Spans, read_caption
from ovd_bench.benchmarks.training.grounding.samples import Sample, collate
from ovd_bench.grounding_dino_jt.tokenizer import packaged_tokenizer
from ovd_bench.grounding_dino_jt.training.batch import Targets
from ovd_bench.tests.benchmarks.training.grounding.toy import toy_data, write_toy

TOKENIZER = packaged_tokenizer()


def _sentence(caption: str, regions: list[Spans], region_of: list[int]) -> Sample:
    read = read_caption(TOKENIZER.words, caption, regions, np.array(region_of, np.int64), 256)
    boxes = np.full((len(region_of), 4), 0.5, np.float32)
    return Sample(np.zeros((8, 8, 3), np.uint8), read.ids, Targets(boxes, read.phrases, read.token_map))


def _read(sample: Sample) -> tuple[list[str], list[int]]:
    """Phrases asked for, as text, and which of them the boxes are."""
    found = captioned(collate([sample]))
    phrases = [TOKENIZER.inner.decode(found.ids[0][row].tolist()) for row in found.words[0]]
    return phrases, found.phrases[0].tolist()


def _span(caption: str, *parts: str) -> Spans:
    return [(caption.index(part), caption.index(part) + len(part)) for part in parts]


def test_class_names_keep_their_numbers(tmp_path: Path) -> None:
    """Names of absent classes are phrases without a box."""
    data = toy_data(write_toy(tmp_path), batch=6, num_negatives=2, full_sampling_probability=1.0)
    batch = next(data.batches())
    found = captioned(batch)
    for image, targets in enumerate(batch.targets):
        np.testing.assert_array_equal(found.words[image], listed(batch.tokens.ids[image], batch.tokens.real[image]))
        np.testing.assert_array_equal(found.phrases[image], targets.phrases)
    assert max(map(len, found.words)) == 3


def test_every_image_is_asked_for_the_names_of_the_batch(tmp_path: Path) -> None:
    """Boxes keep their names; a name in several captions is asked for once."""
    data = toy_data(write_toy(tmp_path), batch=6, num_negatives=0, full_sampling_probability=1.0)
    own = captioned(next(data.batches()))
    names = class_names([own])
    wide = with_class_names(own, names)
    texts = [TOKENIZER.inner.decode(list(name)) for name in names]
    assert len(set(texts)) == len(texts) > max(map(len, own.words))
    for image, rows in enumerate(own.phrases):
        asked = [TOKENIZER.inner.decode(wide.ids[image][word].tolist()) for word in wide.words[image]]
        assert asked == texts
        before = [TOKENIZER.inner.decode(own.ids[image][own.words[image][row]].tolist()) for row in rows]
        assert [texts[row] for row in wide.phrases[image]] == before


def test_captions_without_names_ask_for_nothing_with_those_of_the_batch() -> None:
    empty, named = captioned(collate([_sentence(".", [], [])])), captioned(collate([_sentence("red.", [], [])]))
    for batch, names in ((empty, []), (named, class_names([empty, named]))):
        wide = with_class_names(batch, names)
        assert wide.words[0].any(1).sum() == len(names)
    assert len(class_names([empty, named])) == 1


def test_boxes_keep_their_places(tmp_path: Path) -> None:
    batch = next(toy_data(write_toy(tmp_path), "od vg", batch=6).batches())
    found = captioned(batch)
    for targets, boxes, (height, width) in zip(batch.targets, found.boxes_xyxy, batch.sizes.tolist(), strict=True):
        assert boxes.dtype == np.float32
        scale = np.array([width, height])
        np.testing.assert_allclose((boxes[:, :2] + boxes[:, 2:]) / 2 / scale, targets.boxes[:, :2], atol=1e-6)
        np.testing.assert_allclose((boxes[:, 2:] - boxes[:, :2]) / scale, targets.boxes[:, 2:], atol=1e-6)


def test_phrases_of_a_sentence_may_share_words_and_stand_in_several_places() -> None:
    caption = "a man in a red coat holds it"
    regions = [_span(caption, "a red coat"), _span(caption, "a man", "coat"), _span(caption, "a man in a red coat")]
    phrases, rows = _read(_sentence(caption, regions, [0, 1, 2, 1]))
    assert sorted(phrases) == ["a man coat", "a man in a red coat", "a red coat"]
    assert [phrases[row] for row in rows] == ["a red coat", "a man coat", "a man in a red coat", "a man coat"]
    assert phrases[2] == "a red coat"  # in the order in which they begin


def test_words_that_no_box_has_are_no_phrase_of_their_own_but_a_sentence_is() -> None:
    caption = "a man sits. two dogs run"
    assert _read(_sentence(caption, [_span(caption, "a man")], [0])) == (["a man", "two dogs run"], [0])
    assert _read(_sentence(caption, [], [])) == (["a man sits", "two dogs run"], [])


def test_a_box_with_two_phrases_is_two_objects() -> None:
    """As for Grounding DINO, whose targets they are."""
    caption = "a man, the painter"
    phrases, rows = _read(_sentence(caption, [_span(caption, "a man"), _span(caption, "the painter")], [0, 1]))
    assert (phrases, rows) == (["a man", "the painter"], [0, 1])


@pytest.mark.parametrize("caption", ["", "."])
def test_a_caption_of_nothing_asks_for_nothing(caption: str) -> None:
    sample = _sentence(caption, [], [])
    found = captioned(collate([sample]))
    assert found.words[0].shape == (1, len(sample.ids))
    assert not found.words[0].any()
