"""Selection of the images to show."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from ovd_bench.benchmarks.pictures.gallery.outcome import Outcome, badness, candidates_of, choose, disagreement
from ovd_bench.benchmarks.pictures.gallery.runs import Stage

Order = Literal["disagree", "worst"]


def select_images(stage: Stage, outcomes: Sequence[Outcome], order: Order | None, count: int) -> tuple[list[int], str]:
    """Positions of the images to show, and in one line how they were chosen.

    Args:
        stage: images and annotations.
        outcomes: the runs.
        order: None = by disagreement if there are two or more runs, else the worst.
        count: maximum number of images.

    Raises:
        DataError: there is nothing to show.
    """
    images = stage.gt.num_images
    by = order or ("disagree" if len(outcomes) > 1 else "worst")
    if by == "disagree":
        measure = disagreement(outcomes, images)
        how = "Images on which F1 differs most between the runs"
    else:
        measure = badness(outcomes, images)
        how = "Images with the lowest F1" + (", mean of the runs" if len(outcomes) > 1 else "")
    positions = choose(measure, count, candidates_of(outcomes, images) & stage.covered)
    return positions, f"{how}, each at the score threshold with its best F1 over the data set"
