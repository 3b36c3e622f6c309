"""Wall time of calls, with the device idle at both ends."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

import numpy as np

from ovd_bench.benchmarks.speed.device import Device
from ovd_bench.benchmarks.speed.record import Timing


def seconds_of(call: Callable[[], object], device: Device) -> float:
    """Wall time of one call."""
    device.synchronize()
    start = time.perf_counter()
    call()
    device.synchronize()
    return time.perf_counter() - start


def summarize(warm_up: Sequence[float], calls: Sequence[float], batch: int) -> Timing:
    """Statistics of timed calls.

    Args:
        warm_up: seconds of the calls before.
        calls: seconds of the timed ones, at least one.
        batch: images per call.
    """
    ms = np.array(calls) * 1000 / batch
    p50, p95 = np.percentile(ms, (50, 95), method="linear").tolist()
    return Timing(
        call_seconds=list(calls),
        warm_up_seconds=list(warm_up),
        p50_ms=p50,
        p95_ms=p95,
        min_ms=float(ms.min()),
        max_ms=float(ms.max()),
        mean_ms=float(ms.mean()),
        sd_ms=float(ms.std(ddof=1)) if len(ms) > 1 else None,
        images_per_second=batch * len(calls) / sum(calls),
    )
