"""COCO's classes by the ids of its annotations, which are the columns of the models that are trained on it."""

from __future__ import annotations

#: Numbers of the paper's list of 91 that were never annotated, and 0.
_HOLES = frozenset({0, 12, 26, 29, 30, 45, 66, 68, 69, 71, 83})

#: Names of the 80 classes, in the order of their ids.
COCO_NAMES = (
    *("person", "bicycle", "car", "motorcycle", "airplane", "bus", "train", "truck", "boat", "traffic light"),
    *("fire hydrant", "stop sign", "parking meter", "bench", "bird", "cat", "dog", "horse", "sheep", "cow"),
    *("elephant", "bear", "zebra", "giraffe", "backpack", "umbrella", "handbag", "tie", "suitcase", "frisbee"),
    *("skis", "snowboard", "sports ball", "kite", "baseball bat", "baseball glove", "skateboard", "surfboard"),
    *("tennis racket", "bottle", "wine glass", "cup", "fork", "knife", "spoon", "bowl", "banana", "apple"),
    *("sandwich", "orange", "broccoli", "carrot", "hot dog", "pizza", "donut", "cake", "chair", "couch"),
    *("potted plant", "bed", "dining table", "toilet", "tv", "laptop", "mouse", "remote", "keyboard", "cell phone"),
    *("microwave", "oven", "toaster", "sink", "refrigerator", "book", "clock", "vase", "scissors", "teddy bear"),
    *("hair drier", "toothbrush"),
)


def _by_id() -> tuple[str, ...]:
    names = iter(COCO_NAMES)
    return tuple("N/A" if number in _HOLES else next(names) for number in range(91))


#: Name of class 0 to 90; "N/A" where a number has none.
COCO_CLASSES: tuple[str, ...] = _by_id()
