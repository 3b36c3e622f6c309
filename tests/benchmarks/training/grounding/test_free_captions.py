"""Captions of grounding records: tokens of phrases, cut captions, mirrored sides."""

from __future__ import annotations

import re
from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ovd_bench.benchmarks.training.grounding.captioned import Captioned
from ovd_bench.benchmarks.training.grounding.free_captions import read_caption, swap_sides
from ovd_bench.detectors.captions import SEPARATORS
from ovd_bench.grounding_dino_jt.tokenizer import packaged_tokenizer

TOKENIZER = packaged_tokenizer()
Spans = list[tuple[int, int]]


def _read(
    caption: str, regions: Sequence[Spans], region_of: Sequence[int] | None = None, max_tokens: int = 256
) -> Captioned:
    rows = range(len(regions)) if region_of is None else region_of
    return read_caption(TOKENIZER.words, caption, regions, np.array(rows, np.int64), max_tokens)


def _spans(caption: str, *phrases: str) -> list[Spans]:
    """Spans of phrases, each a regular expression that stands in the caption; its groups are the spans."""
    spans = []
    for phrase in phrases:
        match = re.search(phrase, caption)
        assert match
        spans.append([match.span(group) for group in range(1, match.re.groups + 1)] or [match.span()])
    return spans


def _named(read: Captioned) -> list[str]:
    return [
        TOKENIZER.inner.decode(np.array(read.ids)[row].tolist(), skip_special_tokens=False) for row in read.token_map
    ]


def test_tokens_of_a_phrase_come_from_its_characters() -> None:
    caption = "A carrot beside a car, and a Café in the car"
    read = _read(caption, _spans(caption, "(A carrot)", "beside a (car),", "a Café", "the (car)$"), [0, 1, 2, 3, 3, 0])
    assert _named(read) == ["a carrot", "car", "a cafe", "car", "car", "a carrot"]
    assert read.phrases.tolist() == [0, 1, 2, 3, 3, 0]
    assert read.kept.tolist() == [0, 1, 2, 3, 4, 5]
    first, second = (np.flatnonzero(read.token_map[row]).tolist() for row in (1, 3))
    assert first != second  # the same words at two places


def test_a_phrase_may_have_several_spans_and_share_words() -> None:
    caption = "a man and a woman on horses"
    read = _read(caption, _spans(caption, "(a man) and a woman (on horses)", "(a woman) (on horses)", "horses"))
    assert _named(read) == ["a man on horses", "a woman on horses", "horses"]
    assert read.phrases.tolist() == [0, 1, 2]


def test_phrases_are_numbered_in_the_order_of_the_caption() -> None:
    caption = "a dog near a cat"
    read = _read(caption, _spans(caption, "a cat", "a dog", "a (cat)", "a cat"))
    assert read.phrases.tolist() == [1, 0, 2, 1]


@pytest.mark.parametrize("caption", ["a cat", "a cat.", " A CAT . ", "who? a cat?", "", ".", "a cat. a dog", "x\u200b"])
def test_the_caption_is_what_the_tokeniser_makes_of_it_officially(caption: str) -> None:
    assert list(_read(caption, []).ids) == TOKENIZER.caption(caption)


def test_lower_case_and_accents_do_not_shift_spans() -> None:
    caption = "İİİ ﬁn 😀 é\u0301tude of a RED kite"  # "İ".lower() is two characters long
    read = _read(caption, _spans(caption, "a RED kite", "😀", "of"))
    assert _named(read) == ["a red kite", "[UNK]", "of"]


def test_separators_within_a_phrase_are_not_part_of_it() -> None:
    caption = "mr. smith? yes [SEP] no, he"
    read = _read(caption, [[(0, len(caption))]])
    assert _named(read) == ["mr smith yes no, he"]
    assert not set(np.array(read.ids)[read.token_map[0]].tolist()) & SEPARATORS


def test_boxes_beyond_the_budget_are_dropped_and_counted() -> None:
    caption = "one two three four five six seven eight nine"
    spans = _spans(caption, "one two", "four five", "six", "nine")
    read = _read(caption, spans, [0, 1, 2, 2, 3], max_tokens=8)  # [CLS] one two three four five . [SEP]
    assert TOKENIZER.inner.decode(list(read.ids)) == "one two three four five."
    assert read.kept.tolist() == [0, 1]
    assert read.dropped.over_budget == 3
    cut = _read(caption, spans, [1], max_tokens=7)
    assert _named(cut) == ["four"]  # what is left of the phrase
    assert len(_read(caption, spans, max_tokens=12).ids) == 12
    assert _read(caption, spans, max_tokens=12).dropped.over_budget == 0
    assert _read(caption + ".", spans, max_tokens=12).ids == _read(caption, spans).ids


def test_a_region_without_a_word_is_dropped_and_counted() -> None:
    caption = "a cat . a dog"
    read = _read(caption, [[(0, 5)], [(5, 8)], [(5, 6)]], [0, 1, 1, 2])
    assert read.kept.tolist() == [0]
    assert (read.dropped.wordless, read.dropped.over_budget) == (3, 0)


