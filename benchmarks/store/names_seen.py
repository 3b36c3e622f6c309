"""Names of a benchmark that occur as labels in the training data of a detector.

A name counts if the label set of a training data set has a class for it, by the rule of closed-set detectors
(``detectors.closed_set_classes``): the name itself, ignoring case and underscores, another name that data sets use for
the same thing, one of several between slashes, or a synonym that the annotations list.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from ovd_bench.benchmarks.data.catalog.benchmark import Benchmark, vocabulary_of
from ovd_bench.benchmarks.data.catalog.label_sets import label_set
from ovd_bench.benchmarks.store.schema import Contamination, NamesSeen
from ovd_bench.detectors.card import DetectorCard, TrainingData
from ovd_bench.detectors.closed_set_classes import map_classes
from ovd_bench.metrics.types import Categories

Flags = npt.NDArray[np.bool_]


def names_seen(card: DetectorCard, benchmark: Benchmark, categories: Categories) -> list[Contamination]:
    """One entry per training data set whose label set is known, then one for all together and one for unknown ones.

    With unknown label sets the shares are lower bounds. An empty list means that the card names no training data at
    all, not that no name was seen.
    """
    if card.training_data is None:
        return [_entry("", None, "names of its training data are not known")]
    seen: dict[str, Flags] = {}
    unknown: list[str] = []
    for data in card.training_data:
        found = _seen(data, benchmark, categories)
        if found is None:
            unknown.append(data.dataset)
        else:
            seen[data.dataset] = seen.get(data.dataset, np.zeros_like(found)) | found
    entries = [_entry(dataset, _counts(found, categories)) for dataset, found in seen.items()]
    unknown = [name for name in dict.fromkeys(unknown) if name not in seen]
    if not unknown and len(seen) < 2:
        return entries
    together = _counts(np.any(list(seen.values()), axis=0), categories) if len(seen) > 1 else None
    return [*entries, _entry("", together, f"names not known: {', '.join(unknown)}" if unknown else "")]


def _seen(data: TrainingData, benchmark: Benchmark, categories: Categories) -> Flags | None:
    """Flags of the names that are in the label set; None = not known."""
    names = categories.names if _teaches(data, benchmark) else label_set(data.dataset)
    if names is None:
        return None
    columns = map_classes(vocabulary_of(categories), names).columns
    found = np.array([column is not None for column in columns])
    return found & ~_rare(categories) if data.rare_left_out else found


def _teaches(data: TrainingData, benchmark: Benchmark) -> bool:
    """Whether a data set has the benchmark's own names although its list of names is not known."""
    return label_set(data.dataset) is None and data.dataset in (benchmark.name, *benchmark.train_sources)


def _rare(categories: Categories) -> Flags:
    """Flags of rare names; all False if the annotations have no frequencies."""
    return np.array([letter == "r" for letter in categories.frequency])


def _counts(found: Flags, categories: Categories) -> NamesSeen:
    rare = _rare(categories)
    numbers = (int((found & rare).sum()), int(rare.sum())) if rare.any() else (None, None)
    return NamesSeen(seen=int(found.sum()), names=len(found), rare_seen=numbers[0], rare=numbers[1])


def _entry(dataset: str, counts: NamesSeen | None, remark: str = "") -> Contamination:
    words: Sequence[str] = ([] if counts is None else [_words(counts)]) + ([remark] if remark else [])
    return Contamination(dataset=dataset, level="names", note="; ".join(words), names=counts)


def _words(counts: NamesSeen) -> str:
    text = f"{counts.seen:,} of {counts.names:,} names ({_percent(counts.seen, counts.names)})"
    if counts.rare is not None and counts.rare_seen is not None:
        share = _percent(counts.rare_seen, counts.rare)
        text += f", {counts.rare_seen:,} of the {counts.rare:,} rare ones ({share})"
    return text


def _percent(part: int, whole: int) -> str:
    return f"{100 * part / whole:.1f} %"
