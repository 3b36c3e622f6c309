"""Expressions mean what they say: read again from their words, on scenes given as words and centres."""

from __future__ import annotations

import json
import re
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from ovd_bench.benchmarks.data.catalog.cards import CARDS
from ovd_bench.benchmarks.data.files.queries import read_queries
from ovd_bench.benchmarks.data.shapes import WORLDS, scene_plan
from ovd_bench.benchmarks.data.shapes.expressions import Expression, expressions
from ovd_bench.benchmarks.data.shapes.layout import ScenePlan
from ovd_bench.benchmarks.data.shapes.phrases import IMAGES, write_phrases

WORLD = WORLDS["shapes"]
PATTERNS, COLOURS, SHAPES = (
    {attribute.word for attribute in attributes} for attributes in (WORLD.patterns, WORLD.colours, WORLD.shapes)
)
SINGULAR = {shape.plural: shape.word for shape in WORLD.shapes} | {"figures": "figure"}
NUMBERS = ["zero", "one", "two", "three", "four", "five", "six", "seven", "eight"]
ENDS = {"leftmost": (0, min), "rightmost": (0, max), "highest": (1, min), "lowest": (1, max)}


def fitting(plan: ScenePlan, text: str) -> set[int]:
    """Objects that have every word of a description such as "striped red star"."""
    words = [SINGULAR.get(word, word) for word in text.split()]
    found = set()
    for number, placed in enumerate(plan.objects):
        category = WORLD.categories[placed.index]
        own = {category.pattern, category.colour, category.shape, "figure"}
        if own.issuperset(words):
            found.add(number)
    return found


def meant(plan: ScenePlan, text: str) -> set[int]:
    """Objects that an expression means, by another way than it was made."""
    centres = plan.boxes_xywh[:, :2] + plan.boxes_xywh[:, 2:] / 2
    if match := re.fullmatch(r"the (\w+) of the (\w+) (.*)", text):
        end, count, description = match.groups()
        those = fitting(plan, description)
        assert len(those) == NUMBERS.index(count), text
        axis, best = ENDS[end]
        return {best(those, key=lambda one: centres[one, axis])}
    if match := re.fullmatch(r"the (.*) that is not (?:an? )?(\w+)", text):
        description, word = match.groups()
        return fitting(plan, description) - fitting(plan, word)
    if match := re.fullmatch(r"the (.*) (left of|right of|above|below) the (.*)", text):
        description, relation, beside = match.groups()
        (anchor,) = fitting(plan, beside)
        axis, sign = {"left of": (0, -1), "right of": (0, 1), "above": (1, -1), "below": (1, 1)}[relation]
        apart = sign * (centres[:, axis] - centres[anchor, axis])
        return {one for one in fitting(plan, description) if apart[one] > 0}
    return fitting(plan, text.removeprefix("the "))


@pytest.fixture(scope="module")
def made() -> list[tuple[str, int, ScenePlan, Expression]]:
    found = []
    for split, count in (("test", 60), ("train", 60)):
        for index in range(count):
            plan = scene_plan(WORLD, split, index)
            found += [(split, index, plan, one) for one in expressions(WORLD, split, index, plan)]
    return found


def test_an_expression_means_its_target_and_nothing_else(
    made: list[tuple[str, int, ScenePlan, Expression]],
) -> None:
    for _, _, plan, expression in made:
        expected = set() if expression.target is None else {expression.target}
        assert meant(plan, expression.text) == expected, expression


def test_every_kind_is_there_and_absent_ones_are_one_word_away(
    made: list[tuple[str, int, ScenePlan, Expression]],
) -> None:
    kinds = Counter(expression.kind for _, _, _, expression in made)
    assert set(kinds) == {
        "attributes", "relation", "ordinal", "negation", "absent-attributes", "absent-relation", "absent-negation"
    }  # fmt: skip
    assert min(kinds.values()) > 50
    opposite = {"left": "right", "right": "left", "above": "below", "below": "above"}
    for _, _, plan, expression in made:
        words = expression.text.split()
        if expression.kind == "absent-relation":
            turned = " ".join(opposite.get(word, word) for word in words)
            assert len(meant(plan, turned)) == 1
        if expression.kind == "absent-attributes":
            choices = [PATTERNS, COLOURS, SHAPES]
            changed = [
                " ".join([*words[:place], other, *words[place + 1 :]])
                for place, word in enumerate(words)
                for group in choices
                if word in group
                for other in group
            ]
            assert any(len(meant(plan, text)) == 1 for text in changed)


def test_no_figure_of_the_background_fits(made: list[tuple[str, int, ScenePlan, Expression]]) -> None:
    """These are grey, plain, and have shapes: a colour or another pattern tells them from all objects."""
    for _, _, _, expression in made:
        for description in re.split(r" (?:left of|right of|above|below|that is not) ", expression.text):
            words = set(description.split())
            if description is not expression.text and len(words) <= 2 and not words & {"the"}:
                continue  # what is negated
            assert words & (COLOURS | (PATTERNS - {"solid"})), expression


def test_compositions_of_training_are_not_asked_in_the_test(
    made: list[tuple[str, int, ScenePlan, Expression]],
) -> None:
    composed = {
        split: {one.text for name, _, _, one in made if name == split and not one.kind.endswith("attributes")}
        for split in ("test", "train")
    }
    assert composed["test"]
    assert not composed["test"] & composed["train"]


def test_the_file_is_the_same_however_it_is_made(tmp_path: Path) -> None:
    files = []
    for workers in (1, 2):
        folder = tmp_path / str(workers)
        folder.mkdir()
        files.append(write_phrases(WORLD, "minival", folder, workers=workers))
    assert files[0].read_bytes() == files[1].read_bytes()
    before = files[0].stat().st_mtime_ns
    assert write_phrases(WORLD, "minival", files[0].parent, workers=1).stat().st_mtime_ns == before
    files[0].write_text("damaged")
    write_phrases(WORLD, "minival", files[0].parent, workers=1)
    assert files[0].read_bytes() == files[1].read_bytes()


def test_the_benchmark_is_asked_about_the_images_of_shapes(tmp_path: Path) -> None:
    written = write_phrases(WORLD, "minival", tmp_path, workers=1)
    read = read_queries(written)
    queries = read.queries
    assert queries.truth.num_images <= IMAGES
    assert CARDS["shapes-phrases-minival"].task == "queries"
    kinds = set(queries.kind_names)
    assert {"expression", "absent", "phrase"} < kinds
    member = np.isin(queries.kinds.values, [queries.kind_names.index("absent")])
    assert queries.absent[queries.kinds.row_index()[member]].all()
    assert queries.absent.sum() == member.sum()
    for line in written.read_text().splitlines()[:200]:
        record = json.loads(line)
        if record["kinds"] == ["phrase"]:
            ((begin, end),) = record["spans"]
            assert record["text"][begin:end].strip() == record["text"][begin:end]
