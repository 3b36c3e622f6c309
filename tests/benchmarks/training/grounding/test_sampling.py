"""Epochs: their content, how they are cut, and resuming at any place."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ovd_bench.benchmarks.training.grounding.sampling import Sampler, repeat_factors
from ovd_bench.metrics.errors import DataError
from ovd_bench.metrics.types import Ragged


def _sampler(repeats: list[float], batch: int = 2, wide: list[bool] | None = None, seed: int = 0) -> Sampler:
    buckets = None if wide is None else np.array(wide, np.bool_)
    return Sampler(np.array(repeats, np.float64), buckets, batch=batch, seed=seed)


def test_an_epoch_holds_every_record_once_in_an_order_of_its_own() -> None:
    sampler = _sampler([1.0] * 12, 3)
    assert sampler.batches == 4
    epochs = [sampler.plan(epoch).ravel().tolist() for epoch in range(5)]
    assert all(sorted(epoch) == list(range(12)) for epoch in epochs)
    assert len({tuple(epoch) for epoch in epochs}) == 5
    assert _sampler([1.0] * 12, 3, seed=1).plan(0).ravel().tolist() != epochs[0]


def test_what_is_left_over_changes() -> None:
    sampler = _sampler([1.0] * 10, 4)
    left = {tuple(sorted(set(range(10)) - set(sampler.plan(epoch).ravel().tolist()))) for epoch in range(10)}
    assert all(len(one) == 2 for one in left)
    assert len(left) > 5


def test_a_batch_depends_on_its_number_alone() -> None:
    repeats, wide = [1.0, 2.5, 0.3, 1.0, 1.7, 1.0, 0.9], [True, False, True, True, False, False, True]
    first = _sampler(repeats, 2, wide)
    batches = [first.records_of(number).tolist() for number in range(20)]
    for number in (19, 3, 11, 0):
        assert _sampler(repeats, 2, wide).records_of(number).tolist() == batches[number]


@settings(max_examples=60, deadline=None)
@given(
    repeats=st.lists(st.floats(0.01, 4), min_size=1, max_size=30),
    batch=st.integers(1, 5),
    data=st.data(),
)
def test_repeats_are_met_on_average_and_epochs_are_equally_long(
    repeats: list[float], batch: int, data: st.DataObject
) -> None:
    wide = data.draw(st.none() | st.lists(st.booleans(), min_size=len(repeats), max_size=len(repeats)))
    if sum(repeats) < batch + 0.01:
        return
    sampler = _sampler(repeats, batch, wide)
    counts = np.zeros(len(repeats))
    epochs = 40
    for epoch in range(epochs):
        plan = sampler.plan(epoch)
        assert plan.shape == (sampler.batches, batch)
        once = np.bincount(plan.ravel(), minlength=len(repeats))
        assert (once <= np.ceil(repeats)).all()
        counts += once
    assert sampler.batches == pytest.approx(sum(repeats) / batch, abs=1)
    assert (counts / epochs <= np.array(repeats) + 0.45).all()


def test_fractions_are_rounded_anew_each_epoch() -> None:
    repeats = [0.5] * 10 + [2.25] * 10 + [1.0] * 10
    sampler = _sampler(repeats, 1)
    counts = np.stack([np.bincount(sampler.plan(epoch).ravel(), minlength=30) for epoch in range(400)])
    assert sampler.batches == 37  # 5 + 22.5 + 10
    # one of up to 38 is left over now and then; the standard deviation of a mean is at most 0.025
    np.testing.assert_allclose(counts.mean(axis=0), repeats, atol=0.1)
    assert set(counts[:, :10].ravel()) == {0, 1}
    assert set(counts[:, 10:20].ravel()) >= {2, 3}
    assert len(np.unique(counts[:, :10], axis=0)) > 100


def test_wide_and_other_images_are_apart_but_for_what_is_left_over() -> None:
    wide = [index % 3 == 0 for index in range(32)]  # 11 wide, 21 others
    sampler = _sampler([1.0] * 32, 4, wide)
    for epoch in range(5):
        plan = sampler.plan(epoch)
        assert sorted(plan.ravel().tolist()) == list(range(32))
        shares = np.array(wide)[plan].mean(axis=1)
        assert ((shares > 0) & (shares < 1)).sum() == 1  # 3 wide and 1 other are left over
    places = {int(np.flatnonzero((s := np.array(wide)[sampler.plan(e)].mean(axis=1)) * (1 - s))[0]) for e in range(20)}
    assert len(places) > 3  # batches are shuffled


def test_repeat_factors_are_those_of_lvis() -> None:
    labels = Ragged(np.array([0, 2, 3, 3, 4]), np.array([0, 2, 0, 0], np.int32))  # 0 in 3 of 4 images, 2 in 1
    np.testing.assert_allclose(repeat_factors(labels, 3, 0.5), [np.sqrt(2), 1, 1, 1])
    np.testing.assert_allclose(repeat_factors(labels, 3, 1.0), [2, np.sqrt(4 / 3), 1, np.sqrt(4 / 3)])
    np.testing.assert_array_equal(repeat_factors(labels, 3, 0.0), 1)
    np.testing.assert_array_equal(repeat_factors(Ragged(np.zeros(4, np.int64), np.zeros(0, np.int32)), 0, 0.1), 1)


def test_less_than_a_batch_is_an_error() -> None:
    with pytest.raises(DataError, match=r"batch of 4 images needs .* has 3"):
        _sampler([1.0] * 3, 4)


def test_an_objects365_of_records_is_planned() -> None:
    count = 1_700_000
    rng = np.random.default_rng(0)
    sampler = Sampler(1 + rng.random(count), rng.random(count) < 0.7, batch=64, seed=0)
    plan = sampler.plan(0)
    assert plan.shape == (sampler.batches, 64)
    counts = np.bincount(plan.ravel(), minlength=count)
    assert set(counts.tolist()) == {0, 1, 2}
    assert (counts == 0).sum() < 64
