"""Evaluation while training, through the suite's own scoring, on a split that is never reported."""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar

import numpy as np

from benchmarks.datasets.benchmark import vocabulary_of
from benchmarks.io.annotations import read_ground_truth
from benchmarks.training.data import decode_images
from detectors.interface import Detector
from detectors.prompts import PromptPlan
from detectors.types import Image
from metrics.evaluate import evaluate
from metrics.protocol import PROTOCOLS
from metrics.types import Predictions
from metrics.unseen import unseen_ap


class Watch:
    """LVIS AP of a detector on a small split held in memory.

    Args:
        annotations: LVIS JSON whose categories carry the training set's ``image_count``.
        folder: of its images.
    """

    #: What is reported, 0 … 1; ``APu``: of the classes without any training image.
    NAMES: ClassVar[tuple[str, ...]] = ("AP", "AP50", "APr", "APc", "APf", "APu")

    def __init__(self, annotations: Path, folder: Path) -> None:
        self._gt = read_ground_truth(annotations)
        pixels = decode_images(self._gt, folder)
        self._images = [Image(int(i), p) for i, p in zip(self._gt.image_ids, pixels, strict=True)]

    def score(self, detector: Detector) -> dict[str, float]:
        """Score a detector; a statistic without any class is left out."""
        detector.set_vocabulary(vocabulary_of(self._gt.categories), PromptPlan())
        found = [detector.detect([image])[0] for image in self._images]
        boxes = np.concatenate([part.boxes_xyxy for part in found])
        boxes[:, 2:] -= boxes[:, :2]
        predictions = Predictions.from_boxes(
            np.repeat([part.image_id for part in found], [len(part) for part in found]),
            np.concatenate([part.category_ids for part in found]),
            np.concatenate([part.scores for part in found]),
            boxes,
        )
        result = evaluate(self._gt, predictions, PROTOCOLS["lvis"], threads=1)
        values = {**result.metrics, "APu": unseen_ap(result)["unseen/APu"]}
        return {name: value for name in self.NAMES if (value := values[name]) is not None}
