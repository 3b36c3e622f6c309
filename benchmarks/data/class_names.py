"""What is doubtful about the class names of a data set, whatever the detector."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from ovd_bench.benchmarks.data.text import printable
from ovd_bench.metrics.types import Categories, GroundTruth

#: Groups in a message.
_SHOWN = 3


def alike(names: Sequence[str], clean: Callable[[str], str] = str) -> str:
    """One line about names that read alike; empty if there are none.

    Names that differ only in case or white space after cleaning are the same text to most detectors.

    Args:
        names: of the classes.
        clean: from a name to the text that is asked for.
    """
    groups: dict[str, list[str]] = {}
    for name in names:
        if name.strip():
            groups.setdefault(" ".join(clean(name).split()).casefold(), []).append(name)
    found = [group for group in groups.values() if len(group) > 1]
    if not found:
        return ""
    shown = [" and ".join(map(repr, group[:_SHOWN])) for group in found[:_SHOWN]]
    more = " …" if len(found) > _SHOWN else ""
    classes = sum(map(len, found))
    return printable(f"{classes:,} classes are {len(found):,} texts to a detector: {', '.join(shown)}{more}")


def empty(categories: Categories) -> list[int]:
    """Ids of the classes without a name."""
    return [int(i) for i, name in zip(categories.ids, categories.names, strict=True) if not name.strip()]


def roots(gt: GroundTruth) -> list[str]:
    """Names of classes that have no box and are the supercategory of others, as exporters of some tools add."""
    has_box = np.zeros(gt.num_classes, np.bool_)
    has_box[gt.class_index] = True
    above = set(gt.categories.supercategory) - {""}
    return [name for name, boxes in zip(gt.categories.names, has_box, strict=True) if not boxes and name in above]


def remarks(gt: GroundTruth, clean: Callable[[str], str] = str) -> list[str]:
    """One line for each doubtful thing; none for ordinary names."""
    found = [alike(gt.categories.names, clean)]
    if root := roots(gt):
        shown = ", ".join(map(repr, root[:_SHOWN]))
        found.append(
            printable(f"class {shown} has no boxes and is the supercategory of others: it is asked for like any class")
        )
    return [line for line in found if line]
