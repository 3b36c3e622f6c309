"""Selection of the images to show."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from ovd_bench.benchmarks.pictures.gallery.matched_run import (
    MatchedRun,
    badness,
    candidates_of,
    choose,
    choose_disagreed,
)
from ovd_bench.benchmarks.pictures.gallery.runs import GalleryData

Order = Literal["disagree", "worst"]


def select_images(
    data: GalleryData, matched: Sequence[MatchedRun], order: Order | None, count: int
) -> tuple[list[int], str]:
    """Positions of the images to show, and in one line how they were chosen.

    Args:
        data: images and annotations.
        matched: the runs.
        order: None = by disagreement if there are two or more runs, else the worst.
        count: maximum number of images.

    Raises:
        DataError: there is nothing to show.
    """
    images = data.gt.num_images
    by = order or ("disagree" if len(matched) > 1 else "worst")
    candidates = candidates_of(matched, images) & data.covered
    if by == "disagree":
        positions = choose_disagreed(matched, images, count, candidates)
        how = "Images with the most objects that some of the runs find and others do not, varied in their classes"
    else:
        positions = choose(badness(matched, images), count, candidates)
        how = "Images with the lowest F1" + (", mean of the runs" if len(matched) > 1 else "")
    return positions, f"{how}, each at the score threshold with its best F1 over the data set"
