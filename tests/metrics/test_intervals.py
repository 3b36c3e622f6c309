"""The rule of intervals: hand-computed numbers, properties, and a model in which the truth is known exactly."""

from __future__ import annotations

import math

import numpy as np
import pytest
import scipy.stats
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ovd_bench.metrics.bootstrap import bootstrap, resample_weights
from ovd_bench.metrics.comparison import compare
from ovd_bench.metrics.evaluate import evaluate
from ovd_bench.metrics.intervals import ClassValues, Estimate, half_width_of_mean, lone_class_factor, probability_above
from ovd_bench.metrics.protocol import PROTOCOLS
from ovd_bench.tests import oracles
from ovd_bench.tests.metrics.small_sets import Json, federated_sets, random_set
from ovd_bench.tests.values import number

_NUMBERS = st.floats(-1, 1)


def _estimate(values: list[float], images: list[int], samples: list[float]) -> Estimate:
    array = np.array(values)
    return Estimate(float(array.mean()), np.array(samples), ClassValues(array, np.array(images)))


@st.composite
def _pairs(draw: st.DrawFn) -> tuple[Estimate, Estimate]:
    """Two runs on the same images, some classes in one or two of them, some resamples undefined."""
    classes, resamples = draw(st.integers(1, 5)), draw(st.integers(1, 8))
    images = draw(st.lists(st.integers(1, 9), min_size=classes, max_size=classes))
    undefined = np.array(draw(st.lists(st.booleans(), min_size=resamples, max_size=resamples)))

    def run() -> Estimate:
        values = draw(st.lists(_NUMBERS, min_size=classes, max_size=classes))
        samples = draw(st.lists(_NUMBERS, min_size=resamples, max_size=resamples))
        one = _estimate(values, images, samples)
        return Estimate(one.value, np.where(undefined, np.nan, one.samples), one.classes)

    return run(), run()


@settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(_pairs())
def test_a_difference_lies_in_the_middle_of_its_interval(pair: tuple[Estimate, Estimate]) -> None:
    a, b = pair
    apart = b - a
    assert apart.value == b.value - a.value
    interval, p = apart.ci95, apart.p_positive
    assert (interval is None) == (p is None) == (apart.sd is None)
    if interval is None or p is None:
        return
    low, high = interval
    assert low <= apart.value <= high
    assert high - apart.value == pytest.approx(apart.value - low, abs=1e-12)
    # sign and significance of interval and probability agree, and A against B is B against A
    back = a - b
    assert back.ci95 == (-high, -low)
    assert back.p_positive == pytest.approx(1 - p, abs=1e-12)
    if abs(p - 0.975) > 1e-6 and abs(p - 0.025) > 1e-6:
        assert (low > 0) == (p > 0.975)
        assert (high < 0) == (p < 0.025)


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(federated_sets(), st.integers(0, 3), st.sampled_from(sorted(PROTOCOLS)))
def test_differences_of_scored_runs_lie_in_their_intervals(
    drawn: tuple[Json, list[Json]], seed: int, protocol: str
) -> None:
    annotations, results = drawn
    gt = oracles.ground_truth(annotations)
    runs = [
        evaluate(gt, oracles.predictions(one), PROTOCOLS[protocol], keep_records=True, threads=1)
        for one in (results, results[: len(results) // 2 + 1])
    ]
    comparison = compare(gt, *runs, resamples=24, seed=seed)
    for one in comparison.differences.values():
        assert (one.ci95 is None) == (one.p_greater is None) == (one.sd is None)
        if one.ci95 is not None:
            assert one.ci95[0] <= number(one.delta) <= one.ci95[1]
    p = comparison.classes.p_greater
    assert (np.isnan(p) | ((p >= 0) & (p <= 1))).all()
    assert np.array_equal(np.isnan(p), np.isnan(comparison.classes.a))


def test_by_hand() -> None:
    """Three classes in one, two and four images."""
    one = _estimate([0.2, 0.5, 0.8], [1, 2, 4], [0.4, 0.5, 0.6, 0.7])
    # a class in one image: 1 - (1 / (1 - 1/e) - 1); in two: see ``_unseen_share``
    single = 1 - (1 / (1 - math.exp(-1)) - 1)
    counts = np.arange(1, 40)
    chance = scipy.stats.poisson.pmf(counts, 2)
    drawn = 1 - math.exp(-2)
    double = 1 - float((chance / counts).sum() / chance.sum()) / drawn - (1 / drawn - 1)
    unseen = (single * 0.3**2 + double * 0.0) * 3 / 2 / 9
    assert number(one.sd) == pytest.approx(math.sqrt(np.var([0.4, 0.5, 0.6, 0.7], ddof=1) + unseen))
    parts = np.array([1, 1 / 2, 1 / 4])
    degrees = parts.sum() ** 2 / (1 + 1 / 4 + 1 / 16 / 3)
    assert one.degrees == pytest.approx(degrees)
    half = scipy.stats.t.ppf(0.975, degrees) * number(one.sd)
    assert one.ci95 == pytest.approx((0.5 - half, 0.5 + half))
    assert one.p_positive == pytest.approx(scipy.stats.t.cdf(0.5 / number(one.sd), degrees))


def test_degrees_of_freedom() -> None:
    samples = [0.1, 0.2]
    assert _estimate([0.5] * 7, [1] * 7, samples).degrees == pytest.approx(7)
    assert _estimate([0.5] * 7, [4] * 7, samples).degrees == pytest.approx(21)
    assert _estimate([0.5], [30], samples).degrees == 29
    assert _estimate([0.5, math.nan], [30, 5], samples).degrees == 29


def test_one_image_and_one_sample_have_no_interval() -> None:
    assert _estimate([0.5], [1], [0.5, 0.5]).ci95 is None
    assert _estimate([0.5, 0.6], [3, 3], [0.5]).ci95 is None
    assert _estimate([0.5, 0.6], [3, 3], [0.5, math.nan]).p_positive is None


def test_nothing_against_nothing() -> None:
    one = _estimate([0.5, 0.6], [3, 3], [0.5, 0.6, 0.4])
    assert ((one - one).ci95, (one - one).p_positive) == ((0.0, 0.0), 0.5)
    np.testing.assert_array_equal(probability_above([1.0, -1.0, 0.0], [0.0, 0.0, 0.0], 5), [1.0, 0.0, 0.5])


def test_mean_over_runs() -> None:
    a, b = _estimate([0.2, 0.4], [1, 5], [0.3, 0.5]), _estimate([0.4, 0.8], [1, 5], [0.5, 0.9])
    both = Estimate.mean([a, b])
    assert both.value == pytest.approx(0.45)
    np.testing.assert_allclose(both.samples, [0.4, 0.7])
    np.testing.assert_allclose(both.classes.values, [0.3, 0.6])


@pytest.mark.parametrize("images", [1, 2, 3, 6])
def test_variance_of_a_mean_over_classes(images: int) -> None:
    """Images with one number each, all classes alike: the variance of the mean is known, and ``sd`` finds it."""
    rng = np.random.default_rng(images)
    classes, sets = 24, 300
    found = []
    for _ in range(sets):
        numbers = rng.normal(0, 1, (classes, images))
        weights = rng.multinomial(classes * images, np.full(classes * images, 1 / (classes * images)), 200)
        drawn = weights.reshape(200, classes, images)
        with np.errstate(invalid="ignore"):
            per_class = (drawn * numbers).sum(axis=2) / drawn.sum(axis=2)
        values = ClassValues(numbers.mean(axis=1), np.full(classes, images))
        found.append(number(Estimate(float(numbers.mean()), np.nanmean(per_class, axis=1), values).sd) ** 2)
    assert np.mean(found) == pytest.approx(1 / (classes * images), rel=0.1)


@pytest.mark.parametrize("images", [2, 3, 4, 10])
def test_variance_of_a_lone_class(images: int) -> None:
    rng = np.random.default_rng(images)
    drawn = rng.poisson(1, (20_000, images)).astype(np.float64)
    drawn = drawn[drawn.sum(axis=1) > 0]
    shown = np.mean([np.var(drawn @ numbers / drawn.sum(axis=1)) for numbers in rng.normal(0, 1, (300, images))])
    assert shown * lone_class_factor(images) == pytest.approx(1 / images, rel=0.12)


@pytest.mark.parametrize("name", sorted(PROTOCOLS))
def test_class_values_make_the_statistics(name: str) -> None:
    """The mean over the classes of each statistic is the statistic, and images are counted by hand."""
    annotations, results = random_set(11, 40, 6, 20)
    gt = oracles.ground_truth(annotations)
    evaluation = evaluate(gt, oracles.predictions(results), PROTOCOLS[name], keep_records=True, threads=1)
    estimates = bootstrap(gt, evaluation, resample_weights(gt.num_images, 8, 0)).estimates
    assert {"AP", "AP50", "AP75", "APs", "APm", "APl"} < set(estimates)
    for statistic, one in estimates.items():
        assert one.value == evaluation.metrics[statistic]
        assert np.nanmean(one.classes.values) == pytest.approx(one.value, abs=1e-12), statistic
    small: dict[int, set[int]] = {}
    for box in annotations["annotations"]:
        counts = not box["iscrowd"] or PROTOCOLS[name].federated
        if counts and 0 < box["area"] <= 32**2:
            small.setdefault(box["category_id"], set()).add(box["image_id"])
    wanted = [len(small.get(int(category), ())) for category in gt.categories.ids]
    assert estimates["APs"].classes.images.tolist() == wanted


@pytest.mark.parametrize(
    ("groups", "expected"),
    [
        ([[0.3], [0.4]], 0.25),  # √(0.09 + 0.16) / 2
        ([[0.3, 0.4]], 0.35),  # the same images: (0.3 + 0.4) / 2
        ([[0.1, 0.2], [0.4]], 0.5 / 3),  # √(0.3² + 0.4²) / 3
        ([[0.2]], 0.2),
        ([[0.2], [None]], None),
        ([], None),
    ],
)
def test_half_width_by_hand(groups: list[list[float | None]], expected: float | None) -> None:
    assert half_width_of_mean(groups) == (None if expected is None else pytest.approx(expected))


@given(st.lists(st.tuples(st.floats(0, 1), st.floats(1.96, 12.7)), min_size=1, max_size=8))
def test_the_half_width_of_a_mean_is_never_below_that_of_cochran_and_cox(sets: list[tuple[float, float]]) -> None:
    """Theirs is the sd of the mean times the mean of the t, weighted by variance."""
    sds, ts = np.array(sets).T
    variance = float(np.sum(sds**2))
    theirs = math.sqrt(variance) / len(sets) * float(np.sum(sds**2 * ts)) / variance if variance > 1e-200 else 0.0
    ours = half_width_of_mean([[float(half)] for half in sds * ts])
    assert ours is not None
    assert ours >= theirs * (1 - 1e-9)
