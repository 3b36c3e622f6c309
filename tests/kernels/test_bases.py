"""Gradients that are computed once."""

from __future__ import annotations

from typing import Any

import numpy as np

from ovd_bench.kernels.bases import Function, gradients_once
from ovd_bench.kernels.linear import linear
from ovd_bench.kernels.runtime import jittor

jt = jittor()


class _Square(Function):
    def execute(self, x: Any) -> Any:
        self.saved = x
        return x * x

    def grad(self, grad: Any) -> Any:
        return 2 * self.saved * grad


def test_gradients_once() -> None:
    """As Jittor's own; what was kept for them is let go."""
    rng = np.random.default_rng(0)
    x, weight = (jt.array(rng.standard_normal(shape).astype(np.float32)) for shape in ((5, 4), (3, 4)))
    bias = jt.array(np.zeros(3, np.float32))
    results = []
    for take in (jt.grad, gradients_once):
        square = _Square()
        loss = square(linear(x, weight, bias)).sum()
        results.append([gradient.numpy() for gradient in take(loss, [x, weight, bias])])
        assert ("saved" in vars(square)) == (take is jt.grad)
    for one, other in zip(*results, strict=True):
        np.testing.assert_array_equal(one, other)


def test_jittors_own_can_be_asked_for_again() -> None:
    x = jt.array(np.ones((2, 4), np.float32))
    y = linear(x, jt.array(np.ones((3, 4), np.float32)), jt.array(np.zeros(3, np.float32)))
    first, second = (jt.grad((y * scale).sum(), [x])[0].numpy() for scale in (1, 2))
    np.testing.assert_array_equal(first, np.full((2, 4), 3.0))
    np.testing.assert_array_equal(second, np.full((2, 4), 6.0))
