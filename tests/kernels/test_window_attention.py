"""Window attention against a dense one: every token of the padded map sees every other, those outside masked away."""

from __future__ import annotations

import ctypes
from functools import partial
from typing import Any

import numpy as np
import pytest
import torch

from ovd_bench.kernels.runtime import jittor
from ovd_bench.kernels.window_attention import _composed, window_attention
from ovd_bench.metrics.types import FloatArray
from ovd_bench.tests.kernels.checks import check

jt = jittor()

# batch, height, width, heads, depth, window, shift
CASES = {
    "whole windows": (1, 14, 21, 2, 32, 7, 0),
    "shifted": (1, 14, 21, 2, 32, 7, 3),
    "padded": (2, 9, 6, 3, 4, 4, 0),
    "padded and shifted": (2, 9, 6, 3, 4, 4, 2),
    "smaller than the window": (1, 3, 2, 1, 8, 7, 3),
    "window 12": (1, 12, 13, 1, 32, 12, 6),
    "one token": (1, 1, 1, 2, 5, 1, 0),
    "columns of one window": (1, 11, 3, 1, 17, 3, 1),
}


def _dense(qkv: Any, qkv_bias: Any, position_bias: Any, window: int, shift: int, heads: int) -> Any:
    batch, height, width, channels = qkv.shape
    rows, columns = (-(-n // window) * window for n in (height, width))
    full = qkv_bias.expand(batch, rows, columns, channels).clone()
    full[:, :height, :width] = qkv
    y, x = (axis.ravel() for axis in np.mgrid[:rows, :columns])
    y, x = (y - shift) % rows, (x - shift) % columns  # where the token is after the shift
    own = (y // window) * columns + x // window
    place = y % window * window + x % window
    down, across = (np.where(a < n - window, 0, np.where(a < n - shift, 1, 2)) for a, n in ((y, rows), (x, columns)))
    region = 3 * down + across
    q, k, v = full.reshape(batch, rows * columns, 3, heads, -1).permute(2, 0, 3, 1, 4)
    logits = q @ k.transpose(2, 3) * q.shape[-1] ** -0.5 + position_bias[:, place][:, :, place]
    if shift:
        logits = logits + torch.tensor(np.where(region[:, None] == region, 0.0, -100.0))
    logits = logits.masked_fill(torch.tensor(own[:, None] != own), -torch.inf)
    out = (logits.softmax(-1) @ v).transpose(1, 2).reshape(batch, rows, columns, channels // 3)
    return out[:, :height, :width]


def _inputs(case: str) -> tuple[list[FloatArray], dict[str, int]]:
    batch, height, width, heads, depth, window, shift = CASES[case]
    rng = np.random.default_rng(0)
    channels = 3 * heads * depth
    shapes = [(batch, height, width, channels), (channels,), (heads, window**2, window**2)]
    return [rng.standard_normal(shape) for shape in shapes], {"window": window, "shift": shift, "heads": heads}


@pytest.mark.parametrize("case", CASES)
def test_equals_dense_attention(case: str) -> None:
    inputs, settings = _inputs(case)
    check(partial(window_attention, **settings), partial(_dense, **settings), inputs)


def test_regions_are_a_hundred_apart_not_infinitely() -> None:
    """Where the keys of the own region are far less alike than those of another one, the others are seen."""
    inputs, settings = _inputs("padded and shifted")
    inputs[0] *= 20
    check(partial(window_attention, **settings), partial(_dense, **settings), inputs, forward=2e-5)


@pytest.mark.parametrize("case", ["padded and shifted", "whole windows"])
def test_composition_for_the_gpu_says_the_same(case: str) -> None:
    arrays, settings = _inputs(case)
    inputs = [jt.array(x.astype(np.float32)) for x in arrays]
    found = _composed(*inputs, **settings).numpy()
    np.testing.assert_allclose(found, window_attention(*inputs, **settings).numpy(), atol=2e-6)


def test_no_maps() -> None:
    out = window_attention(jt.zeros((0, 5, 5, 12)), jt.zeros(12), jt.zeros((2, 4, 4)), 2, 1, 2)
    assert out.shape == [0, 5, 5, 4]
    assert out.numpy().size == 0


def test_number_of_threads_changes_nothing() -> None:
    gomp = ctypes.CDLL("libgomp.so.1")
    before = gomp.omp_get_max_threads()
    arrays, settings = _inputs("padded and shifted")
    inputs = [jt.array(x.astype(np.float32)) for x in arrays]
    results = []
    try:
        for threads in (1, 2, 5):
            gomp.omp_set_num_threads(threads)
            out = window_attention(*inputs, **settings)
            results.append([x.numpy() for x in (out, *jt.grad((out * out).sum(), inputs))])
    finally:
        gomp.omp_set_num_threads(before)
    for other in results[1:]:
        for first, second in zip(results[0], other, strict=True):
            np.testing.assert_array_equal(first, second)
