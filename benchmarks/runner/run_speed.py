"""Speed of a run, from the records of its shards."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ovd_bench.benchmarks.machine.cpu_load import disturbs
from ovd_bench.benchmarks.store.manifest import ShardRecord, ShardSpeed
from ovd_bench.benchmarks.store.schema import SpeedInfo, WarmSpeed


def run_speed(records: Sequence[ShardRecord]) -> SpeedInfo:
    """Median time of an image, with loading and first calls apart.

    If a shard was made before calls were timed, the speed is what it was then: all images by the wall time.

    Args:
        records: of all shards, at least one.
    """
    timed = [record.speed for record in records if record.speed is not None]
    gpu = [record.peak_gpu_bytes for record in records if record.peak_gpu_bytes is not None]
    warm = _warm(records, timed) if len(timed) == len(records) else None
    seconds = sum(record.seconds for record in records)
    if warm is None:
        rate = sum(record.images for record in records) / seconds if seconds else None
    else:
        rate = 1 / warm.image_seconds if warm.image_seconds else None
    return SpeedInfo(
        images_per_second=rate,
        load_seconds=max(record.load_seconds for record in records),
        peak_memory_bytes=max(record.peak_memory_bytes for record in records),
        peak_gpu_bytes=max(gpu, default=None),
        warm=warm,
    )


def _warm(records: Sequence[ShardRecord], shards: Sequence[ShardSpeed]) -> WarmSpeed:
    cold, images, seconds = [], [], []
    for shard in shards:
        cold += shard.call_seconds[: shard.cold_calls]
        images += shard.call_images[shard.cold_calls :]
        seconds += shard.call_seconds[shard.cold_calls :]
    per_image = np.repeat(np.array(seconds) / np.array(images), images) if images else np.empty(0)
    against, unknown = _disturbances(records, shards)
    return WarmSpeed(
        image_seconds=float(np.median(per_image)) if images else None,
        images=sum(images),
        first_call_seconds=max(cold, default=None),
        threads=shards[0].threads,
        alone=False if against else None if unknown else True,
        reasons=[*against, *unknown],
    )


def _disturbances(records: Sequence[ShardRecord], shards: Sequence[ShardSpeed]) -> tuple[list[str], list[str]]:
    """What made the times unreliable, and what is not known.

    Other processes are not named: results are published. Their names are in the records of the shards.
    """
    against: list[str] = []
    unknown: list[str] = []
    cores = min(record.env.cores for record in records)
    for field, what in (
        ("other_processors", "other processes used"),
        ("stolen_processors", "the host of the virtual machine took away"),
    ):
        shares = [(getattr(shard.busy, field), shard.busy.seconds) for shard in shards]
        known = [share for share, time in shares if share is not None and disturbs(share, time, cores)]
        if known:
            against.append(f"{what} up to {max(known):.1f} of {cores} processors")
    if any(None in (shard.busy.other_processors, shard.busy.stolen_processors) for shard in shards):
        unknown.append("the system does not tell what its processors do")
    if workers := max(shard.other_workers for shard in shards):
        against.append(f"other workers of the suite at the same time: {workers}")
    if any(shard.gpu == "shared" for shard in shards):
        against.append("another process used the graphics processor")
    if any(shard.gpu == "unknown" for shard in shards):
        unknown.append("nvidia-smi does not tell who uses the graphics processor")
    machines = {(record.env.cpu, record.env.cores, *record.env.gpus) for record in records}
    if len(machines) > 1:
        against.append(f"shards from {len(machines)} kinds of machines")
    if len(threads := sorted({shard.threads for shard in shards})) > 1:
        against.append(f"shards made with {' and '.join(map(str, threads))} threads")
    return against, unknown
