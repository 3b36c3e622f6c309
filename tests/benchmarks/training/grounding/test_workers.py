"""Processes that prepare batches: the same batches, and no silent or lasting failures."""

from __future__ import annotations

import itertools
import multiprocessing
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest

from ovd_bench.metrics.errors import DataError
from ovd_bench.tests.benchmarks.training.grounding.test_loader import CROPPED, assert_same, take
from ovd_bench.tests.benchmarks.training.grounding.toy import toy_data, write_toy

ROOT = Path(__file__).resolve().parents[4]


@pytest.fixture(scope="module")
def toy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The toy on disk."""
    return write_toy(tmp_path_factory.mktemp("toy"))


def _until(condition: Callable[[], bool], seconds: float = 20) -> bool:
    """Whether something becomes true in time."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if condition():
            return True
        time.sleep(0.05)
    return False


def test_batches_do_not_depend_on_workers(toy: Path) -> None:
    expected = take(toy_data(toy, "od vg", **CROPPED), 9, first=2)
    for workers in (1, 2):
        found = take(toy_data(toy, "od vg", workers=workers, **CROPPED), 9, first=2)
        for one, other in zip(found, expected, strict=True):
            assert_same(one, other)
            assert one.images.flags.writeable
    assert not multiprocessing.active_children()


def test_a_bad_image_is_told_by_the_training(tmp_path: Path) -> None:
    folder = write_toy(tmp_path / "toy")
    (folder / "7.png").write_bytes(b"no image")
    with toy_data(folder, workers=1).batches() as batches:
        with pytest.raises(DataError, match=r"od\.jsonl: record 8: .*7\.png: .*is not an image") as caught:
            list(itertools.islice(batches, 6))
        assert "\n" not in str(caught.value)
    assert not multiprocessing.active_children()


def test_a_worker_that_is_killed_is_told_with_its_records(toy: Path) -> None:
    with toy_data(toy, workers=1, batch=6).batches() as batches:
        next(batches)
        (worker,) = multiprocessing.active_children()
        worker.kill()
        with pytest.raises(DataError, match=r"was killed by SIGKILL, .*od\.jsonl: record \d+ and 2 more: if memory"):
            list(itertools.islice(batches, 20))
    assert not multiprocessing.active_children()


SCRIPT = """
import itertools, sys, time
from pathlib import Path
from ovd_bench.tests.benchmarks.training.grounding.toy import toy_data

if __name__ == "__main__":
    batches = toy_data(Path(sys.argv[1]), workers=2).batches()
    next(batches)
    print("ready", flush=True)
    time.sleep(60)
"""


def test_workers_end_with_a_training_that_is_killed(toy: Path, tmp_path: Path) -> None:
    script = tmp_path / "script.py"
    script.write_text(SCRIPT)
    environment = os.environ.copy()
    with subprocess.Popen(
        [sys.executable, str(script), str(toy)], stdout=subprocess.PIPE, env=environment, text=True
    ) as parent:
        assert parent.stdout
        assert parent.stdout.readline() == "ready\n"
        children = psutil.Process(parent.pid).children(recursive=True)
        assert len(children) >= 2
        parent.kill()
        parent.wait()
        assert _until(lambda: not any(child.is_running() and child.status() != "zombie" for child in children))
