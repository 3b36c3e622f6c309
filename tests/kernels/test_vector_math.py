"""The exp and erf of the kernels against double precision."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.special import erf

from ovd_bench.kernels.binding import cpu_op
from ovd_bench.kernels.runtime import jittor
from ovd_bench.metrics.types import FloatArray

jt = jittor()
_SMALLEST = 2.0**-126


def _apply(name: str, x: FloatArray) -> FloatArray:
    loop = f"for (int64_t i = 0; i < in0->num; ++i) out0_p[i] = ovd::fast_{name}(in0_p[i]);"
    return np.asarray(cpu_op([x.shape], [jt.array(x)], ["vector_math.h"], loop)[0].numpy())


def _ulps(got: FloatArray, exact: FloatArray) -> FloatArray:
    """Distance in float32 units in the last place of the exact value; all values are normal numbers."""
    return np.asarray(np.abs(got - exact) / 2.0 ** (np.floor(np.log2(np.abs(exact))) - 23))


def _floats(low: float, high: float, step: int) -> FloatArray:
    """Every step-th float32 of a range of positive numbers."""
    first, last = np.array([low, high], np.float32).view(np.int32)
    return np.arange(first, last, step, dtype=np.int32).view(np.float32)


def test_exp_is_within_two_units_in_the_last_place() -> None:
    x = np.concatenate([_floats(1e-9, 88.722, 997), -_floats(1e-9, 87.336, 997)])
    assert _ulps(_apply("exp", x), np.exp(x.astype(np.float64))).max() < 1.1


def test_erf_is_within_two_units_in_the_last_place() -> None:
    x = np.concatenate([_floats(1e-30, 20.0, 997), _floats(0.85, 0.95, 7)])
    x = np.concatenate([x, -x])
    assert _ulps(_apply("erf", x), erf(x.astype(np.float64))).max() < 1.2


@pytest.mark.parametrize(
    ("name", "x", "expected"),
    [
        ("exp", [0.0, -np.inf, np.inf, 88.7229, 1000.0, -1000.0, -87.4], [1.0, 0.0, np.inf, np.inf, np.inf, 0.0, 0.0]),
        ("erf", [0.0, -np.inf, np.inf, 3.9e30, -5.0], [0.0, -1.0, 1.0, 1.0, -1.0]),
    ],
)
def test_ends_of_the_range(name: str, x: list[float], expected: list[float]) -> None:
    np.testing.assert_array_equal(_apply(name, np.array(x, np.float32)), np.array(expected, np.float32))


@pytest.mark.parametrize("name", ["exp", "erf"])
def test_nan_stays_nan_in_every_lane(name: str) -> None:
    x = np.zeros(67, np.float32)
    x[::3] = np.nan
    np.testing.assert_array_equal(np.isnan(_apply(name, x)), np.isnan(x))


@pytest.mark.parametrize("name", ["exp", "erf"])
def test_below_the_normal_numbers(name: str) -> None:
    tiny = np.array([1e-40, -1e-40, -88.0, -103.0], np.float32)
    exact = {"exp": np.exp, "erf": erf}[name](tiny.astype(np.float64))
    assert np.abs(_apply(name, tiny) - exact).max() <= _SMALLEST
