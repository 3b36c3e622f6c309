"""A third-party detector may raise, exit, fork, print and lie anywhere: one line names it, and the rest continues."""

from __future__ import annotations

import time
from pathlib import Path

import PIL.Image
import pytest

from ovd_bench.benchmarks.runner.events import End, Event, Fault
from ovd_bench.benchmarks.runner.predict import run_worker
from ovd_bench.benchmarks.store.folders import manifest_path
from ovd_bench.tests.benchmarks.runner.toy import bench, failures, folder_of, make, make_data, request

HEAD = """
import ctypes, os, sys, time
import numpy as np
from ovd_bench.detectors.card import DetectorCard
from ovd_bench.detectors.types import Detections
"""
BODY = """
class Mine:
    card = DetectorCard("mine", family="mine", framework="numpy", loader="")
    def __init__(self, card, settings):
        self.card = card
        {init}
    def set_vocabulary(self, vocabulary, plan):
        {text}
    def detect(self, images):
        {detect}
        return [Detections.of(image, np.empty((0, 4)), np.empty(0), np.empty(0)) for image in images]
"""
#: Where, what, and the beginning of the line.
FAULTS = {
    "gives nothing": ("detect", "return None", "detect() returned NoneType for 1 images"),
    "exits in detect": ("detect", "sys.exit()", "SystemExit:  (mine.py:15)"),
    "exits when loaded": ("init", "raise SystemExit(0)", "detector '"),
    "exits with the text": ("text", "sys.exit('no licence')", "SystemExit: no licence (mine.py:13)"),
    "ends the process": ("detect", "os._exit(0)", "SystemExit: os._exit(0) (mine.py:15)"),
    "stops the generator": ("detect", "raise GeneratorExit", "GeneratorExit:  (mine.py:15)"),
    "writes on the pipe": (
        "detect",
        "[os.write(fd, b'nonsense\\n') for fd in range(3, 64) if os.path.exists(f'/proc/self/fd/{fd}')"
        " and os.readlink(f'/proc/self/fd/{fd}').startswith('pipe')]",
        "the worker process wrote a line that is not an event: b'nonsense'",
    ),
}


def _adapter(folder: Path, **parts: str) -> str:
    path = folder / "mine.py"
    path.write_text(HEAD + BODY.format(**{"init": "pass", "text": "pass", "detect": "pass", **parts}))
    return f"{path}:Mine"


def _run(gt: Path, folder: Path, **parts: str) -> list[Event]:
    events: list[Event] = []
    asked = request(gt, folder / "out").model_copy(update={"detector": _adapter(folder, **parts)})
    run_worker(asked, None, events.append)
    return events


@pytest.fixture(scope="module")
def gt(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_data(tmp_path_factory.mktemp("data"), 3)


@pytest.mark.parametrize("name", FAULTS)
def test_one_line(gt: Path, tmp_path: Path, name: str) -> None:
    where, what, line = FAULTS[name]
    (reason,) = failures(_run(gt, tmp_path, **{where: what}))
    assert reason.startswith(line)
    assert "\n" not in reason


def test_a_child_that_it_leaves_behind_is_not_waited_for(gt: Path, tmp_path: Path) -> None:
    started = time.monotonic()
    events = _run(gt, tmp_path, text="os.fork() or time.sleep(600)")
    assert isinstance(events[-1], End)
    assert time.monotonic() - started < 300


def test_a_child_that_it_leaves_behind_when_it_dies(gt: Path, tmp_path: Path) -> None:
    events = _run(gt, tmp_path, detect="os.fork() or time.sleep(600); ctypes.CDLL(None)._exit(3)")
    assert isinstance(events[-1], Fault)
    assert "exit code 3" in events[-1].reason


def test_an_edited_adapter_that_never_finished_a_shard_is_started_anew(gt: Path, tmp_path: Path) -> None:
    asked = request(gt, tmp_path / "out").model_copy(update={"detector": _adapter(tmp_path, detect="1 / 0")})
    events = make(asked)
    assert "ZeroDivisionError" in failures(events)[0]
    before = manifest_path(folder_of(events)).read_bytes()
    events = _run(gt, tmp_path)
    assert failures(events) == []
    assert manifest_path(folder_of(events)).read_bytes() != before


def test_a_verb_that_runs_it_in_its_own_process(tmp_path: Path) -> None:
    image = tmp_path / "a.png"
    PIL.Image.new("RGB", (32, 32)).save(image)
    said = bench("detect", "-d", _adapter(tmp_path, detect="os._exit(0)"), image, "--prompt", "a cat")
    assert said.returncode == 1
    assert said.stderr == "error: third-party code ended the program: SystemExit: os._exit(0) (mine.py:15)\n"
