"""Speed of a run: what is measured, and what marks it."""

from __future__ import annotations

import statistics
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from ovd_bench.benchmarks.machine import gpus
from ovd_bench.benchmarks.machine.cpu_load import Busy
from ovd_bench.benchmarks.machine.environment import EnvironmentInfo
from ovd_bench.benchmarks.machine.gpus import GpuUse, GpuWatch
from ovd_bench.benchmarks.runner.run_speed import run_speed
from ovd_bench.benchmarks.store.manifest import ShardRecord, ShardSpeed
from ovd_bench.benchmarks.store.schema import SpeedInfo, WarmSpeed

Call = tuple[int, float]
IDLE = Busy(seconds=10.0, other_processors=0.01, stolen_processors=0.0, load_average=9.0, busiest=[])
ENV = EnvironmentInfo.model_validate(
    {"git_commit": None, "git_dirty": None, "python": "3.12", "platform": "Linux", "packages": {}, "driver": None}
    | {"lock_sha256": None, "cpu": "a processor", "cores": 4, "ram_bytes": 1, "gpus": [], "cuda": None}
)


def shard(calls: list[Call], cold: int = 0, **parts: Any) -> ShardRecord:
    """A shard of these calls (images, seconds), the first ``cold`` of them in a fresh process."""
    images, seconds = [call[0] for call in calls], [call[1] for call in calls]
    speed = {"call_images": images, "call_seconds": seconds, "cold_calls": cold, "threads": 4, "busy": IDLE}
    speed |= {"other_workers": 0, "gpu": None}
    speed |= {key: parts.pop(key) for key in list(parts) if key in speed}
    record = {"schema": 1, "recipe_sha256": "0" * 64, "shard": 0, "arrow_sha256": "0" * 64, "detections": 0}
    record |= {"images": sum(images), "images_failed": [], "started": "2026-01-01", "seconds": 100.0}
    record |= {"load_seconds": 3.0, "smallest_batch": 1, "peak_memory_bytes": 5, "peak_gpu_bytes": None, "env": ENV}
    return ShardRecord.model_validate(record | {"speed": speed} | parts)


def warm_of(*records: ShardRecord) -> WarmSpeed:
    warm = run_speed(records).warm
    assert warm is not None
    return warm


calls = st.lists(st.tuples(st.integers(1, 5), st.floats(0.001, 1000)), min_size=1, max_size=12)


@given(calls, calls, st.floats(0, 1e6))
def test_speed_is_the_median_over_warm_images(one: list[Call], other: list[Call], compiling: float) -> None:
    info = run_speed([shard([(2, compiling), *one], cold=1), shard(other)])
    assert info.warm is not None
    images = [seconds / count for count, seconds in one + other for _ in range(count)]
    assert info.warm.image_seconds == pytest.approx(statistics.median(images))
    assert info.images_per_second == pytest.approx(1 / statistics.median(images))
    assert info.warm.images == len(images)
    assert info.warm.first_call_seconds == compiling
    assert info.warm.alone is True
    assert info.load_seconds == 3.0


@given(calls, calls, st.floats(0, 1e9))
def test_compilation_and_cuts_into_shards_do_not_change_the_speed(
    one: list[Call], other: list[Call], compiling: float
) -> None:
    cut = [shard([(1, compiling), *one], cold=1), shard([(3, 7.0), *other], cold=1)]
    whole = [shard([(4, 1.0), *other, *one], cold=1)]
    assert run_speed(cut).images_per_second == run_speed(whole).images_per_second


def test_a_run_of_nothing_but_first_calls_has_no_speed() -> None:
    info = run_speed([shard([(8, 1.0)], cold=1), shard([(8, 2.0)], cold=1), shard([])])
    assert info.images_per_second is None
    assert info.warm is not None
    assert (info.warm.image_seconds, info.warm.images, info.warm.first_call_seconds) == (None, 0, 2.0)


def test_a_run_with_a_shard_of_before_has_the_number_of_before() -> None:
    new, old = shard([(1, 0.5)] * 40), shard([(1, 0.5)] * 60).model_copy(update={"speed": None})
    for records in ([new, old], [old, new], [old, old]):
        info = run_speed(records)
        assert info.warm is None
        assert info.images_per_second == sum(record.images for record in records) / 200.0


def busy(**parts: float | None) -> Busy:
    return IDLE.model_copy(update={"busiest": ["secret-job (process 7): 0.90 processors"], **parts})


DISTURBED: dict[str, tuple[dict[str, Any], bool | None]] = {
    "other load": ({"busy": busy(other_processors=0.9)}, False),
    "stolen time": ({"busy": busy(stolen_processors=0.9)}, False),
    "several runs or workers": ({"other_workers": 2}, False),
    "shared GPU": ({"gpu": "shared"}, False),
    "another machine": ({"env": ENV.model_copy(update={"cpu": "another processor"})}, False),
    "another number of cores": ({"env": ENV.model_copy(update={"cores": 5})}, False),
    "another number of threads": ({"threads": 1}, False),
    "blind system": ({"busy": busy(other_processors=None, stolen_processors=None)}, None),
    "blind GPU": ({"gpu": "unknown"}, None),
    "nothing": ({"gpu": "alone"}, True),
}


@pytest.mark.parametrize("case", DISTURBED)
def test_one_disturbed_shard_marks_the_run(case: str) -> None:
    parts, alone = DISTURBED[case]
    good, disturbed = shard([(1, 0.5)] * 3), shard([(1, 0.5)] * 3, **parts)
    for records in ([good, disturbed], [disturbed, good]):
        warm = warm_of(*records)
        assert warm.alone is alone
        assert bool(warm.reasons) is (alone is not True)
        assert "secret-job" not in str(warm.reasons)


def test_what_is_known_outweighs_what_is_not() -> None:
    blind = shard([(1, 0.5)], busy=busy(other_processors=None, stolen_processors=None))
    warm = warm_of(blind, shard([(1, 0.5)], other_workers=1))
    assert warm.alone is False
    assert len(warm.reasons) == 2


def test_records_with_calls_that_do_not_fit_are_refused() -> None:
    good = {"call_images": [1, 2], "call_seconds": [0.1, 0.2], "cold_calls": 1, "threads": 1, "busy": IDLE}
    good |= {"other_workers": 0, "gpu": None}
    ShardSpeed.model_validate(good)
    for wrong in ({"call_images": [1]}, {"cold_calls": 3}, {"call_images": [1, 0]}, {"call_seconds": [0.1, -1.0]}):
        with pytest.raises(ValidationError):
            ShardSpeed.model_validate(good | wrong)


def test_old_speeds_keep_their_bytes() -> None:
    info = SpeedInfo(images_per_second=2.0, load_seconds=1.0, peak_memory_bytes=1, peak_gpu_bytes=None)
    assert "warm" not in info.model_dump(mode="json")


def test_the_gpu_is_watched_without_asking_at_every_shard(monkeypatch: pytest.MonkeyPatch) -> None:
    stranger = ("GPU-a", 1, "train")
    answers: list[GpuUse | None] = [GpuUse({}, frozenset()), GpuUse({}, frozenset({stranger, ("GPU-a", 2, "python")}))]
    monkeypatch.setattr(gpus, "look", lambda: answers.pop(0))
    watch = GpuWatch()
    assert [watch.state("GPU-a") for _ in range(3)] == ["shared"] * 3
    assert answers == []
    answers += [None, None]
    assert GpuWatch().state(None) == "unknown"
