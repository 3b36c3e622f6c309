"""Memory that is released while Jittor computes."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from ovd_bench.kernels.release_memory import release_memory
from ovd_bench.kernels.runtime import jittor

jt = jittor()


def _resident() -> int:
    """MiB of this process."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4096 >> 20


def test_values_stay() -> None:
    x = np.random.default_rng(0).standard_normal((3, 5)).astype(np.float32)
    np.testing.assert_array_equal(release_memory(jt.array(x)).numpy(), x)
    assert release_memory(jt.zeros((0, 3))).shape == [0, 3]


def test_free_memory_is_given_back() -> None:
    """Many arrays of 10 MiB each, which are gone by the time the copy is made."""
    arrays = [jt.rand((2560, 1024)) for _ in range(20)]
    jt.sync(arrays)
    held = _resident()
    del arrays
    assert _resident() > held - 100
    release_memory(jt.ones((1,))).sync()
    assert _resident() < held - 150
