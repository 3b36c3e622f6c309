"""Captions are parsed by independent code and compared with the scene."""

from __future__ import annotations

import re
from collections import Counter

import numpy as np

from ovd_bench.benchmarks.data.shapes import WORLDS, World, render, scene_plan
from ovd_bench.benchmarks.data.shapes.captions import Caption, caption

NUMBERS = {"a": 1, "an": 1, "two": 2, "three": 3, "four": 4, "five": 5, "six": 6, "seven": 7, "eight": 8}
RELATIONS = {
    "left of": lambda a, b: a[:, 0].max() < b[:, 0].min(),
    "right of": lambda a, b: a[:, 0].min() > b[:, 0].max(),
    "above": lambda a, b: a[:, 1].max() < b[:, 1].min(),
    "below": lambda a, b: a[:, 1].min() > b[:, 1].max(),
}
WORLD = WORLDS["shapes"]
COUNT = 400


def _captions() -> list[tuple[int, Caption]]:
    return [(index, caption(WORLD, "train", index, scene_plan(WORLD, "train", index))) for index in range(COUNT)]


CAPTIONS = _captions()


def _denoted(world: World, names: list[str], phrase: str) -> set[int]:
    """Objects that a phrase means, from the words of the class names alone."""
    number, *words = phrase.split()
    shapes = {word: shape.word for shape in world.shapes for word in (shape.word, shape.plural)}
    assert (words[-1] in {shape.plural for shape in world.shapes} | {"figures"}) == (NUMBERS[number] > 1)
    wanted = set(words[:-1]) | ({shapes[words[-1]]} if words[-1] in shapes else set())
    members = {i for i, name in enumerate(names) if wanted <= set(name.split())}
    assert len(members) == NUMBERS[number]
    return members


def test_counts_relations_and_boxes_are_true() -> None:
    seen: Counter[str] = Counter()
    for index, described in CAPTIONS:
        scene = render(WORLD, "train", index) if index < 20 else None
        plan = scene_plan(WORLD, "train", index)
        names = [WORLD.categories[placed.index].name for placed in plan.objects]
        if scene is not None:
            assert names == [WORLD.categories[i - 1].name for i in scene.category_ids.tolist()]
        centres = plan.boxes_xywh[:, :2] + plan.boxes_xywh[:, 2:] / 2
        said: list[set[int]] = []
        for clause in described.text.split(", "):
            parts = re.split(r" (left of|right of|above|below) ", clause)
            members = [_denoted(WORLD, names, phrase) for phrase in parts[::2]]
            said += members
            if len(parts) == 3:
                first, second = (centres[sorted(group)] for group in members)
                assert RELATIONS[parts[1]](first, second), (index, clause)
                seen[parts[1]] += 1
        assert [set(phrase.objects) for phrase in described.phrases] == said
        assert sum(map(len, said)) == len(set().union(*said))  # no object twice
        seen["plural"] += any(len(group) > 1 for group in said)
    assert all(seen[kind] > 10 for kind in (*RELATIONS, "plural"))


def test_spans_are_the_phrases() -> None:
    for _, described in CAPTIONS:
        assert described.phrases
        for phrase in described.phrases:
            begin, end = phrase.span
            assert described.text[begin:end] == phrase.text
            assert not described.text[max(begin - 1, 0) : begin].strip(" ")
            assert described.text[end : end + 1] in {"", " ", ","}


def test_relations_keep_a_margin() -> None:
    for index, described in CAPTIONS:
        plan = scene_plan(WORLD, "train", index)
        centres = plan.boxes_xywh[:, :2] + plan.boxes_xywh[:, 2:] / 2
        for clause in described.text.split(", "):
            parts = re.split(r" (left of|right of|above|below) ", clause)
            if len(parts) == 3:
                groups = [next(p.objects for p in described.phrases if p.text == text) for text in parts[::2]]
                a, b = (centres[list(group)] for group in groups)
                axis = 0 if parts[1] in {"left of", "right of"} else 1
                gap = max(np.min(b[:, axis]) - np.max(a[:, axis]), np.min(a[:, axis]) - np.max(b[:, axis]))
                assert gap >= 16


def test_phrases_that_could_mean_the_grey_clutter_name_a_colour() -> None:
    colours = {colour.word for colour in WORLD.colours}
    patterns = {pattern.word for pattern in WORLD.patterns} - {"solid"}
    for _, described in CAPTIONS:
        for phrase in described.phrases:
            assert set(phrase.text.split()) & (colours | patterns)
