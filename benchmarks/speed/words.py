"""Class names for timing where no data set is at hand: those of COCO, then as many more as are wanted."""

from __future__ import annotations

from ovd_bench.detectors.types import Vocabulary
from ovd_bench.metrics.types import DataError

#: The 80 class names of COCO, in the order of their category ids.
COCO_NAMES = (
    *("person", "bicycle", "car", "motorcycle", "airplane", "bus", "train", "truck", "boat", "traffic light"),
    *("fire hydrant", "stop sign", "parking meter", "bench", "bird", "cat", "dog", "horse", "sheep", "cow"),
    *("elephant", "bear", "zebra", "giraffe", "backpack", "umbrella", "handbag", "tie", "suitcase", "frisbee"),
    *("skis", "snowboard", "sports ball", "kite", "baseball bat", "baseball glove", "skateboard", "surfboard"),
    *("tennis racket", "bottle", "wine glass", "cup", "fork", "knife", "spoon", "bowl", "banana", "apple", "sandwich"),
    *("orange", "broccoli", "carrot", "hot dog", "pizza", "donut", "cake", "chair", "couch", "potted plant", "bed"),
    *("dining table", "toilet", "tv", "laptop", "mouse", "remote", "keyboard", "cell phone", "microwave", "oven"),
    *("toaster", "sink", "refrigerator", "book", "clock", "vase", "scissors", "teddy bear", "hair drier", "toothbrush"),
)

_ADJECTIVES = (
    *("red", "old", "small", "wooden", "broken", "round", "folded", "striped"),
    *("empty", "heavy", "green", "shiny", "tall", "dirty", "plastic", "blue"),
)


def made_up_vocabulary(classes: int) -> Vocabulary:
    """The first names of COCO; behind the last, the same with one adjective, then with two ("small red car").

    Raises:
        DataError: less than one class, or more than there are words for.
    """
    names = [*COCO_NAMES, *(f"{a} {noun}" for a in _ADJECTIVES for noun in COCO_NAMES)]
    names += [f"{a} {b} {noun}" for a in _ADJECTIVES for b in _ADJECTIVES if a != b for noun in COCO_NAMES]
    if not 1 <= classes <= len(names):
        raise DataError(f"--vocabulary {classes}: from 1 to {len(names):,} classes can be made up")
    return Vocabulary(tuple(range(1, classes + 1)), tuple(names[:classes]))
