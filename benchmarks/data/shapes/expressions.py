"""Texts about an image that mean exactly one object, and texts that mean none because one word is wrong.

Kinds of expressions:

* ``attributes``: "the striped red star", "the dotted figure";
* ``relation``: "the red heart left of the blue square": there are other red hearts, none of them is left of it;
* ``ordinal``: "the leftmost of the three stripy hearts";
* ``negation``: "the red figure that is not a star": the other red figures are stars;
* ``absent-attributes``, ``absent-relation``, ``absent-negation``: the same with one word changed, so that nothing fits.

Grey figures of the background have shapes too, so every description names a colour or a pattern other than solid.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from ovd_bench.benchmarks.data.shapes.captions import ANY_SHAPE, CLUTTER_PATTERN, MARGIN, NUMBERS, members, relations
from ovd_bench.benchmarks.data.shapes.layout import ScenePlan
from ovd_bench.benchmarks.data.shapes.world import World

Words = tuple[str, str, str]  # pattern, colour, shape
Form = tuple[int, int, int]  # which of them are named

_FORMS: tuple[Form, ...] = ((0, 1, 0), (0, 1, 1), (1, 0, 1), (1, 1, 0), (1, 0, 0), (1, 1, 1))
_RELATIONS = ("left of", "right of", "above", "below")
_OPPOSITE = {"left of": "right of", "right of": "left of", "above": "below", "below": "above"}
#: Word, axis of the centre, and whether the smallest is meant.
_ENDS = (("leftmost", 0, True), ("rightmost", 0, False), ("highest", 1, True), ("lowest", 1, False))


@dataclass(frozen=True)
class Expression:
    """One text about one image.

    Attributes:
        kind: see the module's docstring.
        text: the expression.
        target: position of the object in the plan; None = there is none.
    """

    kind: str
    text: str
    target: int | None


@dataclass(frozen=True)
class _Scene:
    """Objects of an image: words (n), centres (n, 2) with y down, and a random stream."""

    world: World
    words: list[Words]
    centres: npt.NDArray[np.float64]
    rng: np.random.Generator

    def shuffled(self, count: int) -> list[int]:
        return list(self.rng.permutation(count).tolist())

    def fitting(self, words: Words, form: Form) -> frozenset[int]:
        """Objects that a description fits."""
        return members(self.words, words, form)

    def described(self, words: Words, form: Form) -> str:
        adjectives = [word for word, used in zip(words[:2], form[:2], strict=True) if used]
        return " ".join([*adjectives, words[2] if form[2] else ANY_SHAPE[0]])

    def plural(self, words: Words, form: Form) -> str:
        plurals = {shape.word: shape.plural for shape in self.world.shapes}
        singular = self.described(words, form)
        return singular.removesuffix(words[2]) + plurals[words[2]] if form[2] else f"{singular}s"


def expressions(world: World, split: str, index: int, plan: ScenePlan) -> list[Expression]:
    """At most one expression of each kind, in the order of the module's docstring.

    An expression of several words about several objects belongs to the training data or to the others by its words
    alone, so that no such composition is in both; descriptions of single objects are made of the words of the classes
    and are in both.
    """
    shown = [world.categories[placed.index] for placed in plan.objects]
    scene = _Scene(
        world,
        [(one.pattern, one.colour, one.shape) for one in shown],
        plan.boxes_xywh[:, :2] + plan.boxes_xywh[:, 2:] / 2,
        world.rng("expressions", split, index),
    )
    training = split == "train"
    found = []
    for make in (_attributes, _relation, _ordinal, _negation, _absent_attributes, _absent_relation, _absent_negation):
        for expression in make(scene):
            single = expression.kind.endswith("attributes")
            if single or _belongs_to_training(expression.text) == training:
                found.append(expression)
                break
    return found


def _belongs_to_training(text: str) -> bool:
    return zlib.crc32(text.encode()) % 2 == 1


def _forms(scene: _Scene, words: Words) -> Iterator[Form]:
    """Forms of a description that no figure of the background fits, in random order."""
    for place in scene.shuffled(len(_FORMS)):
        form = _FORMS[place]
        if form[1] or words[0] != CLUTTER_PATTERN:
            yield form


def _unique(scene: _Scene, objects: Sequence[int]) -> Iterator[tuple[int, str, Form]]:
    """Objects with descriptions that fit nothing else."""
    for one in objects:
        for form in _forms(scene, scene.words[one]):
            if scene.fitting(scene.words[one], form) == {one}:
                yield one, scene.described(scene.words[one], form), form


def _several(scene: _Scene) -> Iterator[tuple[Words, Form, frozenset[int]]]:
    """Descriptions that fit at least two objects."""
    for one in scene.shuffled(len(scene.words)):
        for form in _forms(scene, scene.words[one]):
            fitting = scene.fitting(scene.words[one], form)
            if len(fitting) > 1:
                yield scene.words[one], form, fitting


def _attributes(scene: _Scene) -> Iterator[Expression]:
    for one, text, _ in _unique(scene, scene.shuffled(len(scene.words))):
        yield Expression("attributes", f"the {text}", one)


def _relation(scene: _Scene) -> Iterator[Expression]:
    for words, form, fitting in _several(scene):
        others = [one for one in scene.shuffled(len(scene.words)) if one not in fitting]
        for anchor, text, _ in _unique(scene, others):
            for word in (_RELATIONS[place] for place in scene.shuffled(len(_RELATIONS))):
                holds = [one for one in fitting if word in relations(scene.centres, [one], [anchor])]
                clear = [one for one in fitting if _OPPOSITE[word] in relations(scene.centres, [one], [anchor])]
                if len(holds) == 1 and len(clear) == len(fitting) - 1:
                    yield Expression("relation", f"the {scene.described(words, form)} {word} the {text}", holds[0])


def _ordinal(scene: _Scene) -> Iterator[Expression]:
    for words, form, fitting in _several(scene):
        for word, axis, smallest in (_ENDS[place] for place in scene.shuffled(len(_ENDS))):
            ordered = sorted(fitting, key=lambda one: scene.centres[one, axis])
            first, second = (ordered[0], ordered[1]) if smallest else (ordered[-1], ordered[-2])
            if abs(scene.centres[first, axis] - scene.centres[second, axis]) >= MARGIN:
                count = NUMBERS[len(fitting)]
                yield Expression("ordinal", f"the {word} of the {count} {scene.plural(words, form)}", first)


def _negation(scene: _Scene) -> Iterator[Expression]:
    for words, form, fitting in _several(scene):
        for place in scene.shuffled(3):
            if form[place]:
                continue
            values = [scene.words[one][place] for one in fitting]
            for value in dict.fromkeys(values):
                if values.count(value) == len(fitting) - 1:
                    target = next(one for one in fitting if scene.words[one][place] != value)
                    yield Expression("negation", _without(scene, words, form, place, value), target)


def _absent_attributes(scene: _Scene) -> Iterator[Expression]:
    for one, _, form in _unique(scene, scene.shuffled(len(scene.words))):
        for place in scene.shuffled(3):
            if not form[place]:
                continue
            choices = (scene.world.patterns, scene.world.colours, scene.world.shapes)[place]
            for number in scene.shuffled(len(choices)):
                words = list(scene.words[one])
                words[place] = choices[number].word
                changed = (words[0], words[1], words[2])
                hidden = not form[1] and changed[0] == CLUTTER_PATTERN
                if not hidden and not scene.fitting(changed, form):
                    yield Expression("absent-attributes", f"the {scene.described(changed, form)}", None)


def _absent_relation(scene: _Scene) -> Iterator[Expression]:
    for one, text, _ in _unique(scene, scene.shuffled(len(scene.words))):
        others = [other for other in scene.shuffled(len(scene.words)) if other != one]
        for anchor, beside, _ in _unique(scene, others):
            for word in relations(scene.centres, [one], [anchor]):
                yield Expression("absent-relation", f"the {text} {_OPPOSITE[word]} the {beside}", None)


def _absent_negation(scene: _Scene) -> Iterator[Expression]:
    for one in scene.shuffled(len(scene.words)):
        words = scene.words[one]
        for form in _forms(scene, words):
            fitting = scene.fitting(words, form)
            for place in scene.shuffled(3):
                if not form[place] and {scene.words[other][place] for other in fitting} == {words[place]}:
                    yield Expression("absent-negation", _without(scene, words, form, place, words[place]), None)


def _without(scene: _Scene, words: Words, form: Form, place: int, value: str) -> str:
    article = ("an " if value[0] in "aeiou" else "a ") if place == 2 else ""
    return f"the {scene.described(words, form)} that is not {article}{value}"
