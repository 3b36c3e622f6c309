"""Class names of training data sets, as far as the suite knows them.

COCO's are in ``detectors.coco_classes``, those of rendered scenes follow from their world, the others are in
``label_sets.json``. Data annotated with phrases (GoldG, Visual Genome), by a model (Cap4M, GRIT) or with names that are
not listed here (OpenImages, V3Det) has no label set: its names are unknown, which does not mean that there are none.
"""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path

from ovd_bench.benchmarks.data.catalog.cards import CARDS
from ovd_bench.detectors.coco_classes import COCO_NAMES

_FILE = Path(__file__).with_name("label_sets.json")

#: Training data, by the name on a detector's card -> its label set.
_OF_DATASET = {
    **dict.fromkeys(("coco", "coco-train2014", "coco-train2017"), "coco"),
    **dict.fromkeys(("objects365", "objects365-train", "objects365-v1-train", "objects365-v2-train"), "objects365"),
    **dict.fromkeys(("lvis", "lvis-v1", "lvis-v1-train"), "lvis-v1"),
}


@cache
def label_set(dataset: str) -> tuple[str, ...] | None:
    """Class names of the boxes of a data set, by its name on a detector's card; None = not known."""
    if dataset in CARDS and CARDS[dataset].world:
        return _rendered(CARDS[dataset].world)
    name = _OF_DATASET.get(dataset)
    if name == "coco":
        return COCO_NAMES
    return None if name is None else tuple(json.loads(_FILE.read_text(encoding="utf-8"))[name]["names"])


def _rendered(world: str) -> tuple[str, ...]:
    """Names with a training image; trainings of the suite do not use the others, not even as negatives."""
    from ovd_bench.benchmarks.data.shapes import WORLDS

    return tuple(category.name for category in WORLDS[world].categories if category.image_count)
