"""Two linear layers in one operator against torch in double precision."""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F  # noqa: N812

from ovd_bench.kernels.feed_forward import Activation, _composed, feed_forward
from ovd_bench.kernels.runtime import jittor
from ovd_bench.metrics.types import FloatArray
from ovd_bench.tests.kernels.checks import check, close

jt = jittor()

ACTIVATIONS: dict[Activation, Any] = {"relu": F.relu, "gelu": F.gelu}


def _inputs(shape: tuple[int, ...], hidden: int, outputs: int) -> list[FloatArray]:
    rng = np.random.default_rng(0)
    width = shape[-1]
    sizes = (shape, (hidden, width), (hidden,), (outputs, hidden), (outputs,))
    return [rng.standard_normal(size) / np.sqrt(size[-1]) for size in sizes]


def _exact(activation: Activation) -> Any:
    return lambda x, w1, b1, w2, b2: F.linear(ACTIVATIONS[activation](F.linear(x, w1, b1)), w2, b2)


@pytest.mark.parametrize("activation", ACTIVATIONS)
@pytest.mark.parametrize(
    ("shape", "hidden", "outputs"),
    [((5, 7), 11, 3), ((2, 50, 6), 600, 5), ((800, 4), 20, 4), ((9,), 5, 2), ((0, 3), 4, 5), ((1100, 2), 8192, 2)],
    ids=["few", "many hidden", "many rows", "vector", "none", "two ranges of rows"],
)
def test_equals_torch(activation: Activation, shape: tuple[int, ...], hidden: int, outputs: int) -> None:
    check(
        partial(feed_forward, activation=activation),
        _exact(activation),
        _inputs(shape, hidden, outputs),
        forward=1e-6,
    )


@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_single_precision_at_a_size_that_is_cut(activation: Activation) -> None:
    """Rows and hidden units in several pieces, on oneDNN."""
    inputs = [x.astype(np.float32) for x in _inputs((1700, 20), 700, 24)]
    weights = np.random.default_rng(1).standard_normal((1700, 24)).astype(np.float32)
    variables = [jt.array(x) for x in inputs]
    y = partial(feed_forward, activation=activation)(*variables)
    found = [y, *jt.grad((y * jt.array(weights)).sum(), variables)]
    tensors = [torch.tensor(x, dtype=torch.float64, requires_grad=True) for x in inputs]
    exact = _exact(activation)(*tensors)
    expected = [exact, *torch.autograd.grad(exact, tensors, torch.tensor(weights).double())]
    for ours, theirs in zip(found, expected, strict=True):
        close(ours.numpy(), theirs.detach().numpy(), 3e-6)


@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_composition_for_the_gpu_says_the_same(activation: Activation) -> None:
    variables = [jt.array(x.astype(np.float32)) for x in _inputs((9, 6), 12, 5)]
    close(
        partial(_composed, activation=activation)(*variables).numpy(),
        partial(feed_forward, activation=activation)(*variables).numpy(),
        1e-6,
    )
