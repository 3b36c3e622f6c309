"""True captions of an image, with the boxes and the character span of every phrase."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from ovd_bench.benchmarks.data.shapes.layout import ScenePlan
from ovd_bench.benchmarks.data.shapes.world import World

#: Minimum distance of centres in pixels along the axis of a relation.
MARGIN = 16
NUMBERS = ("no", "one", "two", "three", "four", "five", "six", "seven", "eight")
_MAX_CLAUSES = 3
_FULL = (1, 1, 1)
#: Words in a phrase (pattern, colour, shape); repeated entries are more likely.
_FORMS = (_FULL, _FULL, _FULL, (0, 1, 1), (0, 1, 1), (1, 0, 1), (1, 0, 1), (1, 1, 0), (0, 1, 0))
CLUTTER_PATTERN = "solid"  # grey figures of the background may have it, so a phrase with it needs the colour too
ANY_SHAPE = ("figure", "figures")


@dataclass(frozen=True)
class Phrase:
    """A noun phrase of a caption.

    Attributes:
        text: as it is in the caption, with its article or number word.
        span: begin and end in the caption.
        objects: positions in the plan of all objects that the phrase refers to.
    """

    text: str
    span: tuple[int, int]
    objects: tuple[int, ...]


@dataclass(frozen=True)
class Caption:
    """A caption and its phrases in the order of their spans."""

    text: str
    phrases: tuple[Phrase, ...]


@dataclass(frozen=True)
class _Group:
    """All objects of an image that share the words of a phrase."""

    text: str
    objects: frozenset[int]


def caption(world: World, split: str, index: int, plan: ScenePlan) -> Caption:
    """A caption with counts, partial descriptions and, where the image has any, spatial relations."""
    rng = world.rng("caption", split, index)
    categories = [world.categories[placed.index] for placed in plan.objects]
    shown = [(category.pattern, category.colour, category.shape) for category in categories]
    plurals = {shape.word: shape.plural for shape in world.shapes}
    groups = _groups(shown, plurals, rng)
    centres = plan.boxes_xywh[:, :2] + plan.boxes_xywh[:, 2:] / 2
    pieces: list[str | _Group] = []
    rest = groups
    for clause in range(_MAX_CLAUSES):
        if not rest:
            break
        first = rest[0]
        related = [(second, word) for second in rest[1:] for word in relations(centres, first.objects, second.objects)]
        pieces += [", "] if clause else []
        pieces.append(first)
        if related:
            second, word = related[int(rng.integers(0, len(related)))]
            pieces += [f" {word} ", second]
            rest = [group for group in rest if group not in (first, second)]
        else:
            rest = rest[1:]
    return _assembled(pieces)


def relations(
    centres: npt.NDArray[np.float64], first: Sequence[int] | frozenset[int], second: Sequence[int] | frozenset[int]
) -> list[str]:
    """Relation of all objects of the first group to all of the second; ``centres`` is float64 (n, 2), y down."""
    a, b = centres[sorted(first)], centres[sorted(second)]
    checks = (
        ("left of", a[:, 0].max() + MARGIN <= b[:, 0].min()),
        ("right of", b[:, 0].max() + MARGIN <= a[:, 0].min()),
        ("above", a[:, 1].max() + MARGIN <= b[:, 1].min()),
        ("below", b[:, 1].max() + MARGIN <= a[:, 1].min()),
    )
    return [word for word, holds in checks if holds]


def _groups(shown: Sequence[tuple[str, str, str]], plurals: dict[str, str], rng: np.random.Generator) -> list[_Group]:
    """Disjoint groups in random order, one for each object that is not in an earlier group."""
    groups: list[_Group] = []
    taken: set[int] = set()
    for seed in rng.permutation(len(shown)).tolist():
        if seed in taken:
            continue
        words = shown[seed]
        form = _FORMS[int(rng.integers(0, len(_FORMS)))]
        if words[0] == CLUTTER_PATTERN and not form[1]:
            form = _FULL
        group = members(shown, words, form)
        if group & taken:  # a wider phrase would include objects of another group
            form = _FULL
            group = members(shown, words, form)
            if group & taken:
                continue
        taken |= group
        groups.append(_Group(_noun_phrase(words, form, len(group), plurals), group))
    return groups


def members(
    shown: Sequence[tuple[str, str, str]], words: tuple[str, str, str], form: tuple[int, int, int]
) -> frozenset[int]:
    """Positions of the objects, given by their words, that have those words which the form names."""
    return frozenset(
        number
        for number, own in enumerate(shown)
        if all(not used or word == mine for used, word, mine in zip(form, words, own, strict=True))
    )


def _noun_phrase(words: tuple[str, str, str], form: tuple[int, int, int], count: int, plurals: dict[str, str]) -> str:
    pattern, colour, shape = words
    singular, plural = (shape, plurals[shape]) if form[2] else ANY_SHAPE
    text = [word for word, used in zip((pattern, colour), form[:2], strict=True) if used]
    text.append(singular if count == 1 else plural)
    if count > 1:
        return " ".join([NUMBERS[count], *text])
    return " ".join(["an" if text[0][0] in "aeiou" else "a", *text])


def _assembled(pieces: Sequence[str | _Group]) -> Caption:
    text = ""
    phrases = []
    for piece in pieces:
        if isinstance(piece, str):
            text += piece
            continue
        phrases.append(Phrase(piece.text, (len(text), len(text) + len(piece.text)), tuple(sorted(piece.objects))))
        text += piece.text
    return Caption(text, tuple(phrases))
