"""Kill a run again and again; the final files must equal those of an undisturbed run.

``python -m ovd_bench.tests.benchmarks.runner.crash FOLDER KILLS [SEED]``
"""

from __future__ import annotations

import os
import random
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import psutil

from ovd_bench.tests.benchmarks.runner.toy import artefacts, bench, command, detector, make_data

#: About 0.16 s of work per shard, and three shards per kill: there is always something in work.
IMAGES_PER_SHARD, SECONDS_PER_IMAGE, SHARDS_PER_KILL = 4, 0.04, 3


def kill_and_resume(folder: Path, kills: int, seed: int = 0) -> Counter[str]:
    """Run undisturbed, then with kills, and compare.

    Half of the kills hit the command and half its worker. One in five comes while the processes are starting, the
    others between the first sign of work and half a second later; so the files are hit at every stage of being made.

    Returns:
        How often which process was killed at which stage, and shards that were there after the last kill.

    Raises:
        AssertionError: something differs.
    """
    rng = random.Random(seed)
    shards = SHARDS_PER_KILL * kills
    gt = make_data(folder, shards * IMAGES_PER_SHARD)
    options = ("predict", "-d", detector(), "-b", gt, "--batch", 3, "--shards", shards, "-q")
    undisturbed = bench(*options, "--out", folder / "whole")
    assert undisturbed.returncode == 0, undisturbed.stderr
    whole = next((folder / "whole").glob("*/*/*"))
    broken = folder / "broken" / whole.relative_to(folder / "whole")
    environment = os.environ | {"TOY_SECONDS": str(SECONDS_PER_IMAGE), "OMP_NUM_THREADS": "1"}
    seen: Counter[str] = Counter()
    for _ in range(kills):
        process = subprocess.Popen(
            command(*options, "--out", folder / "broken"),
            env=environment,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        if rng.random() < 0.2:
            stage = "starting"
            time.sleep(rng.random() * 2)
        else:
            stage = "working"
            _wait_for_work(process, broken)
            time.sleep(rng.random() / 2)
        workers = psutil.Process(process.pid).children(recursive=True) if process.poll() is None else []
        victim = "worker" if rng.random() < 0.5 and workers else "command"
        for pid in [worker.pid for worker in workers] if victim == "worker" else [process.pid]:
            try:
                psutil.Process(pid).kill()
            except psutil.NoSuchProcess:
                stage = "ended before"
        process.wait()
        _, alive = psutil.wait_procs(workers, timeout=10)
        assert not alive, "a worker outlived its command"
        seen[f"{victim}, {stage}"] += 1
    seen["shards there"] = len(list(broken.glob("predictions/shard-*.json")))
    resumed = bench(*options, "--out", folder / "broken")
    assert resumed.returncode == 0, resumed.stderr
    assert artefacts(broken) == artefacts(whole)
    left_over = {path.suffix for path in (broken / "predictions").iterdir()} - {".arrow", ".json", ""}
    assert not left_over, left_over
    return seen


def _wait_for_work(process: subprocess.Popen[bytes], folder: Path) -> None:
    """Until a lock of a shard is taken, which is when its work begins."""
    begun = time.time()
    while process.poll() is None:
        holders = folder.glob("predictions/.locks/shard-*.holder")
        try:
            if any(path.stat().st_mtime > begun for path in holders):
                return
        except FileNotFoundError:
            pass
        time.sleep(0.01)


if __name__ == "__main__":
    print(dict(kill_and_resume(Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]) if len(sys.argv) > 3 else 0)))
