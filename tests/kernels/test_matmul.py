"""Products of batches of matrices against torch in double precision."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from ovd_bench.kernels.matmul import _composed, bmm
from ovd_bench.kernels.runtime import jittor
from ovd_bench.metrics.types import FloatArray
from ovd_bench.tests.kernels.checks import check, close

jt = jittor()


def _inputs(batch: int, m: int, k: int, n: int, transpose_a: bool, transpose_b: bool) -> list[FloatArray]:
    rng = np.random.default_rng(0)
    shapes = (batch, k, m) if transpose_a else (batch, m, k), (batch, n, k) if transpose_b else (batch, k, n)
    return [rng.standard_normal(shape) for shape in shapes]


def _exact(a: torch.Tensor, b: torch.Tensor, transpose_a: bool, transpose_b: bool) -> torch.Tensor:
    return (a.mT if transpose_a else a) @ (b.mT if transpose_b else b)


@pytest.mark.parametrize("transpose_a", [False, True])
@pytest.mark.parametrize("transpose_b", [False, True])
@pytest.mark.parametrize(
    "sizes", [(3, 5, 4, 7), (1, 1, 1, 1), (1, 210, 3, 270), (20, 2, 6, 3), (0, 2, 3, 4), (2, 0, 3, 4), (2, 3, 0, 4)]
)
def test_equals_torch(sizes: tuple[int, int, int, int], transpose_a: bool, transpose_b: bool) -> None:
    check(
        lambda a, b: bmm(a, b, transpose_a, transpose_b),
        lambda a, b: _exact(a, b, transpose_a, transpose_b),
        _inputs(*sizes, transpose_a, transpose_b),
        forward=1e-6,
    )


@pytest.mark.parametrize("transpose_a", [False, True])
@pytest.mark.parametrize("transpose_b", [False, True])
def test_gradients_in_single_precision(transpose_a: bool, transpose_b: bool) -> None:
    """On oneDNN, with sizes that are cut into several tiles."""
    inputs = [x.astype(np.float32) for x in _inputs(2, 250, 64, 300, transpose_a, transpose_b)]
    weights = np.random.default_rng(1).standard_normal((2, 250, 300)).astype(np.float32)
    variables = [jt.array(x) for x in inputs]
    found = jt.grad((bmm(variables[0], variables[1], transpose_a, transpose_b) * jt.array(weights)).sum(), variables)
    tensors = [torch.tensor(x, dtype=torch.float64, requires_grad=True) for x in inputs]
    product = _exact(tensors[0], tensors[1], transpose_a, transpose_b)
    for ours, exact in zip(found, torch.autograd.grad(product, tensors, torch.tensor(weights).double()), strict=True):
        close(ours.numpy(), exact.numpy(), 2e-6)


@pytest.mark.parametrize("transpose_a", [False, True])
def test_composition_for_the_gpu_says_the_same(transpose_a: bool) -> None:
    a, b = (jt.array(x.astype(np.float32)) for x in _inputs(3, 5, 6, 7, transpose_a, not transpose_a))
    close(_composed(a, b, transpose_a, not transpose_a).numpy(), bmm(a, b, transpose_a, not transpose_a).numpy(), 1e-6)


@pytest.mark.parametrize("shapes", [((2, 3, 4), (2, 5, 6)), ((2, 3, 4), (3, 4, 5))])
def test_sizes_that_do_not_fit(shapes: tuple[tuple[int, ...], tuple[int, ...]]) -> None:
    with pytest.raises(ValueError, match="do not fit"):
        bmm(jt.zeros(shapes[0]), jt.zeros(shapes[1]))
