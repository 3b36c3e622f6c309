"""Results do not depend on the number of threads, to the last bit."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import numpy as np
import pytest

from ovd_bench.kernels.binding import cpu_op
from ovd_bench.kernels.feed_forward import feed_forward
from ovd_bench.kernels.linear import linear
from ovd_bench.kernels.matmul import bmm
from ovd_bench.kernels.norms import group_norm, layer_norm
from ovd_bench.kernels.runtime import jittor
from ovd_bench.kernels.softmax import softmax
from ovd_bench.metrics.types import FloatArray

jt = jittor()

CASES: dict[str, tuple[Callable[..., Any], tuple[tuple[int, ...], ...]]] = {
    "linear, long": (lambda x, w, b: linear(x, w, b, "gelu"), ((4500, 33), (50, 33), (50,))),
    "linear, short": (linear, ((40, 700), (600, 700), (600,))),
    "feed_forward": (partial(feed_forward, activation="relu"), ((1700, 20), (600, 20), (600,), (24, 600), (24,))),
    "feed_forward, short": (partial(feed_forward, activation="gelu"), ((70, 50), (600, 50), (600,), (24, 600), (24,))),
    "bmm, one": (bmm, ((1, 40, 5000), (1, 5000, 40))),
    "bmm, five": (bmm, ((5, 100, 30), (5, 30, 170))),
    "layer_norm": (lambda x, w, b: layer_norm(x, w, b, 1e-5), ((3000, 50), (50,), (50,))),
    "group_norm": (lambda x, w, b: group_norm(x, 2, w, b, 1e-5), ((2, 6, 60, 80), (6,), (6,))),
    "softmax": (softmax, ((1000, 77),)),
}


def _set_threads(number: int) -> int:
    """Threads of OpenMP on the thread that runs Jittor's operators; gives the number before."""
    call = 'out0_p[0] = omp_get_max_threads(); omp_set_num_threads((int)data["number"]);'
    return int(cpu_op([(1,)], [jt.zeros(1)], ["gemm.h"], call, {"number": float(number)})[0].item())


@pytest.fixture
def threads() -> Iterator[Callable[[int], int]]:
    before = _set_threads(1)
    yield _set_threads
    _set_threads(before)


def _all_values(name: str) -> list[FloatArray]:
    operator, shapes = CASES[name]
    rng = np.random.default_rng(0)
    variables = [jt.array(rng.standard_normal(shape).astype(np.float32)) for shape in shapes]
    y = operator(*variables)
    return [v.numpy() for v in (y, *jt.grad((y * y).sum(), variables))]


@pytest.mark.parametrize("name", CASES)
def test_number_of_threads_changes_nothing(name: str, threads: Callable[[int], int]) -> None:
    threads(1)
    alone = _all_values(name)
    for number in (2, 5):
        threads(number)
        for one, many in zip(alone, _all_values(name), strict=True):
            np.testing.assert_array_equal(one, many)
