"""Federated annotation as in LVIS: verified negatives and classes that are not exhaustively annotated."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from ovd_bench.benchmarks.data.shapes.layout import scene_classes
from ovd_bench.benchmarks.data.shapes.world import World

#: Probability that a class with two or more objects in the image is not annotated exhaustively, percent.
_NOT_EXHAUSTIVE = 20
#: Share of the verified negatives that are siblings of classes in the image, percent.
_HARD = 40


@dataclass(frozen=True)
class Federation:
    """The federated lists of one image.

    Attributes:
        negatives: category ids verified absent, increasing.
        not_exhaustive: ids of shown categories of which objects are left out, increasing.
        left_out: positions of the objects that have no annotation.
    """

    negatives: tuple[int, ...]
    not_exhaustive: tuple[int, ...]
    left_out: frozenset[int]


def federation(world: World, split: str, index: int) -> Federation:
    """Federated lists of image ``index`` of a split.

    Raises:
        KeyError: no such split.
        IndexError: no such image.
    """
    shown = np.array(scene_classes(world, split, index), np.int64)
    rng = world.rng("federation", split, index)
    not_exhaustive, left_out = [], set()
    for class_index in np.unique(shown).tolist():
        members = np.flatnonzero(shown == class_index)
        if len(members) > 1 and int(rng.integers(0, 100)) < _NOT_EXHAUSTIVE:
            not_exhaustive.append(class_index + 1)
            left_out.update(rng.permutation(members)[: int(rng.integers(1, len(members)))].tolist())
    absent = np.ones(len(world.categories), np.bool_)
    absent[shown] = False
    hard = np.flatnonzero(world.siblings[shown].any(axis=0) & absent)
    chosen = rng.permutation(hard)[: world.negatives * _HARD // 100]
    absent[chosen] = False
    others = rng.permutation(np.flatnonzero(absent))[: world.negatives - len(chosen)]
    negatives = np.sort(np.concatenate([chosen, others])) + 1
    return Federation(tuple(negatives.tolist()), tuple(not_exhaustive), frozenset(left_out))


@lru_cache(maxsize=4)
def instance_counts(world: World) -> tuple[int, ...]:
    """Annotated objects of the training split per class, in the order of ``world.categories``."""
    counts = np.zeros(len(world.categories), np.int64)
    for index in range(world.splits["train"]):
        left_out = federation(world, "train", index).left_out
        for number, class_index in enumerate(scene_classes(world, "train", index)):
            counts[class_index] += number not in left_out
    return tuple(counts.tolist())
