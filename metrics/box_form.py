"""Boxes that were written in another form than COCO's [x, y, width, height] in pixels, recognised by their numbers."""

from __future__ import annotations

from typing import Literal

import numpy as np
import numpy.typing as npt

#: Boxes that leave their image, share of all, from which another form is looked for.
_OUTSIDE = 0.2
#: Share of the boxes that must fit the other form.
_FIT = 0.99
#: By what share of its sides a box may leave its image, as those of detectors do.
_SLACK = 0.05

BoxForm = Literal["relative", "corners"]

#: What each form looks like, for messages.
FORMS: dict[BoxForm, str] = {
    "relative": "the boxes lie in 0 … 1, as if relative to the image; pixels are needed",
    "corners": "many boxes leave their image, and hardly any would if they were [x1, y1, x2, y2]; "
    "[x, y, width, height] is needed",
}


def other_form(boxes_xywh: npt.ArrayLike, image_sizes: npt.ArrayLike) -> BoxForm | None:
    """The form that the boxes seem to have; None = [x, y, width, height] in pixels, or no saying.

    Args:
        boxes_xywh: (N, 4) as read.
        image_sizes: (N, 2), width and height in pixels of each box's image; 0 = unknown.
    """
    boxes, sizes = np.asarray(boxes_xywh, np.float64), np.asarray(image_sizes, np.float64)
    if not len(boxes):
        return None
    last = boxes[:, :2] + boxes[:, 2:]
    if np.mean((last <= 1 + _SLACK).all(1)) >= _FIT:
        return "relative"
    known = (sizes > 0).all(1)
    if not known.any():
        return None
    boxes, last, limit = boxes[known], last[known], sizes[known] * (1 + _SLACK)
    outside = np.mean((last > limit).any(1))
    corners = np.mean(((boxes[:, 2:] >= boxes[:, :2]) & (boxes[:, 2:] <= limit)).all(1))
    return "corners" if outside >= _OUTSIDE and corners >= _FIT else None
