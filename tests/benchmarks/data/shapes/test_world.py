"""Vocabulary, frequencies and decks of the worlds."""

from __future__ import annotations

from collections import Counter

import pytest

from ovd_bench.benchmarks.data.shapes import WORLDS, World, category_table
from ovd_bench.tests.benchmarks.data.shapes.worlds import SMALL

EVERY_WORLD = [*WORLDS.values(), SMALL]
by_name = pytest.mark.parametrize("world", EVERY_WORLD, ids=lambda world: world.name)


@by_name
def test_frequency_letters_follow_the_images_of_the_training_split(world: World) -> None:
    images = Counter(index for classes in world.deck("train") for index in set(classes))
    letters = {
        category.id: "r" if images[category.id - 1] <= 10 else "c" if images[category.id - 1] <= 100 else "f"
        for category in world.categories
    }
    assert {category.id: category.frequency for category in world.categories} == letters
    assert Counter(letters.values()) == {"f": world.frequent, "c": world.common, "r": world.rare}
    assert [c.image_count for c in world.categories] == [images[i] for i in range(len(world.categories))]
    assert sum(c.image_count == 0 for c in world.categories) == world.unseen


def test_default_world_is_as_documented() -> None:
    world = WORLDS["shapes"]
    assert Counter(c.frequency for c in world.categories) == {"f": 50, "c": 40, "r": 30}
    assert sum(c.image_count == 0 for c in world.categories) == 28
    assert world.image_size == 192
    assert world.splits == {"train": 4000, "minival": 300, "test": 800}


def test_lvis_sized_world_has_the_counts_of_lvis() -> None:
    assert Counter(c.frequency for c in WORLDS["shapes-lvis"].categories) == {"f": 405, "c": 461, "r": 337}


@by_name
def test_every_word_is_in_two_frequent_classes(world: World) -> None:
    frequent = [c for c in world.categories if c.frequency == "f"]
    uses = Counter(word for c in frequent for word in (c.pattern, c.colour, c.shape))
    words = [a.word for a in (*world.patterns, *world.colours, *world.shapes)]
    assert min(uses[word] for word in words) >= 2


@by_name
def test_names_and_synonyms_are_unambiguous(world: World) -> None:
    assert [c.id for c in world.categories] == list(range(1, len(world.categories) + 1))
    names = [c.name for c in world.categories]
    assert names == sorted(set(names))
    words = Counter(synonym for c in world.categories for synonym in c.synonyms)
    assert set(words.values()) == {1}
    assert all(c.synonyms[0] == c.name and len(c.synonyms) == 7 for c in world.categories)


@by_name
def test_images_show_distinct_classes(world: World) -> None:
    for split, images in world.splits.items():
        deck = world.deck(split)
        assert len(deck) == images
        assert all(1 <= len(classes) <= 7 and len(set(classes)) == len(classes) for classes in deck)


def test_every_class_of_the_default_test_split_is_in_enough_images() -> None:
    world = WORLDS["shapes"]
    images = Counter(index for classes in world.deck("test") for index in classes)
    assert min(images[i] for i in range(len(world.categories))) >= 8


def test_siblings_share_two_words() -> None:
    for i, a in enumerate(SMALL.categories):
        for j, b in enumerate(SMALL.categories):
            shared = (a.pattern == b.pattern) + (a.colour == b.colour) + (a.shape == b.shape)
            assert SMALL.siblings[i, j] == (shared == 2)


def test_category_table_has_the_fields_of_lvis() -> None:
    rows = category_table(SMALL)
    assert all(
        set(row) == {"id", "name", "synset", "synonyms", "def", "frequency", "image_count", "instance_count"}
        for row in rows
    )
    assert all(row["instance_count"] >= row["image_count"] for row in rows)


def test_unknown_split_is_an_error() -> None:
    with pytest.raises(KeyError):
        SMALL.deck("val")
