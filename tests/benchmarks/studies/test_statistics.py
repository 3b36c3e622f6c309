"""Means, spreads, intervals and verdicts, against hand-computed numbers and simulated studies."""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt
import pytest
import scipy.stats

from ovd_bench.benchmarks.studies.statistics import Effect, Spread, corrected, effect, effects, pooled_sd
from ovd_bench.metrics.intervals import ClassValues, Estimate

#: Images of the simulated benchmarks.
_IMAGES = 801


def _measured(value: float, noise: npt.NDArray[np.float64] | None = None) -> Estimate:
    """A number whose resamples scatter around it by given amounts."""
    samples = value + (np.zeros(400) if noise is None else noise)
    return Estimate(value, samples, ClassValues.alone(value, _IMAGES))


def test_spread_is_the_sample_standard_deviation() -> None:
    assert Spread.of([0.40, 0.44]).mean == pytest.approx(0.42)
    assert Spread.of([0.40, 0.44]).sd == pytest.approx(0.04 / math.sqrt(2))
    assert Spread.of([1.0, 2.0, 4.0]).sd == pytest.approx(math.sqrt(7 / 3))
    assert Spread.of([0.4]).sd is None


def test_seeds_are_pooled_over_arms_by_their_degrees_of_freedom() -> None:
    spreads = [Spread.of([1.0, 3.0]), Spread.of([0.0, 1.0, 2.0]), Spread.of([9.0])]
    sd, degrees = pooled_sd(spreads)
    assert degrees == 3
    assert sd == pytest.approx(math.sqrt((2.0 * 1 + 1.0 * 2) / 3))
    assert pooled_sd([Spread.of([1.0]), Spread.of([2.0])]) == (None, 0)


def test_interval_adds_images_and_seeds_by_hand() -> None:
    rng = np.random.default_rng(0)
    shared = rng.normal(0, 0.02, 400)  # hard and easy images, the same for both: cancels
    own = rng.normal(0, 0.01, 400)
    arm = [_measured(0.50, shared + own), _measured(0.52, shared + own)]
    reference = [_measured(0.40, shared), _measured(0.43, shared)]
    found = effects({"reference": reference, "arm": arm}, "reference")["arm"]
    images = float(np.std(own, ddof=1))
    seeds_variance = (0.02**2 / 2 + 0.03**2 / 2) / 2
    variance = images**2 + seeds_variance * (1 / 2 + 1 / 2)
    degrees = variance**2 / (seeds_variance**2 / 2 + images**4 / (_IMAGES - 1))
    half = float(scipy.stats.t.ppf(0.975, degrees)) * math.sqrt(variance)
    assert found.delta == pytest.approx(0.095)
    assert found.images_sd == pytest.approx(images, rel=1e-9)
    assert found.seeds_sd == pytest.approx(math.sqrt(seeds_variance))
    assert found.degrees == pytest.approx(degrees)
    assert found.ci95 == pytest.approx((0.095 - half, 0.095 + half))
    # pairings: 0.50 - 0.40, 0.50 - 0.43, 0.52 - 0.40, 0.52 - 0.43
    reach = float(scipy.stats.t.ppf(0.975, _IMAGES - 1)) * images
    wanted = [(delta - reach, delta + reach) for delta in (0.10, 0.07, 0.12, 0.09)]
    assert None not in found.pairings
    np.testing.assert_allclose([one for one in found.pairings if one], wanted, atol=1e-12)
    assert found.p == pytest.approx(2 * float(scipy.stats.t.sf(0.095 / math.sqrt(variance), degrees)))


_NOISE = np.random.default_rng(1).normal(0, 0.01, 400)


@pytest.mark.parametrize(
    ("arm", "reference", "others", "verdict"),
    [
        # large against images and seeds
        ([0.50, 0.51], [0.40, 0.41], [0.01] * 8, "resolved"),
        # the same, the other way round
        ([0.40, 0.41], [0.50, 0.51], [0.01] * 8, "resolved"),
        # the seeds of the other arms scatter as much as the difference is large
        ([0.50, 0.51], [0.40, 0.41], [0.15] * 8, "not resolved"),
        # smaller than the images' noise
        ([0.405, 0.406], [0.400, 0.401], [0.001] * 8, "not resolved"),
        # the other arms are quiet, but these two are not
        ([0.50, 0.62], [0.40, 0.47], [0.001] * 30, "not resolved"),
        # the other arms are quiet, but one pairing of seeds goes the other way
        ([0.56, 0.455], [0.40, 0.46], [0.001] * 30, "not resolved"),
        # one seed says nothing of seeds
        ([0.50], [0.40, 0.41], [0.01] * 8, "not resolved"),
        # with three seeds the interval alone decides, also where one pairing is not clear
        ([0.50, 0.51, 0.48], [0.40, 0.41, 0.465], [0.01] * 8, "resolved"),
    ],
)
def test_verdict(arm: list[float], reference: list[float], others: list[float], verdict: str) -> None:
    arms = {"reference": [_measured(value) for value in reference], "arm": [_measured(value, _NOISE) for value in arm]}
    arms |= {f"other {n}": [_measured(0.3), _measured(0.3 + gap)] for n, gap in enumerate(others)}
    assert effects(arms, "reference")["arm"].verdict == verdict


