"""The logistic function against PyTorch's, and the same on all machines."""

from __future__ import annotations

import hashlib

import numpy as np
import numpy.typing as npt
import pytest
import torch

from ovd_bench.detectors.sigmoid import sigmoid

#: PyTorch's blocks are shorter on other processors.
_SAME_BITS = torch.backends.cpu.get_cpu_capability() == "AVX512"
_ODD = (np.inf, -np.inf, np.nan, 0.0, -0.0, 1e30, -1e30, 1e-40, 88.72, -88.72, 100.0, -100.0, 103.9, -104.1)


def _same(ours: npt.NDArray[np.float32], theirs: torch.Tensor) -> None:
    if _SAME_BITS:
        np.testing.assert_array_equal(ours.view(np.int32), theirs.numpy().view(np.int32))
    else:
        np.testing.assert_allclose(ours, theirs.numpy(), rtol=4e-7, atol=0)


@pytest.mark.parametrize("width", [1, 5, 31, 32, 33, 63, 64, 100, 193, 255, 256])
def test_logits_of_a_caption_have_the_bits_of_torch(width: int) -> None:
    """Rows of 256 logits, of which the caption has the first: PyTorch goes through them row by row."""
    for spread in (0.5, 3, 40):
        logits = np.random.default_rng(width).normal(-3, spread, (100, 256)).astype(np.float32)
        _same(sigmoid(logits[:, :width]), torch.from_numpy(logits)[:, :width].sigmoid())


def test_rows_without_a_gap_are_one_row_to_torch() -> None:
    logits = np.random.default_rng(0).normal(-3, 3, (17, 91)).astype(np.float32)
    _same(sigmoid(logits.reshape(1, -1)).reshape(logits.shape), torch.from_numpy(logits).sigmoid())


@pytest.mark.parametrize("width", [len(_ODD), 32])
def test_odd_numbers(width: int) -> None:
    row = np.resize(np.array(_ODD, np.float32), (1, width))
    ours, theirs = sigmoid(row), torch.from_numpy(row).sigmoid()
    np.testing.assert_array_equal(np.isnan(ours), np.isnan(row))
    _same(np.nan_to_num(ours), torch.nan_to_num(theirs))
    assert sigmoid(np.empty((3, 0), np.float32)).shape == (3, 0)
    assert sigmoid(np.empty((0, 40), np.float32)).shape == (0, 40)


def test_values_are_exact_to_a_rounding_or_two() -> None:
    logits = np.linspace(-80, 80, 40_000, dtype=np.float32).reshape(-1, 40)
    exact = 1 / (1 + np.exp(-logits.astype(np.float64)))
    np.testing.assert_allclose(sigmoid(logits), exact, rtol=2.5e-7, atol=0)


def test_bits_are_the_same_on_every_machine() -> None:
    logits = (np.arange(-40_000, 40_000, dtype=np.float32) / np.float32(1024)).reshape(-1, 50)
    assert hashlib.sha256(sigmoid(logits).tobytes()).hexdigest()[:16] == "13caac92fb6417fa"