_CAPTIONS = st.text(st.one_of(st.sampled_from("abcd  ..?,"), st.characters(codec="utf-8")), min_size=1, max_size=80)


@settings(max_examples=200, deadline=None)
@given(caption=_CAPTIONS, data=st.data())
def test_whatever_the_caption_is(caption: str, data: st.DataObject) -> None:
    place = st.integers(0, len(caption) - 1)
    span = st.tuples(place, place).map(lambda two: (min(two), max(two) + 1))
    regions = data.draw(st.lists(st.lists(span, min_size=1, max_size=3), min_size=1, max_size=8))
    region_of = data.draw(st.lists(st.integers(0, len(regions) - 1), max_size=12))
    budget = data.draw(st.integers(8, 40))
    read = _read(caption, regions, region_of, budget)
    assert len(read.ids) <= budget
    assert read.ids[-2] == 1012
    assert read.token_map.shape == (len(read.kept), len(read.ids))
    assert read.token_map.any(axis=1).all()
    assert not read.token_map[:, np.isin(read.ids, list(SEPARATORS))].any()
    assert len(read.kept) + read.dropped.over_budget + read.dropped.wordless == len(region_of)
    firsts = [int(np.flatnonzero(row)[0]) for row in read.token_map]
    order = np.argsort(read.phrases, kind="stable")
    assert np.all(np.diff(np.array(firsts)[order]) >= 0)
    for one, number in zip(read.token_map, read.phrases, strict=True):
        for other, same in zip(read.token_map, read.phrases, strict=True):
            assert np.array_equal(one, other) == (number == same)
    ids, offsets = TOKENIZER.words(caption)
    for row, kept in zip(read.token_map, read.kept.tolist(), strict=True):
        inside = [
            i
            for i, (begin, end) in enumerate(offsets[: len(read.ids)])
            if ids[i] not in SEPARATORS and any(begin < e and end > b for b, e in regions[region_of[kept]])
        ]
        assert set(np.flatnonzero(row) - 1) <= set(inside)


@pytest.mark.parametrize(
    ("caption", "mirrored"),
    [
        ("the left dog and the right cat", "the right dog and the left cat"),
        ("Left of the LEFT one, Right", "Right of the RIGHT one, Left"),
        ("the leftmost, left-hand, left-most; leftward(s)", "the rightmost, right-hand, right-most; rightward(s)"),
        ("righthand side, rightwards", "lefthand side, leftwards"),
        ("leftover bright copyright rightly upright lefty", "leftover bright copyright rightly upright lefty"),
        ("left", "right"),
        ("bottom-left/top-right", "bottom-right/top-left"),
    ],
)
def test_sides_change_places(caption: str, mirrored: str) -> None:
    swapped, _ = swap_sides(caption, [])
    assert swapped == mirrored
    assert swap_sides(swapped, [])[0] == caption


def test_spans_move_with_their_words() -> None:
    caption = "the left dog on the right of a LEFT shoe, its right"
    phrases = ["the left dog", "(the left) dog on (the right)", "a LEFT shoe", "(left).*(right)$", "^the", "on"]
    spans = _spans(caption, *phrases)
    swapped, moved = swap_sides(caption, spans)
    assert swapped == "the right dog on the left of a RIGHT shoe, its left"
    assert [[swapped[begin:end] for begin, end in region] for region in moved] == [
        ["the right dog"],
        ["the right", "the left"],
        ["a RIGHT shoe"],
        ["right", "left"],
        ["the"],
        ["on"],
    ]
    back = swap_sides(swapped, moved)
    assert back == (caption, spans)


def test_a_span_that_cuts_a_side_in_two_takes_it_whole() -> None:
    swapped, moved = swap_sides("x right y", [[(0, 4)], [(4, 9)]])
    assert [swapped[begin:end] for region in moved for begin, end in region] == ["x left", "left y"]


@settings(max_examples=100, deadline=None)
@given(
    words=st.lists(st.sampled_from(["left", "Right", "LEFT", "rightmost", "dog", "x", "bright", "-"]), min_size=1),
    data=st.data(),
)
def test_mirroring_twice_changes_nothing(words: list[str], data: st.DataObject) -> None:
    caption = " ".join(words)
    begins = np.cumsum([0, *(len(word) + 1 for word in words)])
    pairs = data.draw(st.lists(st.tuples(*[st.integers(0, len(words) - 1)] * 2), max_size=6))
    spans = [[(int(begins[min(two)]), int(begins[max(two) + 1]) - 1)] for two in pairs]
    swapped, moved = swap_sides(caption, spans)
    assert swap_sides(swapped, moved) == (caption, spans)
    for two, ((begin, end),) in zip(pairs, moved, strict=True):
        assert len(swapped[begin:end].split(" ")) == max(two) - min(two) + 1