def test_without_a_second_seed_anywhere_there_is_no_interval() -> None:
    found = effect([_measured(0.5, _NOISE)], [_measured(0.4)], None, 0)
    assert (found.ci95, found.seeds_sd, found.degrees, found.verdict) == (None, None, None, "not resolved")
    assert found.p is None
    assert found.pairings[0] is not None
    assert found.pairings[0][0] > 0


def test_one_image_tells_nothing() -> None:
    lone = Estimate(0.5, np.full(400, 0.5), ClassValues.alone(0.5, 1))
    found = effect([lone, lone], [lone, lone], 0.01, 10)
    assert (found.images_sd, found.ci95, found.pairings[0], found.verdict) == (None, None, None, "not resolved")


def _with_p(p: float | None, verdict: str = "resolved") -> Effect:
    assert verdict in ("resolved", "not resolved")
    clear = verdict == "resolved"
    return Effect(0.1, 0.01, 0.01, 10, (0.05, 0.15), (), "resolved" if clear else "not resolved", p)


def test_holm_by_hand() -> None:
    """The p-values 0.01, 0.02, 0.03 and 0.04: times 4, 3, 2, 1, and never below the one before."""
    found = {
        "AP": {"a": _with_p(0.04), "b": _with_p(0.01), "c": _with_p(None, "not resolved")},
        "APr": {"a": _with_p(0.02), "b": _with_p(0.03, "not resolved")},
    }
    after = corrected(found)
    assert {name: one.p_holm for name, one in after["AP"].items()} == {"a": 0.06, "b": 0.04, "c": None}
    assert {name: one.p_holm for name, one in after["APr"].items()} == {"a": 0.06, "b": 0.06}
    assert [one.verdict_holm for one in after["AP"].values()] == ["not resolved", "resolved", "not resolved"]
    assert after["AP"]["a"].verdict == "resolved"  # the raw verdict stays beside it
    tiny = corrected({"AP": {"a": _with_p(1e-9, "not resolved")}})["AP"]["a"]
    assert tiny.verdict_holm == "not resolved"  # Holm takes away and never adds


def test_undefined_resamples_are_passed_over() -> None:
    noise = _NOISE.copy()
    noise[::10] = np.nan
    found = effect([_measured(0.5, noise), _measured(0.5, noise)], [_measured(0.4), _measured(0.4)], 0.01, 10)
    assert found.images_sd == pytest.approx(float(np.nanstd(noise, ddof=1)))
    assert found.verdict == "resolved"


def _share_resolved(seeds: int, difference: float, *, noisy: float = 1.0, studies: int) -> float:
    """How often an arm is told from the reference in simulated studies of ten arms.

    Args:
        seeds: of each arm.
        difference: true one, of AP in 0 … 1.
        noisy: by how much the arm's seeds scatter more than those of all others.
        studies: simulated.
    """
    rng = np.random.default_rng(5)
    resolved = 0
    for _ in range(studies):
        arms = {}
        for number in range(10):
            # what an arm owes to these images is the same for its seeds, and the bootstrap sees how much it may be
            base = 0.4 + (difference if number == 1 else 0) + rng.normal(0, 0.008)
            noise = rng.normal(0, 0.008, 200)
            values = base + rng.normal(0, 0.008 * (noisy if number == 1 else 1), seeds)
            arms[str(number)] = [_measured(float(value), noise) for value in values]
        resolved += effects(arms, "0")["1"].verdict == "resolved"
    return resolved / studies


def test_where_nothing_differs_hardly_anything_is_resolved() -> None:
    assert _share_resolved(2, 0.0, studies=500) < 0.06


@pytest.mark.full
@pytest.mark.parametrize(
    ("seeds", "difference", "noisy", "share"),
    [
        (2, 0.0, 1, 0.035),
        (2, 0.03, 1, 0.44),
        (2, 0.05, 1, 0.89),
        (3, 0.0, 1, 0.059),
        (3, 0.03, 1, 0.578),
        (2, 0.0, 3, 0.079),
    ],
)
def test_simulated_shares_of_the_documentation(seeds: int, difference: float, noisy: float, share: float) -> None:
    assert _share_resolved(seeds, difference, noisy=noisy, studies=1500) == pytest.approx(share, abs=0.015)
