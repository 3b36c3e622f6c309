"""Captions of class names: which names are in them, which are left out, and which tokens belong to a box."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ovd_bench.benchmarks.training.grounding.captioned import Captioned
from ovd_bench.benchmarks.training.grounding.class_captions import ClassCaptions
from ovd_bench.benchmarks.training.grounding.settings import CaptionSettings
from ovd_bench.detectors.captions import SEPARATORS
from ovd_bench.grounding_dino_jt.tokenizer import packaged_tokenizer
from ovd_bench.metrics.errors import DataError

TOKENIZER = packaged_tokenizer()


def _captions(names: Sequence[str], seen: Sequence[int] | None = None, **changes: Any) -> ClassCaptions:
    labels = np.array(range(len(names)) if seen is None else seen, np.int64)
    return ClassCaptions(names, labels, TOKENIZER.words, CaptionSettings(**changes))


def _draw(captions: ClassCaptions, labels: Sequence[int], seed: int = 0) -> Captioned:
    return captions.draw(np.array(labels, np.int64), np.random.default_rng(seed))


def _phrases(drawn: Captioned) -> list[str]:
    """Phrases of a caption, in order, read back from its tokens."""
    text = TOKENIZER.inner.decode(list(drawn.ids), skip_special_tokens=True)
    return [part.strip() for part in text.split(".") if part.strip()]


def _named(drawn: Captioned) -> list[str]:
    """What each kept box is called, read back from its row of the token map."""
    return [TOKENIZER.inner.decode(np.array(drawn.ids)[row].tolist()) for row in drawn.token_map]


def test_a_word_within_a_word_is_not_the_class() -> None:
    captions = _captions(["car", "carrot", "car door", "scar"])
    for seed in range(20):
        drawn = _draw(captions, [0, 1, 2, 3, 0], seed)
        assert _named(drawn) == ["car", "carrot", "car door", "scar", "car"]
        assert sorted(_phrases(drawn)) == ["car", "car door", "carrot", "scar"]
        assert [_phrases(drawn)[number] for number in drawn.phrases] == _named(drawn)
        assert drawn.token_map.sum(axis=1).tolist() == [1, 1, 2, 1, 1]


def test_a_class_that_is_there_is_never_asked_for_as_absent() -> None:
    names = ["bow", "bow", "Bow", "sofa/couch", "couch", "cat"]
    captions = _captions(names, num_negatives=6, full_sampling_probability=1)
    alternatives = set()
    for seed in range(60):
        there = [seed % 5, 5] if seed % 2 else [seed % 5]
        drawn = _draw(captions, there, seed)
        groups = Counter("bow" if "bow" in phrase else phrase for phrase in _phrases(drawn))
        seats = groups.pop("sofa", 0) + groups.pop("couch", 0)
        assert (seats, groups) == (1, Counter(bow=1, cat=1))
        alternatives |= set(_named(drawn)) & {"sofa", "couch"}
    assert alternatives == {"sofa", "couch"}  # drawn anew each time


def test_both_labels_of_one_name_are_the_same_phrase() -> None:
    drawn = _draw(_captions(["bow", "bow", "cat"]), [0, 1, 2])
    assert _named(drawn) == ["bow", "bow", "cat"]
    assert drawn.phrases[0] == drawn.phrases[1] != drawn.phrases[2]


def test_a_class_without_a_box_in_the_source_is_never_read() -> None:
    captions = _captions(["red", "unseen", "blue"], seen=[0, 2, 2])
    assert {phrase for seed in range(20) for phrase in _phrases(_draw(captions, [0], seed))} == {"red", "blue"}


def test_boxes_of_a_class_that_does_not_fit_are_dropped_with_it() -> None:
    names = [f"very long name of class number {i}" for i in range(20)]
    captions = _captions(names, max_tokens=40)  # 7 tokens and a dot each: 4 classes
    seen = Counter[str]()
    for seed in range(40):
        drawn = _draw(captions, list(range(20)) * 2, seed)
        assert len(drawn.ids) <= 40
        assert len(_phrases(drawn)) == 4
        assert drawn.kept.tolist() == sorted(drawn.kept)
        assert len(drawn.kept) == 8
        assert drawn.dropped.over_budget == 32
        assert _named(drawn) == [names[row % 20] for row in drawn.kept]
        seen.update(_phrases(drawn))
    assert len(seen) == 20  # another choice each time


def test_a_long_name_that_does_not_fit_leaves_room_for_others() -> None:
    names = ["a b c d e f g h i j k l", "cat", "dog"]
    for seed in range(10):
        drawn = _draw(_captions(names, max_tokens=8, num_negatives=0), [0, 1, 2], seed)
        assert sorted(_named(drawn)) == ["cat", "dog"]
        assert drawn.dropped.over_budget == 1


def test_the_last_token_of_the_budget_is_used() -> None:
    names = ["one two three", "four five six"]  # 2 + 2 x 4 = 10
    assert len(_phrases(_draw(_captions(names, max_tokens=10), [0, 1]))) == 2
    assert len(_phrases(_draw(_captions(names, max_tokens=9), [0, 1]))) == 1


def test_negatives_stop_at_the_first_that_does_not_fit() -> None:
    names = ["cat", *(f"a b c d e f g h i j k l m n o p {i}" for i in range(10)), *(f"n{i}" for i in range(10))]
    captions = _captions(names, max_tokens=20, num_negatives=20, full_sampling_probability=1)
    drawn = [_draw(captions, [0], seed) for seed in range(100)]
    assert 30 < sum(_phrases(one) == ["cat"] for one in drawn) < 70  # a long one came first
    assert max(len(one.ids) for one in drawn) <= 20


def test_how_many_negatives_are_drawn() -> None:
    names = [f"n{i}" for i in range(100)]
    captions = _captions(names, num_negatives=40)
    counts = Counter(len(_phrases(_draw(captions, [0], seed))) - 1 for seed in range(400))
    assert max(counts) == 40
    assert min(counts) >= 1
    assert 150 < counts[40] < 270  # half of the time all of them
    assert len(counts) > 35
    assert len(_phrases(_draw(_captions(names, num_negatives=0), [3, 4]))) == 2


def test_positives_and_negatives_are_shuffled_together() -> None:
    captions = _captions([f"n{i}" for i in range(10)], num_negatives=9, full_sampling_probability=1)
    places = Counter(int(_draw(captions, [0], seed).phrases[0]) for seed in range(300))
    assert set(places) == set(range(10))
    assert max(places.values()) < 60


def test_a_caption_of_nothing_is_a_dot() -> None:
    drawn = _draw(_captions(["cat"], num_negatives=0), [])
    assert list(drawn.ids) == TOKENIZER.caption("")
    assert drawn.token_map.shape == (0, 3)
    assert len(_draw(_captions(["cat"]), []).ids) == 4


def test_names_without_words_are_refused() -> None:
    with pytest.raises(DataError, match="has no word"):
        _captions(["cat", " \u200b "])
    assert _phrases(_draw(_captions(["/", "a//b"], seen=[0]), [0])) == ["/"]


def test_dots_in_a_name_do_not_split_it() -> None:
    drawn = _draw(_captions(["dr. pepper?", "[SEP] mug"]), [0, 1])
    assert _named(drawn) == ["dr pepper", "mug"]
    assert not set(drawn.ids[1:-1]) & (SEPARATORS - {1012})


_NAMES = st.lists(st.text(st.characters(codec="utf-8"), min_size=1, max_size=24), min_size=1, max_size=12)


@settings(max_examples=150, deadline=None)
@given(names=_NAMES, data=st.data())
def test_whatever_the_names_are(names: list[str], data: st.DataObject) -> None:
    names = [f"{name} {'xyzzy' if data.draw(st.booleans()) else 'car'}" for name in names]
    labels = data.draw(st.lists(st.integers(0, len(names) - 1), max_size=20))
    captions = _captions(names, max_tokens=data.draw(st.integers(8, 64)), num_negatives=data.draw(st.integers(0, 10)))
    drawn = _draw(captions, labels, data.draw(st.integers(0, 10)))
    assert drawn.token_map.shape == (len(drawn.kept), len(drawn.ids))
    assert drawn.token_map.any(axis=1).all()
    assert not drawn.token_map[:, np.isin(drawn.ids, list(SEPARATORS))].any()
    assert len(drawn.kept) + drawn.dropped.over_budget == len(labels)
    islands = [tuple(part) for part in _islands(drawn.ids)]
    assert len(set(islands)) == len(islands)  # no phrase twice, under whatever name
    for row, number, label in zip(
        drawn.token_map, drawn.phrases.tolist(), np.array(labels)[drawn.kept].tolist(), strict=True
    ):
        assert tuple(np.array(drawn.ids)[row]) == islands[number]
        assert islands[number] in captions.phrases[captions.phrase_of[label]]


def _islands(ids: Sequence[int]) -> list[list[int]]:
    parts: list[list[int]] = [[]]
    for token in ids[1:-1]:
        if token == 1012:
            parts.append([])
        else:
            parts[-1].append(token)
    return [part for part in parts if part]


@settings(max_examples=60, deadline=None)
@given(words=st.lists(st.text(st.characters(categories=("L", "N")), min_size=1, max_size=9), min_size=1, max_size=10))
def test_tokens_are_what_the_tokeniser_makes_of_the_text(words: list[str]) -> None:
    texts: dict[tuple[int, ...], str] = {}
    for word in words:
        texts.setdefault(tuple(TOKENIZER.words(word)[0]), word)
    texts.pop((), None)
    if not texts:
        return
    names = list(texts.values())
    drawn = _draw(_captions(names), list(range(len(names))))
    order = dict(zip(drawn.phrases.tolist(), names, strict=True))
    text = ". ".join(order[number] for number in sorted(order)) + "."
    assert list(drawn.ids) == TOKENIZER.caption(text)
