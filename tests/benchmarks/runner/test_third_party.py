"""A third-party detector may raise, exit, fork, print and lie anywhere: one line names it, and the rest continues."""

from __future__ import annotations

import time
from pathlib import Path

import PIL.Image
import pytest

import ovd_bench.benchmarks.runner.hangs as silence
from ovd_bench.benchmarks.runner.events import End, Event, Fault, Note
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


#: Where it never returns, and what the line names; both keep Python's lock.
HANGS = {
    "in detect": ("detect", "ctypes.PyDLL(None).sleep(600)", "mine.py:15 in detect"),
    "when loaded": ("init", "ctypes.PyDLL(None).sleep(600)", "mine.py:11 in __init__"),
}


@pytest.mark.parametrize("name", HANGS)
def test_what_never_returns_is_ended_and_named(gt: Path, tmp_path: Path, name: str) -> None:
    where, what, place = HANGS[name]
    events: list[Event] = []
    asked = request(gt, tmp_path / "out", detect_timeout=25.0)
    started = time.monotonic()
    run_worker(asked.model_copy(update={"detector": _adapter(tmp_path, **{where: what})}), None, events.append)
    assert failures(events) == [f"silent for 25 s, the limit of --detect-timeout ({place}): it hangs, or needs longer"]
    assert time.monotonic() - started < 120


def test_an_import_that_never_returns(gt: Path, tmp_path: Path) -> None:
    """The other detector of the sweep goes on; the exit code says that something is missing."""
    (tmp_path / "stuck.py").write_text("import time\n\ntime.sleep(600)\n")
    both = f"{tmp_path / 'stuck.py'}:Mine,{_adapter(tmp_path)}"
    options = ("-b", gt, "--images", gt.parent / "images", "--out", tmp_path / "out", "--detect-timeout", 20)
    done = bench("predict", "-d", both, *options)
    assert done.returncode == 3, done.stderr
    assert "stuck.py:3 in <module>" in done.stderr
    assert list((tmp_path / "out").rglob("shard-*.arrow"))


def test_the_user_is_told_where_it_is(gt: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a limit it is waited for; a slow detector comes to its end."""
    monkeypatch.setattr(silence, "_NOTICE_SECONDS", 1.0)
    events = _run(gt, tmp_path, detect="time.sleep(5)")
    told = [event.text for event in events if isinstance(event, Note)]
    assert isinstance(events[-1], End)
    assert any(line.startswith("silent for ") and "still waiting (mine.py:15 in detect)" in line for line in told)


def test_the_place_is_somebodys_own_line() -> None:
    trace = """Timeout (0:01:00)!
Thread 0x00007f (most recent call first):
  File "/home/me/other.py", line 1 in reader
Thread 0x00007e (most recent call first):
  File "/usr/lib/python3/dist-packages/torch/nn.py", line 7 in forward
  File "/home/me/mine.py", line 9 in detect
  File "{suite}/benchmarks/runner/predictor.py", line 150 in _attempt
"""
    suite = Path(silence.__file__).parents[2]
    text = trace.replace("{suite}", str(suite))
    assert silence.culprit(text) == "mine.py:9 in detect"
    assert silence.culprit(text.replace("/home/me/mine.py", "/x/site-packages/mine.py")) == "nn.py:7 in forward"
    waiting = f'Thread 0x1:\n  File "{suite}/benchmarks/runner/reader.py", line 75 in __iter__\n'
    assert silence.culprit(text + waiting) == "reader.py:75 in __iter__"
    assert silence.culprit("") == ""


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
