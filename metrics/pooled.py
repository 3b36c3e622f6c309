"""AP-Pool: one precision-recall curve over all classes, so that scores must be comparable between classes.

Dave et al. 2021, "Evaluating large-vocabulary object detectors: the devil is in the details", section 5; reference
repository achalddave/large-vocab-devil, ``lvdevil/eval_wrapper.py``. Matching is still per class; only true and false
positives are pooled before precision and recall are computed.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from ovd_bench.metrics.errors import DataError
from ovd_bench.metrics.evaluate import Evaluation
from ovd_bench.metrics.protocol import FREQUENCIES, RECALL_THRESHOLDS
from ovd_bench.metrics.types import Predictions


def pooled_ap(evaluation: Evaluation, predictions: Predictions) -> dict[str, float | None]:
    """AP of the pool of all classes and, where classes carry a frequency letter, of the pools r, c and f.

    Equal scores are ordered by image, class and file, as in the reference repository.

    Args:
        evaluation: result of ``evaluate(..., keep_records=True)`` on ``predictions``.
        predictions: the detections that were evaluated (their scores are looked up).

    Returns:
        ``APpool``, ``APpool50``, ``APpool-r``, ``APpool-c``, ``APpool-f``; None for a pool without ground truth.

    Raises:
        DataError: the evaluation kept no records.
    """
    ranking = Ranking.of(evaluation, predictions)
    positives = evaluation.matches.positives[:, 0].astype(np.int64)

    thresholds = evaluation.protocol.iou_thresholds
    everything = _pool(ranking.tp, ranking.ignored, int(positives.sum()), len(thresholds))
    half = everything[thresholds.index(0.5)] if everything is not None and 0.5 in thresholds else None
    result = {"APpool": _mean(everything), "APpool50": _mean(half)}
    frequency = np.array(evaluation.categories.frequency)
    for letter in FREQUENCIES if evaluation.protocol.federated else ():
        member = frequency == letter
        result[f"APpool-{letter}"] = ranking.ap(member[ranking.class_index], int(positives[member].sum()))
    return result


@dataclass(frozen=True)
class Ranking:
    """Outcomes of all detections that took part, best score first (n rows).

    Attributes:
        image_index, class_index: int32 (n,).
        tp, ignored: uint64 (n,), see ``metrics.matching.Records``.
        thresholds: number of IoU thresholds.
    """

    image_index: npt.NDArray[np.int32]
    class_index: npt.NDArray[np.int32]
    tp: npt.NDArray[np.uint64]
    ignored: npt.NDArray[np.uint64]
    thresholds: int

    @staticmethod
    def of(evaluation: Evaluation, predictions: Predictions) -> Ranking:
        """The arguments are those of ``pooled_ap``.

        Raises:
            DataError: the evaluation kept no records.
        """
        records = evaluation.matches.records
        if records is None:
            raise DataError("AP-Pool needs an evaluation with keep_records=True")
        classes = np.repeat(np.arange(len(evaluation.categories), dtype=np.int32), np.diff(records.class_offsets))
        by_image = np.argsort(records.image_index, kind="stable")
        scores = predictions.score[records.row[by_image]]
        order = by_image[np.argsort(-scores, kind="stable")]
        thresholds = len(evaluation.protocol.iou_thresholds)
        tp, ignored = records.tp[order], records.ignored[order]
        return Ranking(records.image_index[order], classes[order], tp, ignored, thresholds)

    def ap(self, rows: npt.NDArray[np.bool_], positives: int) -> float | None:
        """AP of the pool of some rows; None without positives."""
        return _mean(_pool(self.tp[rows], self.ignored[rows], positives, self.thresholds))


def _pool(
    tp: npt.NDArray[np.uint64], ignored: npt.NDArray[np.uint64], positives: int, thresholds: int
) -> npt.NDArray[np.float64] | None:
    """Interpolated precision (thresholds, recalls 101) of records (n,) in score order; None without positives."""
    if positives == 0:
        return None
    precision = np.zeros((thresholds, len(RECALL_THRESHOLDS)))
    for t in range(thresholds):
        lane = np.uint64(1 << t)
        hits = (tp & lane) != 0
        at = np.flatnonzero(hits)
        counted = np.cumsum((ignored & lane) == 0)[at]  # true and false positives up to each true positive
        true = np.arange(1, len(at) + 1, dtype=np.float64)
        envelope = np.maximum.accumulate((true / (counted - true + true + np.spacing(1)))[::-1])[::-1]
        # recall 0 is reached at the very first record; the envelope there is that of the first true positive
        first = np.searchsorted(true / positives, RECALL_THRESHOLDS, side="left")
        reached = first < len(at)
        precision[t, reached] = envelope[first[reached]]
    return precision


def _mean(precision: npt.NDArray[np.float64] | None) -> float | None:
    return None if precision is None else float(np.mean(precision))
