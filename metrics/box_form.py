"""Recognises boxes that are in another form than COCO's [x, y, width, height] in pixels, from their numbers."""

from __future__ import annotations

from typing import Literal

import numpy as np
import numpy.typing as npt

#: Share of boxes beyond their image from which another form is considered.
_OUTSIDE = 0.2
#: Share of the boxes that must fit the other form.
_FIT = 0.99
#: A box may extend beyond its image by this share of the image's sides, as boxes of detectors do.
_SLACK = 0.05

BoxForm = Literal["relative", "corners"]

#: Description of each form, for messages.
FORMS: dict[BoxForm, str] = {
    "relative": "the boxes lie in 0 … 1, as if relative to the image; pixels are needed",
    "corners": "many boxes leave their image, and hardly any would if they were [x1, y1, x2, y2]; "
    "[x, y, width, height] is needed",
}


def other_form(boxes_xywh: npt.ArrayLike, image_sizes: npt.ArrayLike) -> BoxForm | None:
    """The probable form of the boxes; None = [x, y, width, height] in pixels, or not known.

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
