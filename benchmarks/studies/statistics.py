"""What the trainings of a study support: means and spreads over seeds, differences with intervals, a verdict.

Two things make a number uncertain: which images were scored, and the seed of the training. The first is the same draw
for all arms, so it is estimated for differences by the paired bootstrap of the suite (``metrics.intervals``): all
cells are scored on the same resamples of the images, and a resample's difference is that of the arms' means over their
seeds. The second cannot be bootstrapped from two seeds: resampling two values shows half of their variance. It is
estimated as in an analysis of variance, with one variance of seeds for all arms (of one metric), pooled from what the
seeds of each arm say; with ten arms of two seeds it has ten degrees of freedom. Where the seeds of the two arms that
are compared vary more than that, theirs counts. Both variances add up, and the interval is that of Student's t with
the degrees of freedom of Satterthwaite (1946, "An approximate distribution of estimates of variance components"), from
those of the seeds and those of the images.

Two seeds of an arm show badly whether it varies as the others do. Then the verdict asks for a second thing: for every
pairing of a seed of the arm with a seed of the reference, the interval of the paired bootstrap lies on the same side
of zero.

A report judges many differences. Beside each verdict stands the one that is left when the chance of a single false
claim in the whole report is held at 5 % (Holm 1979, "A simple sequentially rejective multiple test procedure").
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import product
from typing import Literal

import numpy as np

from ovd_bench.metrics.intervals import Estimate, probability_above, student_quantile

#: Whether a difference is told from noise.
Verdict = Literal["resolved", "not resolved"]

#: Seeds per arm from which the interval alone decides.
ENOUGH_SEEDS = 3
RULE = (
    "resolved: the 95 % interval over images and seeds excludes 0, and, where an arm has fewer than three seeds, the "
    "paired 95 % interval over images of every pairing of a seed of the arm with a seed of the reference lies on the "
    "same side of 0; with one seed nothing is resolved"
)
#: Chance of one false claim or more in a report after Holm's correction.
FAMILY_ERROR = 0.05


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
        images_sd: standard deviation of ``delta`` over sets of images; None where it is not known.
        seeds_sd: standard deviation of one training over seeds, pooled over all arms, or over the two compared where
            that is more; None where no arm has two.
        degrees: of freedom of the interval; None without an interval, and where nothing varies at all.
        ci95: over images and seeds; None where no arm has two seeds.
        pairings: 95 % interval over images for each pairing of seeds, those of the arm outermost; None where not known.
        verdict: see ``RULE``.
        p: two-sided, by the distribution of the interval; None without one.
        p_holm: ``p`` adjusted for all differences of the report; None before that is done, and without ``p``.
        verdict_holm: resolved where ``verdict`` is and ``p_holm`` is at most ``FAMILY_ERROR``.
    """

    delta: float
    images_sd: float | None
    seeds_sd: float | None
    degrees: float | None
    ci95: tuple[float, float] | None
    pairings: tuple[tuple[float, float] | None, ...]
    verdict: Verdict
    p: float | None = None
    p_holm: float | None = None
    verdict_holm: Verdict = "not resolved"


def pooled_sd(spreads: Sequence[Spread]) -> tuple[float | None, int]:
    """Standard deviation over seeds, pooled over arms, and its degrees of freedom; None and 0 without two seeds."""
    known = [(spread.sd, len(spread.values) - 1) for spread in spreads if spread.sd is not None]
    degrees = sum(count for _, count in known)
    if not degrees:
        return None, 0
    return math.sqrt(sum(sd**2 * count for sd, count in known) / degrees), degrees


def effect(arm: Sequence[Estimate], reference: Sequence[Estimate], pooled: float | None, seeds_degrees: int) -> Effect:
    """An arm against the reference.

    Args:
        arm: its seeds.
        reference: the reference's seeds.
        pooled: standard deviation over seeds of all arms; see ``pooled_sd``.
        seeds_degrees: its degrees of freedom.
    """
    apart = Estimate.mean(arm) - Estimate.mean(reference)
    delta, images = apart.value, apart.sd
    pairings = tuple((a - b).ci95 for a, b in product(arm, reference))
    if pooled is None or images is None:
        return Effect(delta, images, pooled, None, None, pairings, "not resolved")
    own, _ = pooled_sd([_spread(arm), _spread(reference)])
    seeds_sd = max(pooled, own or 0.0)
    seeds_variance = seeds_sd**2 * (1 / len(arm) + 1 / len(reference))
    variance = images**2 + seeds_variance
    uncertain = images**4 / apart.degrees + seeds_variance**2 / seeds_degrees
    degrees = variance**2 / uncertain if uncertain else math.inf
    half = student_quantile(degrees) * math.sqrt(variance)
    finite = degrees if math.isfinite(degrees) else None
    ci95 = (delta - half, delta + half)
    fewest = min(len(arm), len(reference))
    agreed = _excludes_zero(ci95) and (
        fewest >= ENOUGH_SEEDS
        or all(one is not None and _excludes_zero(one) and one[0] * delta > 0 for one in pairings)
    )
    verdict: Verdict = "resolved" if agreed and fewest > 1 else "not resolved"
    p = 2 * float(probability_above(-abs(delta), math.sqrt(variance), degrees))
    return Effect(delta, images, seeds_sd, finite, ci95, pairings, verdict, p)


def corrected(found: Mapping[str, Mapping[str, Effect]]) -> dict[str, dict[str, Effect]]:
    """All effects of a report, by metric and arm, with Holm's correction for their number."""
    keys = [(metric, name) for metric, by_arm in found.items() for name, one in by_arm.items() if one.p is not None]
    ranked = sorted(keys, key=lambda key: found[key[0]][key[1]].p or 0.0)
    adjusted: dict[tuple[str, str], float] = {}
    largest = 0.0
    for rank, (metric, name) in enumerate(ranked):
        largest = max(largest, min(1.0, (len(ranked) - rank) * (found[metric][name].p or 0.0)))
        adjusted[metric, name] = largest
    return {
        metric: {name: _with_holm(one, adjusted.get((metric, name))) for name, one in by_arm.items()}
        for metric, by_arm in found.items()
    }


def _with_holm(one: Effect, p_holm: float | None) -> Effect:
    holds = one.verdict == "resolved" and p_holm is not None and p_holm <= FAMILY_ERROR
    return replace(one, p_holm=p_holm, verdict_holm="resolved" if holds else "not resolved")


def effects(measured: Mapping[str, Sequence[Estimate]], reference: str) -> dict[str, Effect]:
    """Every other arm against the reference, in one metric.

    Args:
        measured: per arm, its seeds, at least one.
        reference: name of an arm.
    """
    sd, degrees = pooled_sd([_spread(seeds) for seeds in measured.values()])
    return {
        name: effect(seeds, measured[reference], sd, degrees) for name, seeds in measured.items() if name != reference
    }


def _spread(seeds: Sequence[Estimate]) -> Spread:
    return Spread.of([one.value for one in seeds])


def _excludes_zero(interval: tuple[float, float]) -> bool:
    return interval[0] > 0 or interval[1] < 0
