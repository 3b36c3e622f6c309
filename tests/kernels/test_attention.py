"""Attention against torch in double precision."""

from __future__ import annotations

import ctypes
from typing import Any

import numpy as np
import pytest
import torch

from ovd_bench.kernels.attention import _composed, attention
from ovd_bench.kernels.runtime import jittor
from ovd_bench.metrics.types import FloatArray
from ovd_bench.tests.kernels.checks import check

jt = jittor()


def _exact(q: Any, k: Any, v: Any, bias: FloatArray | None, scale: float) -> Any:
    logits = torch.einsum("bnhd,bmhd->bhnm", q, k) * scale
    if bias is not None:
        logits = logits + torch.tensor(bias)
    return torch.einsum("bhnm,bmhd->bnhd", logits.softmax(-1), v)


def _inputs(batch: int, queries: int, keys: int, heads: int, depth: int, seed: int = 0) -> list[FloatArray]:
    rng = np.random.default_rng(seed)
    return [rng.standard_normal((batch, n, heads, depth)) for n in (queries, keys, keys)]


@pytest.mark.parametrize(
    ("batch", "queries", "keys", "heads", "depth"),
    [
        (2, 50, 130, 3, 32),
        (1, 1, 1, 1, 1),
        (1, 49, 5, 2, 7),
        (1, 96, 97, 2, 64),
        (2, 3, 16, 1, 17),
        (1, 140, 300, 1, 8),
    ],
)
def test_equals_torch(batch: int, queries: int, keys: int, heads: int, depth: int) -> None:
    inputs = _inputs(batch, queries, keys, heads, depth)
    check(attention, lambda q, k, v: _exact(q, k, v, None, depth**-0.5), inputs)


@pytest.mark.parametrize("shape", [(1, 1, 1, 37), (2, 1, 20, 37), (1, 3, 1, 37), (2, 3, 20, 37), (2, 1, 1, 37)])
def test_bias_is_broadcast(shape: tuple[int, ...]) -> None:
    bias = np.random.default_rng(1).standard_normal(shape)
    bias[..., 5] = -np.inf
    bias[..., -1] = -1e9

    def ours(q: Any, k: Any, v: Any) -> Any:
        return attention(q, k, v, jt.array(bias.astype(str(q.dtype))), 0.3)

    check(ours, lambda q, k, v: _exact(q, k, v, bias, 0.3), _inputs(2, 20, 37, 3, 16))


def test_logits_far_apart() -> None:
    q, k, v = _inputs(1, 30, 40, 2, 16)
    check(attention, lambda q, k, v: _exact(q, k, v, None, 0.25), [50 * q, k, v], forward=1e-5)


def test_query_without_keys_is_nan_and_spoils_no_other() -> None:
    bias = np.zeros((1, 1, 9, 20), np.float32)
    bias[0, 0, 4] = -np.inf
    q, k, v = (jt.array(x.astype(np.float32)) for x in _inputs(2, 9, 20, 2, 8))
    out = attention(q, k, v, jt.array(bias)).numpy()
    np.testing.assert_array_equal(np.isnan(out).all((0, 2, 3)), np.arange(9) == 4)
    assert np.isfinite(np.delete(out, 4, 1)).all()


@pytest.mark.parametrize(("batch", "queries", "keys"), [(0, 4, 5), (1, 0, 5), (1, 4, 0)])
def test_nothing_in_nothing_out(batch: int, queries: int, keys: int) -> None:
    inputs = [jt.array(x.astype(np.float32)) for x in _inputs(batch, queries, keys, 2, 8)]
    out = attention(*inputs)
    assert out.shape == [batch, queries, 2, 8]
    assert not out.numpy().any()
    for grad, x in zip(jt.grad(out.sum(), inputs), inputs, strict=True):
        assert grad.shape == x.shape
        assert not grad.numpy().any()


def test_wrong_bias_is_refused() -> None:
    q, k, v = (jt.array(x.astype(np.float32)) for x in _inputs(2, 9, 20, 2, 8))
    for shape in [(1, 1, 9, 1), (3, 1, 9, 20), (9, 20)]:
        with pytest.raises(ValueError, match="bias of shape"):
            attention(q, k, v, jt.zeros(shape))


def test_composition_for_the_gpu_says_the_same() -> None:
    q, k, v = (jt.array(x.astype(np.float32)) for x in _inputs(2, 9, 20, 2, 8))
    bias = jt.array(np.random.default_rng(2).standard_normal((2, 1, 9, 20)).astype(np.float32))
    found = _composed(q, k, v, bias, 0.3).numpy()
    np.testing.assert_allclose(found, attention(q, k, v, bias, 0.3).numpy(), atol=1e-6)


def test_number_of_threads_changes_nothing() -> None:
    gomp = ctypes.CDLL("libgomp.so.1")
    before = gomp.omp_get_max_threads()
    results = []
    inputs = [jt.array(x.astype(np.float32)) for x in _inputs(2, 100, 90, 3, 16)]
    try:
        for threads in (1, 2, 5):
            gomp.omp_set_num_threads(threads)
            out = attention(*inputs)
            results.append([x.numpy() for x in (out, *jt.grad((out * out).sum(), inputs))])
    finally:
        gomp.omp_set_num_threads(before)
    for other in results[1:]:
        for first, second in zip(results[0], other, strict=True):
            np.testing.assert_array_equal(first, second)
