"""How often intervals contain the truth, over many data sets of one population."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from ovd_bench.metrics.bootstrap import bootstrap, resample_weights
from ovd_bench.metrics.evaluate import evaluate
from ovd_bench.metrics.intervals import Estimate
from ovd_bench.metrics.protocol import PROTOCOLS
from ovd_bench.perf.coverage.candidates import CANDIDATES
from ovd_bench.perf.coverage.population import Population

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Coverage:
    """Coverage of the intervals of one number.

    Attributes:
        truth: its mean over the data sets: the average result of a data set of this size.
        limit: its value on a data set a hundred times as large, NaN if none was drawn.
        sd: its standard deviation over the data sets.
        sd_ratio: root mean square of ``Estimate.sd`` divided by ``sd``.
        share: per candidate, share of the data sets whose interval contains ``truth``.
        share_limit: the same for ``limit``.
        outside: per candidate, share of the data sets whose interval does not contain the number itself.
        above: per candidate, share of the data sets whose interval lies above ``truth``; those below are the rest.
    """

    truth: float
    limit: float
    sd: float
    sd_ratio: float
    share: Mapping[str, float]
    share_limit: Mapping[str, float]
    outside: Mapping[str, float]
    above: Mapping[str, float]


def simulate(
    population: Population,
    names: tuple[str, ...],
    *,
    sets: int,
    resamples: int,
    seed: int = 0,
    first: int = 0,
    enlarge: int = 0,
    advance: Callable[[int], None] | None = None,
) -> dict[tuple[str, str], Coverage]:
    """Coverage of the numbers of each detector, and of their differences to the first.

    Args:
        population: with at least one detector.
        names: statistics, as in ``Evaluation.metrics``.
        sets: number of data sets to draw.
        resamples: bootstrap resamples of each.
        seed: seed of all random numbers.
        first: number of the first data set; the data set of a given number is the same in every run.
        enlarge: size of the data set that represents the whole population, as a multiple of a data set; 0 = none.
        advance: called with the number of finished data sets.

    Returns:
        By statistic and ``A``, ``B`` … for the detectors, ``B - A`` … for differences.
    """
    values: dict[tuple[str, str], list[tuple[float, float]]] = {}
    intervals: dict[tuple[str, str], dict[str, list[tuple[float, float]]]] = {}
    for number in range(first, first + sets):
        for key, estimate in _estimates(population, names, resamples, (seed, number)).items():
            values.setdefault(key, []).append((estimate.value, estimate.sd or np.nan))
            by_candidate = intervals.setdefault(key, {name: [] for name in CANDIDATES})
            for name, make in CANDIDATES.items():
                by_candidate[name].append(make(estimate))
        if advance:
            advance(1)
    limits = {}
    if enlarge:
        whole = _estimates(population.enlarged(enlarge), names, 2, (seed, first))
        limits = {key: estimate.value for key, estimate in whole.items()}
    return {
        key: _coverage(
            np.array(pairs), {name: np.array(ends) for name, ends in intervals[key].items()}, limits.get(key)
        )
        for key, pairs in values.items()
    }


def _estimates(
    population: Population, names: tuple[str, ...], resamples: int, seed: tuple[int, int]
) -> dict[tuple[str, str], Estimate]:
    gt, predictions = population.draw(np.random.default_rng(seed))
    protocol = PROTOCOLS["lvis" if population.federated else "coco"]
    weights = resample_weights(gt.num_images, resamples, seed[1])
    runs = [
        bootstrap(gt, evaluate(gt, one, protocol, keep_records=True, threads=1), weights).estimates
        for one in predictions
    ]
    found = {}
    for name in names:
        for letter, run in zip("ABCDEFGH", runs, strict=False):
            if name in run:
                found[name, letter] = run[name]
                if run is not runs[0]:
                    found[name, f"{letter} - A"] = run[name] - runs[0][name]
    return found


def _coverage(values: Floats, intervals: Mapping[str, Floats], limit: float | None) -> Coverage:
    """Coverage from values with their sd (sets, 2) and, per candidate, the ends of the intervals (sets, 2)."""
    points, sds = values.T
    truth = float(points.mean())
    sd = float(points.std(ddof=1))
    far = np.nan if limit is None else limit

    def share_of(target: Floats | float) -> dict[str, float]:
        return {name: float(np.mean((low <= target) & (target <= high))) for name, (low, high) in ends.items()}

    ends = {name: pair.T for name, pair in intervals.items()}
    return Coverage(
        truth=truth,
        limit=far,
        sd=sd,
        sd_ratio=float(np.sqrt(np.nanmean(sds**2)) / sd),
        share=share_of(truth),
        share_limit=share_of(far),
        outside={name: 1 - held for name, held in share_of(points).items()},
        above={name: float(np.mean(low > truth)) for name, (low, _) in ends.items()},
    )
