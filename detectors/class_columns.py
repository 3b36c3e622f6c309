"""Columns of the scores of a detector with fixed classes that belong to the categories of a vocabulary."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from ovd_bench.detectors.closed_set_classes import map_classes
from ovd_bench.detectors.prompts import PromptPlan
from ovd_bench.detectors.types import DetectorError, Vocabulary


@dataclass(frozen=True)
class ClassColumns:
    """The categories that have a class, in the order of the plan (K of them).

    Attributes:
        category_ids: of the categories.
        columns: the class of each, as its position in the detector's list.
        chunks: the plan's chunks, as ranges of these categories.
        notes: one line each on categories without a class and on shared classes; see ``ClassMap``.
    """

    category_ids: tuple[int, ...]
    columns: tuple[int, ...]
    chunks: tuple[range, ...]
    notes: tuple[str, ...]


def class_columns(detector: str, vocabulary: Vocabulary, plan: PromptPlan, classes: Sequence[str]) -> ClassColumns:
    """Find the class of each category.

    Args:
        detector: its name, for messages.
        vocabulary: the categories.
        plan: its order and chunks are used; its texts are not, because the detector reads none.
        classes: names of the detector's classes by position, "N/A" for an unused number.

    Raises:
        DetectorError: several templates: there is no text that could be averaged.
    """
    if len(plan.templates) > 1:
        raise DetectorError(
            f"detector '{detector}': prompt plan '{plan.name}' has {len(plan.templates)} templates; "
            "it has classes and reads no text: give at most one"
        )
    rows = plan.rows(vocabulary)
    mapped = map_classes(vocabulary.take(rows), classes)
    known = [(position, column) for position, column in enumerate(mapped.columns) if column is not None]
    ends = [sum(position < chunk.stop for position, _ in known) for chunk in plan.chunks(len(rows))]
    return ClassColumns(
        category_ids=tuple(vocabulary.ids[rows[position]] for position, _ in known),
        columns=tuple(column for _, column in known),
        chunks=tuple(range(begin, end) for begin, end in zip([0, *ends[:-1]], ends, strict=True)),
        notes=mapped.notes,
    )
