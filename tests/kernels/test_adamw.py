"""A step of AdamW in one pass; the test of the optimiser compares it with torch."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest

from ovd_bench.kernels.adamw import _composed, adamw, adamw_numbers, squared_length
from ovd_bench.kernels.runtime import jittor
from ovd_bench.tests.kernels.test_threads import _set_threads

jt = jittor()

NUMBERS: dict[str, Any] = {
    "betas": (0.9, 0.98),
    "eps": 1e-8,
    "rate": 0.01,
    "decay": 0.05,
    "step": 3,
    "average_decay": 0.9,
}


@pytest.fixture
def threads() -> Iterator[Callable[[int], int]]:
    before = _set_threads(1)
    yield _set_threads
    _set_threads(before)


def _inputs(shape: tuple[int, ...]) -> list[Any]:
    """Value, gradient, moments and average."""
    drawn = np.random.default_rng(0).standard_normal((5, *shape)).astype(np.float32)
    drawn[3] **= 2
    return [jt.array(x) for x in drawn]


def _step(inputs: list[Any], how: Callable[..., Any] = adamw) -> list[Any]:
    found = how(*inputs, jt.array(np.array([0.3], np.float32)), adamw_numbers(**NUMBERS))
    return [None if x is None else x.numpy() for x in found]


@pytest.mark.parametrize("shape", [(1,), (7, 3), (2, 3, 4, 5), (300, 301), (0, 3)])
@pytest.mark.parametrize("averaged", [True, False])
def test_composition_for_the_gpu_says_the_same(shape: tuple[int, ...], averaged: bool) -> None:
    inputs = _inputs(shape)
    if not averaged:
        inputs[4] = None
    for one, other in zip(_step(inputs), _step(inputs, _composed), strict=True):
        if one is None:
            assert other is None
        else:
            np.testing.assert_allclose(one, other, rtol=2e-6, atol=1e-7)


def test_number_of_threads_changes_nothing(threads: Callable[[int], int]) -> None:
    inputs = _inputs((400, 301))
    results = []
    for count in (1, 3):
        threads(count)
        results.append([*_step(inputs), squared_length(inputs[0]).numpy()])
    for one, other in zip(*results, strict=True):
        np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize("count", [0, 1, 5000, 100_001])
def test_squared_length(count: int) -> None:
    x = np.random.default_rng(0).standard_normal(count).astype(np.float32)
    expected = [(x.astype(np.float64) ** 2).sum()]
    np.testing.assert_allclose(squared_length(jt.array(x)).numpy(), expected, rtol=1e-6)


def test_what_is_no_number_shows() -> None:
    x = np.ones(100_000, np.float32)
    for bad in (np.nan, np.inf):
        x[54_321] = bad
        assert not np.isfinite(squared_length(jt.array(x)).numpy()).any()
