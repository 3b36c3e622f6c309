"""AP on classes without a training image.

LVIS's rare classes have up to ten training images; the embedded benchmark also has classes with none (``image_count``
0 in the annotations). Where the count is unknown a class is not among them.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from ovd_bench.metrics.evaluate import Evaluation
from ovd_bench.metrics.types import FloatArray


def unseen_classes(evaluation: Evaluation) -> npt.NDArray[np.intp]:
    """Positions of the classes without a training image, with or without ground truth."""
    return np.flatnonzero(evaluation.categories.image_count == 0)


def unseen_ap(evaluation: Evaluation) -> dict[str, float | None]:
    """Means over the unseen classes that have ground truth.

    Returns:
        ``unseen/APu`` (IoU 0.50:0.95) and ``unseen/AP50u``, None without such a class, and ``unseen/classes``, their
        number.
    """
    classes = unseen_classes(evaluation)
    metrics: dict[str, float | None] = {}
    for name, ap in (("APu", evaluation.per_class_ap), ("AP50u", evaluation.per_class_ap50)):
        value = mean_over(ap[None], classes)[0]
        metrics[f"unseen/{name}"] = None if np.isnan(value) else float(value)
    metrics["unseen/classes"] = int(np.sum(~np.isnan(evaluation.per_class_ap[classes])))
    return metrics


def mean_over(per_class: FloatArray, classes: npt.NDArray[np.intp]) -> npt.NDArray[np.float64]:
    """Mean over some classes of each row of AP per class (n, K), undefined classes left out; NaN where all are."""
    values = per_class[:, classes].astype(np.float64)
    defined = ~np.isnan(values)
    count = defined.sum(axis=1)
    mean = np.full(len(values), np.nan)
    np.divide(np.where(defined, values, 0).sum(axis=1), count, out=mean, where=count > 0)
    return mean
