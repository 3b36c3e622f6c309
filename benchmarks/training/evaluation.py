"""Evaluation during a training, with the suite's scoring, on a split that is never reported."""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar

import numpy as np

from ovd_bench.benchmarks.data.catalog.benchmark import vocabulary_of
from ovd_bench.benchmarks.data.files.annotations import read_ground_truth
from ovd_bench.benchmarks.data.images import image_file, image_paths, read_image
from ovd_bench.detectors.interface import Detector
from ovd_bench.detectors.prompts import default_plan
from ovd_bench.metrics.evaluate import evaluate
from ovd_bench.metrics.protocol import PROTOCOLS
from ovd_bench.metrics.types import Predictions
from ovd_bench.metrics.unseen import unseen_ap


class SplitEvaluation:
    """AP of a detector on a split; images are read as they are needed.

    Args:
        annotations: LVIS or COCO JSON; of LVIS, categories may carry the training set's ``image_count``.
        folder: of its images.
        protocol: kind of AP (``metrics.protocol.PROTOCOLS``).
    """

    #: Reported statistics, 0 … 1, if defined; ``APu``: AP of the classes without a training image.
    NAMES: ClassVar[tuple[str, ...]] = ("AP", "AP50", "APr", "APc", "APf", "APu")

    def __init__(self, annotations: Path, folder: Path, protocol: str = "lvis") -> None:
        self._gt = read_ground_truth(annotations)
        self._files = [image_file(folder, name) for name in image_paths(self._gt)]
        self._protocol = PROTOCOLS[protocol]

    def score(self, detector: Detector) -> dict[str, float]:
        """Score a detector; a statistic without any class is left out.

        Raises:
            DataError: an image is missing or unreadable.
        """
        vocabulary = vocabulary_of(self._gt.categories)
        detector.set_vocabulary(vocabulary, default_plan(vocabulary))
        images = (read_image(int(i), file) for i, file in zip(self._gt.image_ids, self._files, strict=True))
        found = [detector.detect([image])[0] for image in images]
        boxes = np.concatenate([part.boxes_xyxy for part in found])
        boxes[:, 2:] -= boxes[:, :2]
        predictions = Predictions.from_boxes(
            np.repeat([part.image_id for part in found], [len(part) for part in found]),
            np.concatenate([part.category_ids for part in found]),
            np.concatenate([part.scores for part in found]),
            boxes,
        )
        result = evaluate(self._gt, predictions, self._protocol, threads=1)
        values = {**result.metrics, "APu": unseen_ap(result)["unseen/APu"]}
        return {name: value for name in self.NAMES if (value := values.get(name)) is not None}
