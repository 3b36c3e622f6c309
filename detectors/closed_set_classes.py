"""Classes of a closed-set detector for the names of a vocabulary.

A category gets the class of its name or, without one, the class of its first synonym that has one. A word has a class
if the class has this name up to case and underscores, if it has another name of ``detectors.closed_set_synonyms``, or
if the word is one of several between slashes, as in "Monitor/TV". Qualifiers are kept: without "(animal_rodent)" LVIS's
mouse would be COCO's computer mouse.

Several categories may have the same class; each gets all boxes of the class with the same scores. A category has at
most one class, and one without a class gets no box.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from ovd_bench.detectors.closed_set_synonyms import SYNONYMS
from ovd_bench.detectors.types import Vocabulary

#: Name of unused numbers in class lists with the ids of COCO's paper: the ten never annotated classes, and number 0.
_HOLE = "n/a"


@dataclass(frozen=True)
class ClassMap:
    """The class of each category (K categories).

    Attributes:
        columns: of K categories, the position of the class in the detector's list; None = it has none.
        notes: one line each on categories without a class, by a synonym, with a shared class, and on unused classes.
    """

    columns: tuple[int | None, ...]
    notes: tuple[str, ...]


def map_classes(vocabulary: Vocabulary, classes: Sequence[str]) -> ClassMap:
    """Find a class for each category.

    Args:
        vocabulary: K categories, possibly with synonyms.
        classes: names of the detector's classes by position; "N/A" is no class.
    """
    finder = _Finder(classes)
    synonyms = vocabulary.synonyms or ((),) * len(vocabulary)
    words = [(name, *listed) for name, listed in zip(vocabulary.names, synonyms, strict=True)]
    columns = tuple(next((c for word in own if (c := finder.find(word)) is not None), None) for own in words)
    return ClassMap(columns, tuple(_notes(vocabulary.names, classes, columns)))


class _Finder:
    """Classes by their words."""

    def __init__(self, classes: Sequence[str]) -> None:
        keys = [_key(name) for name in classes]
        self._whole = {key: column for column, key in reversed([*enumerate(keys)]) if key != _HOLE}
        self._parts = {part: column for key, column in self._whole.items() for part in _parts(key)}

    def find(self, word: str) -> int | None:
        """Column of the class of a word."""
        key = _key(word)
        for table in (self._whole, self._parts):
            for one in _alike(key):
                if one in table:
                    return table[one]
        return next((column for part in _parts(key) if (column := self.find(part)) is not None), None)


def _key(name: str) -> str:
    return " ".join(name.replace("_", " ").split()).casefold()


def _parts(key: str) -> list[str]:
    """The alternatives of a name with slashes; empty for other names."""
    return [part.strip() for part in key.split("/") if part.strip()] if "/" in key else []


def _alike(key: str) -> tuple[str, ...]:
    return next(((key, *group) for group in SYNONYMS if key in group), (key,))


def _notes(names: Sequence[str], classes: Sequence[str], columns: Sequence[int | None]) -> list[str]:
    known = [column for column in columns if column is not None]
    without = [name for name, column in zip(names, columns, strict=True) if column is None]
    others = [
        (name, classes[column])
        for name, column in zip(names, columns, strict=True)
        if column is not None and _key(name) != _key(classes[column])
    ]
    shared = [column for column in dict.fromkeys(known) if known.count(column) > 1]
    real = [column for column, name in enumerate(classes) if _key(name) != _HOLE]
    unused = [column for column in real if column not in known]
    notes = []
    if without:
        notes.append(f"categories without a class, which get no box: {len(without)} of {len(names)}, as '{without[0]}'")
    if others:
        notes.append(f"categories found by another name: {len(others)}, as '{others[0][0]}' by '{others[0][1]}'")
    if shared:
        notes.append(f"classes that serve several categories: {len(shared)}, as '{classes[shared[0]]}'")
    if unused:
        notes.append(f"classes that are not asked for: {len(unused)} of {len(real)}, as '{classes[unused[0]]}'")
    return notes
