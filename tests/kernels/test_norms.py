"""Layer and group normalisation against torch in double precision."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch.nn.functional as F  # noqa: N812

from ovd_bench.kernels.norms import _normalised, group_norm, layer_norm
from ovd_bench.kernels.runtime import jittor
from ovd_bench.metrics.types import FloatArray
from ovd_bench.tests.kernels.checks import check, close

jt = jittor()


def _inputs(shape: tuple[int, ...], channels: int) -> list[FloatArray]:
    rng = np.random.default_rng(0)
    return [rng.standard_normal(shape) * 2 + 1, rng.standard_normal(channels), rng.standard_normal(channels)]


@pytest.mark.parametrize("shape", [(5, 32), (2, 3, 96), (7, 2), (200, 5), (1, 768), (33,), (0, 8), (2, 0, 8)])
def test_layer_norm_equals_torch(shape: tuple[int, ...]) -> None:
    check(
        lambda x, w, b: layer_norm(x, w, b, 1e-3),
        lambda x, w, b: F.layer_norm(x, (shape[-1],), w, b, 1e-3),
        _inputs(shape, shape[-1]),
    )


@pytest.mark.parametrize(
    ("shape", "groups"),
    [
        ((2, 8, 5, 7), 4),
        ((1, 6, 1, 1), 2),
        ((1, 64, 100, 83), 2),
        ((3, 4, 2, 9), 1),
        ((2, 5, 3, 3), 5),
        ((0, 4, 3, 3), 2),
    ],
)
def test_group_norm_equals_torch(shape: tuple[int, ...], groups: int) -> None:
    check(
        lambda x, w, b: group_norm(x, groups, w, b, 1e-5),
        lambda x, w, b: F.group_norm(x, groups, w, b, 1e-5),
        _inputs(shape, shape[1]),
    )


def _far_from_zero(shape: tuple[int, ...]) -> Any:
    return np.random.default_rng(0).standard_normal(shape).astype(np.float32) + np.float32(300)


def test_layer_norm_far_from_zero() -> None:
    """Mean 300, deviation 1: a one-pass variance is off by 0.1 there. The input's own grain is 3e-5."""
    x = _far_from_zero((50, 256))
    centred = x.astype(np.float64) - x.astype(np.float64).mean(1, keepdims=True)
    exact = centred / np.sqrt((centred**2).mean(1, keepdims=True) + 1e-5)
    y = layer_norm(jt.array(x), jt.ones(256), jt.zeros(256), 1e-5).numpy()
    assert np.abs(y - exact).max() < 1e-4


def test_group_norm_of_a_large_map_far_from_zero() -> None:
    x = _far_from_zero((1, 16, 100, 167))
    split = x.astype(np.float64).reshape(1, 2, -1)
    centred = split - split.mean(2, keepdims=True)
    exact = centred / np.sqrt((centred**2).mean(2, keepdims=True) + 1e-5)
    y = group_norm(jt.array(x), 2, jt.ones(16), jt.zeros(16), 1e-5).numpy()
    assert np.abs(y - exact.reshape(x.shape)).max() < 1e-4


def test_constant_rows_give_the_bias() -> None:
    y = layer_norm(jt.ones((3, 40)) * 7.3, jt.ones(40), jt.ones(40) * 0.5, 1e-5).numpy()
    np.testing.assert_allclose(y, 0.5, atol=1e-3)


def test_composition_for_the_gpu_says_the_same() -> None:
    x = np.random.default_rng(0).standard_normal((7, 33)).astype(np.float32)
    y = layer_norm(jt.array(x), jt.ones(33), jt.zeros(33), 1e-5).numpy()
    close(_normalised(jt.array(x), 1e-5).numpy(), y, 2e-6)


def test_groups_must_divide_the_channels() -> None:
    with pytest.raises(ValueError, match="6 channels cannot be divided into 4 groups"):
        group_norm(jt.zeros((1, 6, 2, 2)), 4, jt.ones(6), jt.zeros(6), 1e-5)
