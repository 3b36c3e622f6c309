"""Linear layers against torch in double precision."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch.nn.functional as F  # noqa: N812

from ovd_bench.kernels.linear import Activation, _composed, linear
from ovd_bench.kernels.runtime import jittor
from ovd_bench.tests.kernels.checks import check, close

jt = jittor()

ACTIVATIONS: dict[Activation, Any] = {"none": lambda x: x, "relu": F.relu, "gelu": F.gelu}


@pytest.mark.parametrize("activation", ACTIVATIONS)
@pytest.mark.parametrize(
    ("shape", "outputs"),
    [((5, 7), 3), ((2, 97, 32), 20), ((1, 9), 300), ((200, 16), 17), ((8,), 4), ((0, 6), 5), ((3, 6), 0)],
)
def test_equals_torch(activation: Activation, shape: tuple[int, ...], outputs: int) -> None:
    rng = np.random.default_rng(0)
    inputs = [rng.standard_normal(size) for size in (shape, (outputs, shape[-1]), (outputs,))]
    check(
        lambda x, w, b: linear(x, w, b, activation),
        lambda x, w, b: ACTIVATIONS[activation](F.linear(x, w, b)),
        inputs,
        forward=1e-6,
    )


@pytest.mark.parametrize(
    ("rows", "inputs", "outputs"), [(5000, 40, 24), (2000, 7, 260), (100, 30, 700)], ids=["long", "wide", "short"]
)
def test_gradients_in_single_precision(rows: int, inputs: int, outputs: int) -> None:
    """Sizes that are cut along rows, columns and the inner dimension, on oneDNN; against products in float64."""
    rng = np.random.default_rng(0)
    x, w, g = (
        rng.standard_normal(size).astype(np.float32) for size in ((rows, inputs), (outputs, inputs), (rows, outputs))
    )
    variables = [jt.array(x), jt.array(w), jt.zeros(outputs)]
    found = jt.grad((linear(*variables) * jt.array(g)).sum(), variables)
    x64, w64, g64 = (v.astype(np.float64) for v in (x, w, g))
    for ours, exact in zip(found, (g64 @ w64, g64.T @ x64, g64.sum(0)), strict=True):
        close(ours.numpy(), exact, 2e-6)


def test_without_bias() -> None:
    rng = np.random.default_rng(0)
    check(lambda x, w: linear(x, w, None), F.linear, [rng.standard_normal((4, 6)), rng.standard_normal((5, 6))])


def test_non_contiguous_input() -> None:
    rng = np.random.default_rng(0)
    inputs = [rng.standard_normal(size) for size in ((6, 4), (5, 6), (5,))]
    check(lambda x, w, b: linear(x.transpose(1, 0), w, b), lambda x, w, b: F.linear(x.T, w, b), inputs)


@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_composition_for_the_gpu_says_the_same(activation: Activation) -> None:
    rng = np.random.default_rng(0)
    x, w, b = (jt.array(rng.standard_normal(size).astype(np.float32)) for size in ((9, 6), (5, 6), (5,)))
    close(_composed(x, w, b, activation).numpy(), linear(x, w, b, activation).numpy(), 1e-6)
