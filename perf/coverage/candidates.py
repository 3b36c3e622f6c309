"""Methods for a 95 % interval from resamples: the suite's and its alternatives."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np
from scipy.special import ndtr, ndtri

from ovd_bench.metrics.intervals import Estimate

Interval = tuple[float, float]

_NORMAL = 1.959963984540054
_TAILS = (0.025, 0.975)


def _suite(estimate: Estimate) -> Interval:
    """``value ± t × sd``, see ``metrics.intervals``."""
    interval = estimate.ci95
    return (np.nan, np.nan) if interval is None else interval


def _percentile(estimate: Estimate) -> Interval:
    """The middle 95 % of the resamples."""
    low, high = np.nanquantile(estimate.samples, _TAILS)
    return float(low), float(high)


def _basic(estimate: Estimate) -> Interval:
    """The percentiles mirrored at the estimate."""
    low, high = _percentile(estimate)
    return 2 * estimate.value - high, 2 * estimate.value - low


def _bias_corrected(estimate: Estimate) -> Interval:
    """The percentiles shifted by the share of resamples below the estimate (Efron 1981)."""
    samples = estimate.samples[~np.isnan(estimate.samples)]
    below = np.clip(np.mean(samples < estimate.value), 0.5 / len(samples), 1 - 0.5 / len(samples))
    low, high = np.quantile(samples, ndtr(2 * ndtri(below) + np.array([-_NORMAL, _NORMAL])))
    return float(low), float(high)


def _centred(estimate: Estimate) -> Interval:
    """The percentiles shifted so that the mean of the resamples is the estimate."""
    low, high = _percentile(estimate)
    shift = float(np.nanmean(estimate.samples)) - estimate.value
    return low - shift, high - shift


def _normal(estimate: Estimate) -> Interval:
    """``value ± 1.96 × sd`` of the unchanged resamples."""
    half = _NORMAL * float(np.nanstd(estimate.samples, ddof=1))
    return estimate.value - half, estimate.value + half


CANDIDATES: Mapping[str, Callable[[Estimate], Interval]] = {
    "suite": _suite,
    "percentile": _percentile,
    "basic": _basic,
    "bias-corrected": _bias_corrected,
    "centred percentile": _centred,
    "± 1.96 sd": _normal,
}
