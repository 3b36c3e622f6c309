"""Nested partitions of a vocabulary: the rungs of the granularity ladder (suite definition in ``metrics.ladder``).

A rung groups the classes of a vocabulary into clusters that count as the same at that granularity. A rung for which
the annotations and the user's tables hold no information is ``None``, never a copy of the finer one.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from ovd_bench.metrics.errors import DataError
from ovd_bench.metrics.types import Categories


@dataclass(frozen=True)
class Partition:
    """Clusters of classes (K classes, C clusters).

    Attributes:
        cluster: int32 (K,), cluster of every class, 0 … C-1, no cluster empty.
        names: C cluster names.
    """

    cluster: npt.NDArray[np.int32]
    names: tuple[str, ...]

    def __post_init__(self) -> None:
        present = np.unique(self.cluster)
        if self.cluster.ndim != 1 or not np.array_equal(present, np.arange(len(self.names))):
            raise DataError(f"Partition: cluster must use every number 0 … {len(self.names) - 1} and no other")

    def __len__(self) -> int:
        return len(self.names)

    @staticmethod
    def from_labels(labels: Sequence[str]) -> Partition:
        """Classes with equal labels form a cluster of that name; clusters are numbered by first appearance."""
        number = {label: i for i, label in enumerate(dict.fromkeys(labels))}
        return Partition(np.array([number[label] for label in labels], np.int32), tuple(number))

    @staticmethod
    def identity(categories: Categories) -> Partition:
        """Every class on its own."""
        return Partition(np.arange(len(categories), dtype=np.int32), categories.names)

    @staticmethod
    def single(categories: Categories) -> Partition:
        """All classes together."""
        return Partition(np.zeros(len(categories), np.int32), ("object",))


@dataclass(frozen=True)
class Hierarchy:
    """The rungs between exact labels and no labels, from fine to coarse.

    Attributes:
        syn: same synset or listed synonym.
        basic: cut of a hypernym tree fixed in a published table.
        super: supercategory.

    Raises:
        DataError: the rungs are not nested (some cluster of a finer rung lies in two clusters of a coarser one), or are
            not of one vocabulary.
    """

    syn: Partition | None
    basic: Partition | None
    super: Partition | None

    def __post_init__(self) -> None:
        rungs = [(name, rung) for name in ("syn", "basic", "super") if (rung := getattr(self, name)) is not None]
        for (fine_name, fine), (coarse_name, coarse) in pairwise(rungs):
            if len(fine.cluster) != len(coarse.cluster):
                raise DataError(
                    f"Hierarchy: {fine_name} covers {len(fine.cluster)} classes, {coarse_name} {len(coarse.cluster)}"
                )
            parent = np.empty(len(fine), np.int32)
            parent[fine.cluster] = coarse.cluster
            torn = parent[fine.cluster] != coarse.cluster
            if torn.any():
                row = int(np.argmax(torn))
                cluster, above = int(fine.cluster[row]), int(coarse.cluster[row])
                raise DataError(
                    f"Hierarchy: {fine_name} cluster '{fine.names[cluster]}' lies in {coarse_name} clusters "
                    f"'{coarse.names[above]}' and '{coarse.names[parent[cluster]]}': merge these or split that"
                )

    @staticmethod
    def build(
        categories: Categories,
        *,
        synset: Mapping[str, str] | None = None,
        basic: Mapping[str, str] | None = None,
        supercategory: Mapping[str, str] | None = None,
    ) -> Hierarchy:
        """Rungs from the annotation file; the user's tables take precedence.

        Args:
            categories: the vocabulary.
            synset: class name -> synset; default the file's ``synset`` field (see ``synonym_rung``). For COCO see
                ``coco_synsets``.
            basic: class name -> basic-level name, covering the whole vocabulary; there is no default. A table may come
                from ``hypernym_cut``.
            supercategory: class name -> supercategory; default the file's field, if every class has one and not all
                have the same.

        Raises:
            DataError: a table misses a class, or the rungs are not nested.
        """
        synsets = categories.synset if synset is None else _column(categories, synset, "synset")
        if supercategory is not None:
            super_rung = Partition.from_labels(_column(categories, supercategory, "supercategory"))
        elif all(categories.supercategory) and len(set(categories.supercategory)) > 1:
            super_rung = Partition.from_labels(categories.supercategory)
        else:
            super_rung = None
        return Hierarchy(
            syn=synonym_rung(categories, synsets),
            basic=None if basic is None else Partition.from_labels(_column(categories, basic, "basic")),
            super=super_rung,
        )


def synonym_rung(categories: Categories, synsets: Sequence[str]) -> Partition | None:
    """Classes with one meaning: equal synset, or the name of one listed among the synonyms of the other.

    Equal synsets always merge: equality is transitive. Synonyms are words, not meanings. If all classes with a shared
    word merged, bow (weapon) would merge with bow (ribbon) and with every class that shares a word with either. So
    words merge only under three conditions:

    * the word is the *name* of one of the two classes (two classes that both list a third word share an ambiguity);
    * the two do not carry two different synsets: then the annotators themselves declared two senses;
    * the group is complete: every pair in it is linked. A chain a-b-c without the link a-c stays three classes.

    Words are compared without regard to case and with underscores as spaces; a sense tag such as ``bow_(weapon)`` is
    part of the word. LVIS gives every class its own synset, so there this rung has as many clusters as there are
    classes. This is information (no two names mean the same), not missing information.

    Args:
        categories: the vocabulary (K classes), of which names and synonyms are read.
        synsets: K synset names, empty where unknown.

    Returns:
        The partition; None if no class has a synset or a synonym beside its name.
    """
    words = [
        {_word(word) for word in (name, *synonyms)}
        for name, synonyms in zip(categories.names, categories.synonyms, strict=True)
    ]
    if not any(synsets) and all(len(row) == 1 for row in words):
        return None
    # Units are the classes of one synset, or a single class without synset.
    unit = Partition.from_labels([f"synset {s}" if s else f"class {k}" for k, s in enumerate(synsets)]).cluster
    classes_named: dict[str, list[int]] = {}
    for k, name in enumerate(categories.names):
        classes_named.setdefault(_word(name), []).append(k)
    links = {
        (int(unit[a]), int(unit[b]))
        for a, row in enumerate(words)
        for word in row
        for b in classes_named.get(word, [])
        if not (synsets[a] and synsets[b]) and unit[a] != unit[b]
    }
    links |= {(b, a) for a, b in links}
    group = _complete_groups(int(unit.max()) + 1, links)[unit]
    _, first_class, cluster = np.unique(group, return_index=True, return_inverse=True)
    return Partition(cluster.astype(np.int32), tuple(categories.names[k] for k in first_class))


def coco_synsets(categories: Categories, table: Mapping[str, Mapping[str, Any]]) -> dict[str, str]:
    """Class name -> synset from a table in the format of lvis-api's ``data/coco_to_synset.json``.

    Args:
        categories: a COCO vocabulary.
        table: class name -> ``{"coco_cat_id": int, "synset": str}``; further keys are ignored.

    Raises:
        DataError: a class is missing, has no synset, or has another id.
    """
    synsets = {}
    for class_id, name in zip(categories.ids, categories.names, strict=True):
        row = table.get(name)
        if row is None or not row.get("synset"):
            raise DataError(f"synset table: no synset for class '{name}' (id {class_id})")
        if row.get("coco_cat_id") != class_id:
            raise DataError(
                f"synset table: '{name}' has coco_cat_id {row.get('coco_cat_id')}, annotations say {class_id}"
            )
        synsets[name] = row["synset"]
    return synsets


def hypernym_cut(paths: Mapping[str, Sequence[str]], cut: Iterable[str]) -> dict[str, str]:
    """Class name -> basic-level name, by cutting a hypernym tree at fixed nodes.

    Args:
        paths: class name -> synset names from the root down to the class's own synset, for example
            ``{"dog": ["entity.n.01", "animal.n.01", "dog.n.01"]}``. One path per class: where a synset has several
            hypernyms, the table decides.
        cut: synset names at which branches end. Of several on one path the deepest counts.

    Returns:
        Table for ``Hierarchy.build(basic=...)``: the cut node above each class, or the class's own synset where no cut
        node lies above it, so that it stays on its own.

    Raises:
        DataError: a path is empty.
    """
    nodes = set(cut)
    table = {}
    for name, path in paths.items():
        if not path:
            raise DataError(f"hypernym paths: the path of class '{name}' is empty")
        table[name] = next((node for node in reversed(path) if node in nodes), path[-1])
    return table


def _column(categories: Categories, table: Mapping[str, str], what: str) -> tuple[str, ...]:
    missing = [name for name in categories.names if not table.get(name)]
    if missing:
        raise DataError(f"{what} table: {len(missing)} classes have no entry, the first is '{missing[0]}'")
    return tuple(table[name] for name in categories.names)


def _word(text: str) -> str:
    return text.replace("_", " ").strip().casefold()


def _complete_groups(n: int, links: set[tuple[int, int]]) -> npt.NDArray[np.int64]:
    """Group of each of n units: its connected component if every pair in it is linked, else itself; int64 (n,)."""
    rows = np.array(sorted(links), np.int64).reshape(-1, 2)
    graph = coo_array((np.ones(len(rows)), (rows[:, 0], rows[:, 1])), shape=(n, n))
    _, component = connected_components(graph, directed=False)
    degree = np.bincount(rows[:, 0], minlength=n)
    size = np.bincount(component)
    incomplete = np.zeros(len(size), np.bool_)
    incomplete[component[degree + 1 != size[component]]] = True
    return np.where(incomplete[component], len(size) + np.arange(n), component)
