"""Operators against double precision: results in float32, gradients in float64."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch

from ovd_bench.kernels.runtime import jittor
from ovd_bench.metrics.types import FloatArray

jt = jittor()

Operator = Callable[..., Any]


@contextmanager
def double_precision() -> Iterator[None]:
    """Jittor keeps float64 arrays as they are."""
    before = jt.flags.auto_convert_64_to_32
    jt.flags.auto_convert_64_to_32 = 0
    try:
        yield
    finally:
        jt.flags.auto_convert_64_to_32 = before


def check(ours: Operator, exact: Operator, inputs: Sequence[FloatArray], forward: float = 2e-6) -> None:
    """Compare an operator with torch in float64.

    Args:
        ours: from Jittor variables to a Jittor variable.
        exact: the same from torch tensors.
        inputs: float64; all are differentiated.
        forward: largest error allowed in float32, relative to the largest value of the result. In float64 the result
            and all gradients must agree to 1e-12 in the same sense.
    """
    tensors = [torch.tensor(x, requires_grad=True) for x in inputs]
    expected = exact(*tensors)
    single = ours(*(jt.array(x.astype(np.float32)) for x in inputs))
    assert str(single.dtype) == "float32"
    close(single.numpy(), expected.detach().numpy(), forward)
    weights = np.random.default_rng(99).standard_normal(expected.shape)
    gradients = torch.autograd.grad(expected, tensors, torch.tensor(weights))
    with double_precision():
        variables = [jt.array(x) for x in inputs]
        result = ours(*variables)
        close(result.numpy(), expected.detach().numpy(), 1e-12)
        found = jt.grad((result * jt.array(weights)).sum(), variables)
        for ours_, theirs in zip(found, gradients, strict=True):
            assert str(ours_.dtype) == "float64"
            close(ours_.numpy(), theirs.numpy(), 1e-12)


def close(found: FloatArray, expected: FloatArray, tolerance: float) -> None:
    """Equal shapes, and differences within the tolerance times the largest expected value (at least 1)."""
    assert found.shape == expected.shape
    if found.size:
        assert np.abs(found - expected).max() <= tolerance * max(1.0, np.abs(expected).max())
