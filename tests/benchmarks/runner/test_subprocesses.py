"""A worker process from its parent: death, chatter, memory."""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import PIL.Image
import pytest

from ovd_bench.benchmarks.data.files.annotations import read_ground_truth
from ovd_bench.benchmarks.runner.events import End, Event, Fault
from ovd_bench.benchmarks.runner.predict import run_worker
from ovd_bench.benchmarks.runner.subprocesses import WORKERS, is_worker, other_workers
from ovd_bench.benchmarks.store.manifest import read_manifest, read_records
from ovd_bench.tests.benchmarks.runner.toy import failures, folder_of, make, make_data, request

DEATHS = {
    "kill": "the worker process was killed by signal 9 (SIGKILL), as the system does when memory runs out",
    "segfault": "the worker process was killed by signal 11 (SIGSEGV)",
    "exit": "the worker process ended with exit code 7",
}


@pytest.mark.parametrize("fault", DEATHS)
def test_death_is_one_line_and_resumed(tmp_path: Path, fault: str, monkeypatch: pytest.MonkeyPatch) -> None:
    gt = make_data(tmp_path / "data", 24)
    monkeypatch.setenv("TOY_FAULT", fault)
    monkeypatch.setenv("TOY_IMAGES", str(read_ground_truth(gt).image_ids[14]))
    asked = request(gt, tmp_path / "out", "Broken", shards=4)
    events: list[Event] = []
    run_worker(asked, None, events.append)
    assert isinstance(events[-1], Fault)
    assert events[-1].reason.startswith(DEATHS[fault])
    folder = folder_of(events)
    assert len(list(folder.glob("predictions/shard-*.arrow"))) == 2
    monkeypatch.setenv("TOY_FAULT", "")
    assert failures(make(asked)) == []
    assert len(list(folder.glob("predictions/shard-*.arrow"))) == 4


def test_last_words_are_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What a native library prints before it takes the process down."""
    gt = make_data(tmp_path / "data", 3)
    mine = tmp_path / "mine.py"
    text = "import ctypes\nprint('CUDA driver\\nis too old', flush=True)\nctypes.CDLL(None)._exit(9)\n"
    mine.write_text(text)
    events: list[Event] = []
    run_worker(request(gt, tmp_path).model_copy(update={"detector": f"{mine}:Mine"}), None, events.append)
    assert failures(events) == ["the worker process ended with exit code 9: is too old"]


def test_ten_times_the_images_take_no_more_memory(tmp_path: Path) -> None:
    """Pixels of one image are 0.75 MB: 1,800 more would take 1.3 GB if they were kept."""
    PIL.Image.fromarray(np.zeros((500, 500, 3), np.uint8)).save(tmp_path / "one.png")
    rows = [{"id": i, "file_name": "one.png", "width": 500, "height": 500} for i in range(2000)]
    gt = tmp_path / "gt.json"
    gt.write_text(json.dumps({"images": rows, "annotations": [], "categories": [{"id": 1, "name": "a"}]}))
    peaks = []
    for count in (200, 2000):
        events: list[Event] = []
        run_worker(request(gt, tmp_path / "out", "Idle", images=tmp_path, batch=4, limit=count), None, events.append)
        assert isinstance(events[-1], End)
        folder = folder_of(events)
        records = read_records(folder, read_manifest(folder))
        assert sum(record.detections for record in records) == count
        peaks.append(max(record.peak_memory_bytes for record in records))
    assert peaks[1] - peaks[0] < 20 * 2**20, peaks


def test_other_workers_of_the_suite_are_counted() -> None:
    assert all(importlib.util.find_spec(module) for module in WORKERS)
    wait = "import sys; print(flush=True); sys.stdin.read()"
    command = [sys.executable, "-c", wait, "-m", WORKERS[0]]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as stranger:
        assert stranger.stdout is not None
        stranger.stdout.readline()
        assert other_workers() >= 1
        stranger.communicate()
    assert not is_worker(["python", "-m", "pytest", f"tests/{WORKERS[0]}"])
    assert not is_worker([])
