"""Significance of the difference between two runs: paired bootstrap over images."""

from __future__ import annotations

import warnings
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from ovd_bench.metrics.bootstrap import bootstrap, resample_weights
from ovd_bench.metrics.errors import DataError
from ovd_bench.metrics.evaluate import Evaluation
from ovd_bench.metrics.intervals import Estimate, lone_class_factor, probability_above
from ovd_bench.metrics.types import GroundTruth


@dataclass(frozen=True)
class Difference:
    """One statistic of run B minus run A; every number is None where it is undefined.

    Attributes:
        a, b: point estimates.
        delta: ``b - a``.
        sd: standard deviation of the paired difference, see ``metrics.intervals``.
        ci95: 95 % interval of the paired difference; ``delta`` is its middle.
        p_greater: probability that B is ahead of A, from the distribution of the interval.
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
        p_greater: float64 (K,), probability that B is ahead, NaN where undefined. It is kept at least
            ``0.5 ** images`` away from 0 and 1: that is the probability that one coin toss per image of the class
            gives heads every time.
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


def differences_of(first: dict[str, Estimate], second: dict[str, Estimate]) -> dict[str, Difference]:
    """Run B minus run A for every figure that is estimated in both, on the same resamples of the same images."""
    return {
        name: _difference(one.value, second[name].value, second[name] - one)
        for name, one in first.items()
        if name in second
    }


def compare(gt: GroundTruth, a: Evaluation, b: Evaluation, *, resamples: int = 1000, seed: int = 0) -> Comparison:
    """Paired comparison: both runs are scored on the same resamples of the images.

    Args:
        gt: the ground truth both were evaluated on.
        a: result of ``evaluate(..., keep_records=True)`` for run A.
        b: the same for run B, under the same protocol.
        resamples: number of bootstrap resamples.
        seed: seed of the resampling.

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
        apart = second.estimates[name] - first.estimates[name] if name in first.estimates else None
        differences[name] = _difference(point_a, point_b, apart)
    assert first.per_class_ap is not None
    assert second.per_class_ap is not None
    images = first.estimates["AP"].classes.images if "AP" in first.estimates else np.zeros(gt.num_classes, np.int64)
    samples = second.per_class_ap - first.per_class_ap
    return Comparison(differences, _classes(a.per_class_ap, b.per_class_ap, samples, images), resamples, seed)


def _difference(a: float | None, b: float | None, apart: Estimate | None) -> Difference:
    if apart is None:
        return Difference(a, b, None if a is None or b is None else b - a, None, None, None)
    return Difference(a, b, apart.value, apart.sd, apart.ci95, apart.p_positive)


def _classes(
    a: npt.NDArray[np.float64],
    b: npt.NDArray[np.float64],
    samples: npt.NDArray[np.float32],
    images: npt.NDArray[np.int64],
) -> ClassDifferences:
    """Comparison per class, from the differences of AP (n, K) on the resamples and the number of images per class."""
    p_greater = np.full(len(a), np.nan)
    p_greater[images == 1] = 0.5  # one image gives no variance
    judged = np.flatnonzero(images > 1)
    if len(judged) and len(samples) > 1:
        with np.errstate(invalid="ignore"), warnings.catch_warnings():
            warnings.simplefilter("ignore", RuntimeWarning)  # a class that occurs in hardly any resample
            variance = np.nanvar(samples[:, judged].astype(np.float64), axis=0, ddof=1)
        count = images[judged]
        sd = np.sqrt(variance * np.array([lone_class_factor(int(one)) for one in count]))
        luck = 0.5**count
        p_greater[judged] = np.clip(probability_above((b - a)[judged], sd, count - 1), luck, 1 - luck)
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
