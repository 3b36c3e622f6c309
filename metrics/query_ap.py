"""Average precision of the kinds of queries.

* ``queries/AP/KIND``: mean of the AP of the questions that are asked under the kind, each over all images that it is
  asked of. With the kinds ``pres`` and ``abs`` these are the partitions of D³ (shikras/d-cube, ``doc.md``).
* ``queries/APpool/KIND``: one precision-recall curve over all (image, question) pairs of the kind, so that scores must
  be comparable between questions. So OmniLabel's groups are defined (samschulter/omnilabeltools, ``eval.py``).
* ``queries/omnilabel``: OmniLabel's main figure, the harmonic mean of ``APpool`` of the kinds ``categ`` and ``descr``,
  with the 1e-5 in the denominator that its toolkit adds.

Boxes are matched per image and question, at IoU 0.50:0.95; a kind takes no part in that.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from ovd_bench.metrics.evaluate import Evaluation
from ovd_bench.metrics.pooled import Ranking
from ovd_bench.metrics.queries import Queries
from ovd_bench.metrics.types import Predictions
from ovd_bench.metrics.unseen import mean_over

#: Questions of which AP on resamples is kept for the intervals; 1,000 resamples of these are 16 MB.
MAX_RESAMPLED = 2_000
_OMNILABEL = ("queries/APpool/categ", "queries/APpool/descr")


@dataclass(frozen=True)
class KindAp:
    """AP of all kinds; see the module's docstring.

    Attributes:
        metrics: flat; None where no query of the kind has a box.
        class_means: of the figures that are a mean over questions, positions of these, for the bootstrap; only of a
            data set of at most ``MAX_RESAMPLED`` questions.
    """

    metrics: dict[str, float | None] = field(default_factory=dict)
    class_means: dict[str, npt.NDArray[np.intp]] = field(default_factory=dict)


def ap_by_kind(queries: Queries, evaluation: Evaluation, predictions: Predictions) -> KindAp:
    """AP of every kind.

    Args:
        queries: with kinds.
        evaluation: result of ``evaluate(queries.truth, predictions, …, keep_records=True)``.
        predictions: the detections that were evaluated.

    Raises:
        DataError: the evaluation kept no records.
    """
    result = KindAp()
    if not queries.kind_names:
        return result
    truth, questions = queries.truth, queries.truth.num_classes
    ranking = Ranking.of(evaluation, predictions)
    ranked = ranking.image_index.astype(np.int64) * questions + ranking.class_index
    boxes = truth.image_index.astype(np.int64) * questions + truth.class_index
    asked = queries.image_index.astype(np.int64) * questions + queries.question
    known = queries.present | queries.absent
    owner = queries.kinds.row_index()
    for number, name in enumerate(queries.kind_names):
        members = owner[queries.kinds.values == number]
        members = members[known[members]]
        pairs = np.unique(asked[members])
        classes = np.unique(queries.question[members]).astype(np.intp)
        mean = float(mean_over(evaluation.per_class_ap[None], classes)[0])
        result.metrics[f"queries/AP/{name}"] = None if np.isnan(mean) else mean
        result.metrics[f"queries/APpool/{name}"] = ranking.ap(
            np.isin(ranked, pairs), int(np.count_nonzero(np.isin(boxes, pairs)))
        )
        if questions <= MAX_RESAMPLED:
            result.class_means[f"queries/AP/{name}"] = classes
    categories, descriptions = (result.metrics.get(name) for name in _OMNILABEL)
    if categories is not None and descriptions is not None:
        result.metrics["queries/omnilabel"] = 2 * categories * descriptions / (categories + descriptions + 1e-5)
    return result
