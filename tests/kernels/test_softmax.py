"""Softmax against torch in double precision."""

from __future__ import annotations

import numpy as np
import pytest

from ovd_bench.kernels.runtime import jittor
from ovd_bench.kernels.softmax import _composed, softmax
from ovd_bench.tests.kernels.checks import check

jt = jittor()


@pytest.mark.parametrize(
    "shape", [(5, 16), (2, 3, 900), (7, 1), (3, 49), (4, 63), (4, 64), (2, 2, 2, 97), (16,), (0, 16), (3, 0)]
)
def test_equals_torch(shape: tuple[int, ...]) -> None:
    x = np.random.default_rng(0).standard_normal(shape) * 5
    check(softmax, lambda t: t.softmax(-1), [x], forward=5e-7)


def test_non_contiguous_input() -> None:
    x = np.random.default_rng(0).standard_normal((40, 9))
    check(lambda v: softmax(v.transpose(1, 0)), lambda t: t.T.softmax(-1), [x], forward=5e-7)


def test_composition_for_the_gpu_says_the_same() -> None:
    x = jt.array(np.random.default_rng(0).standard_normal((7, 33)).astype(np.float32))
    np.testing.assert_allclose(_composed(x).numpy(), softmax(x).numpy(), atol=1e-6)


@pytest.mark.parametrize("width", [5, 16, 100])
def test_masked_entries(width: int) -> None:
    x = np.random.default_rng(0).standard_normal((4, width)).astype(np.float32)
    x[0, 1:] = -np.inf
    x[1] = -np.inf
    x[2, ::2] = -np.inf
    y = softmax(jt.array(x)).numpy()
    np.testing.assert_array_equal(y[0], [1.0, *[0.0] * (width - 1)])
    assert np.isnan(y[1]).all()
    assert (y[2, ::2] == 0).all()
    np.testing.assert_allclose(y[2:].sum(1), 1.0, atol=1e-6)


def test_huge_values_do_not_overflow() -> None:
    np.testing.assert_array_equal(softmax(jt.array([[3e38, -3e38, 3e38]])).numpy(), [[0.5, 0.0, 0.5]])


def test_nan_spoils_its_row_only() -> None:
    x = np.zeros((3, 70), np.float32)
    x[1, 50] = np.nan
    np.testing.assert_array_equal(np.isnan(softmax(jt.array(x)).numpy()).all(1), [False, True, False])
