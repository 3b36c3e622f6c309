"""Is the difference between two runs real: paired bootstrap over images."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from metrics.bootstrap import bootstrap, resample_weights, standard_deviation
from metrics.evaluate import Evaluation
from metrics.types import DataError, GroundTruth


@dataclass(frozen=True)
class Difference:
    """One statistic of run B minus run A; every number is None where it is undefined.

    Attributes:
        a, b: point estimates.
        delta: ``b - a``.
        sd: bootstrap standard deviation of the paired difference.
        ci95: 2.5 % and 97.5 % points of the paired difference.
        p_greater: share of resamples in which B is ahead of A (ties count half).
    """

    a: float | None
    b: float | None
    delta: float | None
    sd: float | None
    ci95: tuple[float, float] | None
    p_greater: float | None


@dataclass(frozen=True)
class ClassDifferences:
    """AP of every class in both runs (K rows).

    Attributes:
        a, b: float64 (K,), NaN where undefined.
        p_greater: float64 (K,), share of resamples in which B is ahead (ties half), NaN where undefined.
        wins, losses, ties: classes in which B is ahead, behind, equal by the point estimates.
        sure_wins, sure_losses: classes with ``p_greater`` >= 0.975 or <= 0.025.
    """

    a: npt.NDArray[np.float64]
    b: npt.NDArray[np.float64]
    p_greater: npt.NDArray[np.float64]
    wins: int
    losses: int
    ties: int
    sure_wins: int
    sure_losses: int


@dataclass(frozen=True)
class Comparison:
    """Run B against run A under one protocol on the same images.

    Attributes:
        differences: per statistic of the protocol.
        classes: per class.
        resamples: number of resamples.
        seed: their seed.
    """

    differences: dict[str, Difference]
    classes: ClassDifferences
    resamples: int
    seed: int


def compare(gt: GroundTruth, a: Evaluation, b: Evaluation, *, resamples: int = 1000, seed: int = 0) -> Comparison:
    """Paired comparison: both runs are scored on the same resamples of the images.

    Args:
        gt: the ground truth both were evaluated on.
        a: result of ``evaluate(..., keep_records=True)`` for run A.
        b: the same for run B, under the same protocol.
        resamples: number of bootstrap resamples.
        seed: of the resampling.

    Raises:
        DataError: the protocols differ, or records are missing.
    """
    if a.protocol != b.protocol:
        raise DataError(
            f"runs were scored under '{a.protocol.name}' and '{b.protocol.name}': compare under one protocol"
        )
    weights = resample_weights(gt.num_images, resamples, seed)
    first, second = (bootstrap(gt, run, weights, per_class=True) for run in (a, b))
    differences = {}
    for name, point_a in a.metrics.items():
        point_b = b.metrics[name]
        samples = second.samples[name] - first.samples[name] if name in first.samples else None
        differences[name] = _difference(point_a, point_b, samples)
    assert first.per_class_ap is not None
    assert second.per_class_ap is not None
    return Comparison(
        differences, _classes(a.per_class_ap, b.per_class_ap, first.per_class_ap, second.per_class_ap), resamples, seed
    )


def _difference(a: float | None, b: float | None, samples: npt.NDArray[np.float64] | None) -> Difference:
    delta = None if a is None or b is None else b - a
    defined = np.empty(0) if samples is None else samples[~np.isnan(samples)]
    if delta is None or len(defined) == 0:
        return Difference(a, b, delta, None, None, None)
    low, high = np.quantile(defined, (0.025, 0.975))
    ahead = float(np.mean((defined > 0) + 0.5 * (defined == 0)))
    return Difference(a, b, delta, standard_deviation(defined), (float(low), float(high)), ahead)


def _classes(
    a: npt.NDArray[np.float64],
    b: npt.NDArray[np.float64],
    samples_a: npt.NDArray[np.float32],
    samples_b: npt.NDArray[np.float32],
) -> ClassDifferences:
    defined = ~np.isnan(samples_a)
    ahead = ((samples_b > samples_a) + 0.5 * (samples_b == samples_a)).sum(axis=0)
    count = defined.sum(axis=0)
    p_greater = np.full(len(a), np.nan)
    np.divide(ahead, count, out=p_greater, where=count > 0)
    return ClassDifferences(
        a=a,
        b=b,
        p_greater=p_greater,
        wins=int(np.sum(b > a)),
        losses=int(np.sum(b < a)),
        ties=int(np.sum(b == a)),
        sure_wins=int(np.sum(p_greater >= 0.975)),
        sure_losses=int(np.sum(p_greater <= 0.025)),
    )
