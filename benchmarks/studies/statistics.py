"""What the trainings of a study support: means and spreads over seeds, differences with intervals, a verdict.

Two things make a number uncertain: which images were scored, and the seed of the training. The first is the same draw
for all arms, so it is estimated for differences by the paired bootstrap of the suite (``metrics.comparison``): all
cells are scored on the same resamples of the images, and a resample's difference is that of the arms' means over their
seeds. The second cannot be bootstrapped from two seeds: resampling two values shows half of their variance. It is
estimated as in an analysis of variance, with one variance of seeds for all arms (of one metric), pooled from what the
seeds of each arm say; with ten arms of two seeds it has ten degrees of freedom. Where the seeds of the two arms that
are compared vary more than that, theirs counts. Both variances add up, and the interval is that of Student's t with
the degrees of freedom of Satterthwaite (1946, "An approximate distribution of estimates of variance components"):
those of the seeds, more where the images dominate.

Two seeds of an arm show badly whether it varies as the others do. Then the verdict asks for a second thing: for every
pairing of a seed of the arm with a seed of the reference, the interval of the paired bootstrap lies on the same side
of zero.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from typing import Literal

import numpy as np
import numpy.typing as npt

Samples = npt.NDArray[np.float64]
#: Whether a difference is told from noise.
Verdict = Literal["resolved", "not resolved"]

#: Seeds per arm from which the interval alone decides.
ENOUGH_SEEDS = 3
RULE = (
    "resolved: the 95 % interval over images and seeds excludes 0, and, where an arm has fewer than three seeds, the "
    "paired 95 % interval over images of every pairing of a seed of the arm with a seed of the reference lies on the "
    "same side of 0; with one seed nothing is resolved"
)


@dataclass(frozen=True)
class Measured:
    """One metric of one trained model.

    Attributes:
        value: on the images as they are.
        samples: (n,) on resamples of the images, NaN where undefined there; the same resamples for all models.
    """

    value: float
    samples: Samples


@dataclass(frozen=True)
class Spread:
    """One metric of one arm over its seeds.

    Attributes:
        values: by seed, in the order of the seeds.
        mean: of them.
        sd: standard deviation of the seeds, with n - 1; None for one seed.
    """

    values: tuple[float, ...]
    mean: float
    sd: float | None

    @staticmethod
    def of(values: Sequence[float]) -> Spread:
        """From the values of the seeds, at least one."""
        sd = float(np.std(values, ddof=1)) if len(values) > 1 else None
        return Spread(tuple(values), float(np.mean(values)), sd)


@dataclass(frozen=True)
class Effect:
    """One metric of an arm minus that of the reference.

    Attributes:
        delta: of the means over the seeds.
        images_sd: standard deviation of ``delta`` over resamples of the images.
        seeds_sd: standard deviation of one training over seeds, pooled over all arms, or over the two compared where
            that is more; None where no arm has two.
        degrees: of freedom of the interval; None without an interval, and where the seeds do not vary at all.
        ci95: over images and seeds; None where no arm has two seeds.
        pairings: 95 % interval over images for each pairing of seeds, those of the arm outermost.
        verdict: see ``RULE``.
    """

    delta: float
    images_sd: float
    seeds_sd: float | None
    degrees: float | None
    ci95: tuple[float, float] | None
    pairings: tuple[tuple[float, float], ...]
    verdict: Verdict


def pooled_sd(spreads: Sequence[Spread]) -> tuple[float | None, int]:
    """Standard deviation over seeds, pooled over arms, and its degrees of freedom; None and 0 without two seeds."""
    known = [(spread.sd, len(spread.values) - 1) for spread in spreads if spread.sd is not None]
    degrees = sum(count for _, count in known)
    if not degrees:
        return None, 0
    return math.sqrt(sum(sd**2 * count for sd, count in known) / degrees), degrees


def effect(arm: Sequence[Measured], reference: Sequence[Measured], pooled: float | None, seeds_degrees: int) -> Effect:
    """An arm against the reference.

    Args:
        arm: its seeds.
        reference: the reference's seeds.
        pooled: standard deviation over seeds of all arms; see ``pooled_sd``.
        seeds_degrees: its degrees of freedom.
    """
    delta = float(np.mean([one.value for one in arm]) - np.mean([one.value for one in reference]))
    resampled = np.mean([one.samples for one in arm], axis=0) - np.mean([one.samples for one in reference], axis=0)
    images = float(np.nanstd(resampled, ddof=1))
    pairings = tuple(_interval(a.samples - b.samples) for a, b in product(arm, reference))
    if pooled is None:
        return Effect(delta, images, None, None, None, pairings, "not resolved")
    own, _ = pooled_sd([_spread(arm), _spread(reference)])
    seeds_sd = max(pooled, own or 0.0)
    seeds_variance = seeds_sd**2 * (1 / len(arm) + 1 / len(reference))
    variance = images**2 + seeds_variance
    degrees = seeds_degrees * (variance / seeds_variance) ** 2 if seeds_variance else math.inf
    half = _t_quantile(degrees) * math.sqrt(variance)
    finite = degrees if math.isfinite(degrees) else None
    ci95 = (delta - half, delta + half)
    fewest = min(len(arm), len(reference))
    agreed = _excludes_zero(ci95) and (
        fewest >= ENOUGH_SEEDS or all(_excludes_zero(one) and one[0] * delta > 0 for one in pairings)
    )
    verdict: Verdict = "resolved" if agreed and fewest > 1 else "not resolved"
    return Effect(delta, images, seeds_sd, finite, ci95, pairings, verdict)


def effects(measured: Mapping[str, Sequence[Measured]], reference: str) -> dict[str, Effect]:
    """Every other arm against the reference, in one metric.

    Args:
        measured: per arm, its seeds, at least one.
        reference: name of an arm.
    """
    sd, degrees = pooled_sd([_spread(seeds) for seeds in measured.values()])
    return {
        name: effect(seeds, measured[reference], sd, degrees) for name, seeds in measured.items() if name != reference
    }


def _spread(seeds: Sequence[Measured]) -> Spread:
    return Spread.of([one.value for one in seeds])


def _interval(samples: Samples) -> tuple[float, float]:
    """2.5 % and 97.5 % points of the defined samples."""
    low, high = np.nanquantile(samples, (0.025, 0.975))
    return float(low), float(high)


def _excludes_zero(interval: tuple[float, float]) -> bool:
    return interval[0] > 0 or interval[1] < 0


def _t_quantile(degrees: float) -> float:
    """97.5 % point of Student's t."""
    from scipy.special import stdtrit  # not scipy.stats, which takes a second to import

    return float(stdtrit(min(degrees, 1e9), 0.975))
