"""Deformable attention on the CPU: against a loop, against torch in float64, and invariances."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from ovd_bench.kernels.deformable_attention import deformable_attention
from ovd_bench.kernels.runtime import jittor
from ovd_bench.perf.deformable_attention_torch import composed
from ovd_bench.tests.kernels.checks import close, double_precision
from ovd_bench.tests.kernels.deformable_cases import CASES, Floats, Shapes, by_hand, inputs

jt = jittor()


def run(value: Floats, shapes: Shapes, locations: Floats, weights: Floats, dtype: str) -> tuple[Floats, list[Floats]]:
    """Output and the gradients of ``sum(output * g)`` with a fixed random g."""
    variables = [jt.array(x.astype(dtype)) for x in (value, locations, weights)]
    out = deformable_attention(variables[0], shapes, variables[1], variables[2])
    grads = jt.grad((out * jt.array(upstream(out.shape).astype(dtype))).sum(), variables)
    assert out.dtype == dtype
    return out.numpy(), [grad.numpy() for grad in grads]


def by_torch(value: Floats, shapes: Shapes, locations: Floats, weights: Floats) -> tuple[Floats, list[Floats]]:
    """The same in float64 by automatic differentiation."""
    tensors = [torch.tensor(x.astype(np.float64), requires_grad=True) for x in (value, locations, weights)]
    out = composed(tensors[0], shapes, tensors[1], tensors[2])
    grads = torch.autograd.grad(out, tensors, torch.tensor(upstream(out.shape)))
    return out.detach().numpy(), [grad.numpy() for grad in grads]


def single_inputs(case: str) -> tuple[Floats, Shapes, Floats, Floats]:
    value, shapes, locations, weights = inputs(case)
    return value.astype(np.float32), shapes, locations.astype(np.float32), weights.astype(np.float32)


def upstream(shape: Any) -> Floats:
    return np.random.default_rng(1).standard_normal(tuple(shape))


@pytest.mark.parametrize("case", CASES)
def test_float32_against_a_loop(case: str) -> None:
    value, shapes, locations, weights = single_inputs(case)
    out, grads = run(value, shapes, locations, weights, "float32")
    close(out, by_hand(value, shapes, locations, weights), 2e-6)
    if not locations.size:
        assert not any(grad.any() for grad in grads)


@pytest.mark.parametrize("case", [case for case in CASES if CASES[case][3]])
def test_float64_against_torch(case: str) -> None:
    value, shapes, locations, weights = inputs(case)
    locations = np.clip(locations, -10, 10)  # further outside torch's grid overflows
    expected, expected_grads = by_torch(value, shapes, locations, weights)
    with double_precision():
        out, grads = run(value, shapes, locations, weights, "float64")
    close(out, expected, 1e-12)
    for grad, expected_grad in zip(grads, expected_grads, strict=True):
        close(grad, expected_grad, 1e-12)


@pytest.mark.parametrize("case", ["four levels", "odd width"])
def test_float32_gradients(case: str) -> None:
    value, shapes, locations, weights = inputs(case)
    locations = np.clip(locations, -10, 10).astype(np.float32)
    _, expected_grads = by_torch(value, shapes, locations, weights)
    _, grads = run(value, shapes, locations, weights, "float32")
    for grad, expected_grad in zip(grads, expected_grads, strict=True):
        close(grad, expected_grad, 2e-5)


def test_gradient_where_a_sample_meets_the_border() -> None:
    """On the centre of a corner pixel, on the edge, one pixel and more outside: the weights there are exact."""
    value = np.arange(8.0).reshape(1, 8, 1, 1)
    xy = np.array([[0.125, 0.25], [0, 0], [1, 1], [-0.125, 0.5], [1.125, 0.5], [np.nan, 0.5], [np.inf, 0.5]])
    out, grads = run(value, [(2, 4)], xy.reshape(1, 7, 1, 1, 1, 2), np.ones((1, 7, 1, 1, 1)), "float32")
    assert out.ravel().tolist() == [0, 0, 7 / 4, 0, 0, 0, 0]
    assert np.isfinite(np.concatenate([grad.ravel() for grad in grads])).all()
    assert grads[1].reshape(7, 2)[3:].ravel().tolist()[2:] == [0] * 6


def test_a_view_is_read_as_it_looks() -> None:
    value, shapes, locations, weights = single_inputs("odd width")
    plain = deformable_attention(jt.array(value), shapes, jt.array(locations), jt.array(weights)).numpy()
    turned = jt.array(np.ascontiguousarray(value.transpose(0, 2, 1, 3))).permute(0, 2, 1, 3)
    swapped = jt.array(np.ascontiguousarray(locations[..., ::-1]))[..., ::-1]
    moved = jt.array(np.ascontiguousarray(weights.transpose(4, 0, 1, 2, 3))).permute(1, 2, 3, 4, 0)
    assert np.array_equal(deformable_attention(turned, shapes, swapped, moved).numpy(), plain)


def test_wrong_shapes_are_refused() -> None:
    arrays = single_inputs("one query")
    value, shapes, locations, weights = jt.array(arrays[0]), arrays[1], jt.array(arrays[2]), jt.array(arrays[3])
    with pytest.raises(ValueError, match="pixels"):
        deformable_attention(value, shapes[:1], locations, weights)
    with pytest.raises(ValueError, match="do not fit"):
        deformable_attention(value, shapes, locations, weights[..., :2])


def test_result_does_not_depend_on_the_number_of_threads() -> None:
    seen = set()
    before = set_threads(1)
    for threads in (1, 2, 3, 8):
        set_threads(threads)
        out, grads = run(*inputs("four levels"), "float32")
        seen.add(b"".join(x.tobytes() for x in [out, *grads]))
    set_threads(before)
    assert len(seen) == 1


def set_threads(number: int) -> int:
    """Of the thread that runs Jittor's operators; returns what it was."""
    source = '@out(0) = omp_get_max_threads(); omp_set_num_threads((int)data["threads"]);'
    data = {"threads": float(number)}
    return int(jt.code([1], "int32", [], cpu_header="#include <omp.h>", cpu_src=source, data=data).item())
