"""Speed of detectors: the numbers describe the work that was done. No test asserts a speed."""

from __future__ import annotations

import io
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import PIL.Image
import pytest
from pydantic import ValidationError
from rich.console import Console

from ovd_bench.benchmarks.cli.speed import _sizes
from ovd_bench.benchmarks.machine.environment import describe_environment
from ovd_bench.benchmarks.speed.command import measure_apart
from ovd_bench.benchmarks.speed.inputs import (
    HEIGHT,
    WIDTH,
    Inputs,
    batches,
    gather,
    load_pixels,
    made_up_vocabulary,
    save_pixels,
    synthetic_image,
)
from ovd_bench.benchmarks.speed.measure import measure, summarize
from ovd_bench.benchmarks.speed.record import FailedDetector, Measured, SpeedReport, read_report, write_report
from ovd_bench.benchmarks.speed.request import SpeedRequest
from ovd_bench.benchmarks.speed.show import report_table
from ovd_bench.detectors.coco_classes import COCO_NAMES
from ovd_bench.detectors.prompts import PromptPlan
from ovd_bench.detectors.types import DetectorError, Image
from ovd_bench.metrics.errors import DataError
from ovd_bench.tests.benchmarks.runner import toy_detectors
from ovd_bench.tests.test_bench import ROOT, bench
from ovd_bench.tests.values import number

TOYS = f"{toy_detectors.__file__}:"
SMALL = [Image(1, np.zeros((20, 30, 3), np.uint8)), Image(2, np.ones((10, 40, 3), np.uint8))]

#: Takes 200 MB while it detects in a batch of two, and 300 MB for good when it is loaded.
HUNGRY = """
import numpy as np
from ovd_bench.tests.benchmarks.runner.toy_detectors import Idle
class Hungry(Idle):
    def __init__(self, card, settings):
        super().__init__(card, settings)
        self.kept = np.ones(300_000_000, np.uint8)
    def detect(self, images):
        if len(images) == 2:
            np.ones(200_000_000, np.uint8)
        return super().detect(images)
"""


def request(detector: str = "Idle", **parts: Any) -> SpeedRequest:
    small: dict[str, Any] = {"vocabulary": made_up_vocabulary(3), "warm_up": 1, "iterations": 3, "idle_seconds": 0.05}
    return SpeedRequest(detector=detector if ".py:" in detector else TOYS + detector, **small | parts)


def ignore(words: str) -> None:
    pass


def report(*detectors: Measured | FailedDetector) -> SpeedReport:
    return SpeedReport(
        schema=1,
        started="2026-01-01T00:00:00+00:00",
        command="bench speed",
        warm_up=1,
        iterations=3,
        seed=0,
        workload=Inputs("synthetic", SMALL, "3", made_up_vocabulary(3)).workload(PromptPlan()),
        detectors=list(detectors),
        env=describe_environment(),
    )


def shown(one: SpeedReport) -> str:
    text = io.StringIO()
    Console(width=200, file=text).print(report_table(one))
    return text.getvalue()


def test_statistics_of_known_times() -> None:
    timing = summarize([1.0], [0.2, 0.4, 0.3, 0.5], 2)
    assert timing.p50_ms == pytest.approx(175)
    assert timing.p95_ms == pytest.approx(200 + 0.85 * 50)
    assert timing.min_ms == pytest.approx(100)
    assert timing.max_ms == pytest.approx(250)
    assert timing.mean_ms == pytest.approx(175)
    assert timing.sd_ms == pytest.approx(np.std([100, 200, 150, 250], ddof=1))
    assert timing.images_per_second == pytest.approx(8 / 1.4)
    assert timing.call_seconds == [0.2, 0.4, 0.3, 0.5]
    assert summarize([], [0.2], 1).sd_ms is None


def test_a_detector_that_sleeps_is_measured_as_long_as_it_sleeps(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TOY_SECONDS", "0.02")
    stages: list[str] = []
    measured = measure(request(batches=(2, 1), warm_up=2), SMALL, stages.append)
    assert [one.batch for one in measured.batches] == [1, 2]
    for one in measured.batches:
        assert one.timing is not None
        assert len(one.timing.call_seconds) == 3
        assert len(one.timing.warm_up_seconds) == 2
        assert min(one.timing.call_seconds + one.timing.warm_up_seconds) >= 0.02 * one.batch
        assert one.timing.min_ms >= 20
        assert one.timing.images_per_second <= 50
        assert one.busy is not None
        assert one.busy.seconds >= 0.02 * one.batch * 3
    start = measured.start
    assert start.first_detection_seconds >= 0.02
    assert start.total_seconds == start.load_seconds + start.vocabulary_seconds + start.first_detection_seconds
    assert (measured.device, measured.memory.peak_gpu_bytes, measured.flops) == ("cpu", None, None)
    assert stages == [
        "checking whether the machine is idle",
        "loading",
        "batch of 1",
        "batch of 2",
        "counting operations",
    ]


def test_known_memory_shows_in_the_peaks(tmp_path: Path) -> None:
    (tmp_path / "hungry.py").write_text(HUNGRY)
    measured = measure_apart(request(f"{tmp_path}/hungry.py:Hungry", batches=(1, 2, 3)), SMALL, ignore)
    assert isinstance(measured, Measured)
    one, two, three = (number(batch.peak_memory_bytes) for batch in measured.batches)
    assert two - one == pytest.approx(200e6, abs=10e6)
    assert three == pytest.approx(one, abs=10e6)  # the peak of two is not dragged along
    memory = measured.memory
    assert memory.loaded_bytes - memory.before_load_bytes == pytest.approx(300e6, abs=30e6)
    assert memory.peak_bytes == two


def test_the_worker_holds_no_framework_and_no_table_reader_of_its_own(tmp_path: Path) -> None:
    (tmp_path / "lean.py").write_text(
        "import sys\nfrom ovd_bench.tests.benchmarks.runner.toy_detectors import Idle\n"
        "class Lean(Idle):\n    def detect(self, images):\n"
        "        assert not {'torch', 'jittor', 'transformers', 'pyarrow', 'scipy', 'matplotlib'} & set(sys.modules)\n"
        "        return super().detect(images)\n"
    )
    measured = measure_apart(request(f"{tmp_path}/lean.py:Lean"), SMALL, ignore)
    assert isinstance(measured, Measured), measured


def test_owl_nano() -> None:
    asked = request().model_copy(update={"detector": "owl-nano"})
    measured = measure_apart(asked, [synthetic_image()], ignore)
    assert isinstance(measured, Measured), measured
    assert number(measured.detector.parameters) > 1_000_000
    assert measured.threads == 1
    # torch belongs to what is loaded, also where "auto" has to ask it for a device
    assert measured.memory.before_load_bytes < 120 * 2**20 < measured.memory.loaded_bytes / 2
    assert measured.flops is not None
    assert measured.flops.value == sum(measured.flops.operators.values()) > 100_000_000
    assert measured.flops.not_counted["aten._softmax"] == 7
    assert measured.device_name


def test_want_of_memory_ends_the_batch_sizes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TOY_FAULT", "memory")
    monkeypatch.setenv("TOY_FITS", "2")
    measured = measure(request("Broken", batches=(1, 4, 8)), SMALL, ignore)
    one, four = measured.batches
    assert one.problem is None
    assert one.timing is not None
    assert four.timing is None
    assert four.problem is not None
    assert four.problem.startswith("memory ran out: MemoryError")
    assert "batch of 4: memory ran out" in shown(report(measured))


def test_a_detector_that_gives_too_little_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TOY_FAULT", "few")
    monkeypatch.setenv("TOY_IMAGES", "1")
    with pytest.raises(DetectorError, match="a list of Detections, one per image"):
        measure(request("Broken"), SMALL, ignore)


DEATHS = {
    "kill": "the worker process was killed by signal 9 (SIGKILL)",
    "bug": "IndexError: list index out of range (toy_detectors.py:",
    "exit": "the worker process ended with exit code 7",
}


@pytest.mark.parametrize("fault", DEATHS)
def test_a_crash_is_one_line(fault: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TOY_FAULT", fault)
    monkeypatch.setenv("TOY_IMAGES", "1")
    result = measure_apart(request("Broken"), SMALL, ignore)
    assert isinstance(result, FailedDetector)
    assert result.problem.startswith(DEATHS[fault])
    assert "\n" not in result.problem


def test_report_is_written_and_read_and_refuses_unknown_keys(tmp_path: Path) -> None:
    document = report(measure(request(), SMALL, ignore), FailedDetector(detector="other", problem="is not there"))
    write_report(tmp_path / "speed.json", document)
    assert read_report(tmp_path / "speed.json") == document
    content = json.loads((tmp_path / "speed.json").read_text())
    assert content["schema"] == 1
    assert content["workload"]["sizes"] == [[30, 20], [40, 10]]
    content["detectors"][0]["batches"][0]["fast"] = True
    with pytest.raises(ValidationError):
        SpeedReport.model_validate_json(json.dumps(content))
    (tmp_path / "speed.json").write_text(json.dumps(content))
    with pytest.raises(DataError, match=r"speed.json: .*fast"):
        read_report(tmp_path / "speed.json")


def test_images_take_turns_and_have_different_ids_in_a_batch() -> None:
    calls = batches(SMALL, 3, 2)
    assert [[image.id for image in call] for call in calls] == [[1, 2, 3], [1, 2, 3]]
    assert [[image.width for image in call] for call in calls] == [[30, 40, 30], [40, 30, 40]]


def test_pixel_hashes_reach_the_worker(tmp_path: Path) -> None:
    save_pixels(tmp_path / "p.npz", SMALL)
    loaded = load_pixels(tmp_path / "p.npz")
    assert [image.id for image in loaded] == [1, 2]
    for one, other in zip(loaded, SMALL, strict=True):
        np.testing.assert_array_equal(one.pixels, other.pixels)


def test_inputs(tmp_path: Path) -> None:
    made = gather(None, None, None, tmp_path, 1)
    assert (made.images[0].height, made.images[0].width) == (HEIGHT, WIDTH) == (800, 1066)
    assert made.vocabulary.names == COCO_NAMES
    np.testing.assert_array_equal(made.images[0].pixels, synthetic_image().pixels)
    PIL.Image.new("RGB", (7, 5)).save(tmp_path / "a.png")
    (tmp_path / "names.txt").write_text("a cat\na dog\n")
    own = gather(None, tmp_path / "a.png", str(tmp_path / "names.txt"), tmp_path, 1)
    assert own.workload(PromptPlan()).sizes == [(7, 5)]
    assert own.vocabulary.names == ("a cat", "a dog")
    categories = [{"id": 4, "name": "cup"}, {"id": 2, "name": "jar"}]
    rows = [{"id": n, "file_name": "a.png", "width": 7, "height": 5} for n in range(50)]
    coco = tmp_path / "coco.json"
    coco.write_text(json.dumps({"images": rows, "annotations": [], "categories": categories}))
    data = gather(str(coco), None, None, tmp_path, 40)
    assert len(data.images) == 40
    assert data.vocabulary.names == ("jar", "cup")
    assert gather(str(coco), None, "5", tmp_path, 1).vocabulary.names == COCO_NAMES[:5]
    with pytest.raises(DataError, match="give one of them"):
        gather(str(coco), tmp_path / "a.png", None, tmp_path, 1)
    with pytest.raises(DataError, match="no benchmark 'nowhere'"):
        gather(None, None, "nowhere", tmp_path, 1)


def test_made_up_words_are_as_many_as_asked_for_and_all_different() -> None:
    assert len(COCO_NAMES) == 80
    for count in (1, 80, 81, 1203, 5000):
        names = made_up_vocabulary(count).names
        assert len(set(names)) == len(names) == count
    for wrong in (0, 10**6):
        with pytest.raises(DataError, match="synthetic classes"):
            made_up_vocabulary(wrong)


@pytest.mark.parametrize("text", ["", "0", "1,x", "-1", "1.5", ","])
def test_batch_sizes_are_whole_numbers(text: str) -> None:
    with pytest.raises(DataError, match="--batch"):
        _sizes(text)
    assert _sizes("8, 1,8") == (1, 8)


QUICK = ("--iters", 2, "--warmup", 0, "--batch", "1")


def test_command_line(tmp_path: Path) -> None:
    file = tmp_path / "speed.json"
    result = bench("speed", "-d", f"{TOYS}Idle,{TOYS}Unloadable", *QUICK, "--json", "--out", file, "-q")
    assert result.returncode == 3, result.stderr
    document = SpeedReport.model_validate_json(result.stdout)
    assert document == read_report(file)
    measured, broken = document.detectors
    assert isinstance(measured, Measured)
    assert isinstance(broken, FailedDetector)
    assert broken.problem == "the weights are not where they should be"
    assert (document.iterations, document.warm_up) == (2, 0)
    assert document.workload.classes == 80
    assert document.command.startswith("bench speed -d ")
    for words in ("toy-idle", "p50", "alone", "Unloadable: the weights are not where they should be"):
        assert words in result.stderr


@pytest.mark.parametrize(
    ("option", "message"),
    [
        (("--out", "nowhere/speed.json"), "the folder nowhere does not exist: create it first"),
        (("--device", "tpu"), "device: String should match pattern"),
    ],
)
def test_wrong_options_are_one_line(option: tuple[str, str], message: str) -> None:
    result = bench("speed", "-d", f"{TOYS}Idle", *QUICK, *option)
    assert (result.returncode, result.stdout) == (1, ""), result.stderr
    assert message in result.stderr
    assert result.stderr.count("\n") == 1


def test_nothing_measured_is_exit_code_1() -> None:
    assert bench("speed", "-d", f"{TOYS}Unloadable", *QUICK, "-q").returncode == 1


def test_interrupt_keeps_what_is_measured_and_leaves_no_process(tmp_path: Path) -> None:
    file = tmp_path / "speed.json"
    slow = tmp_path / "slow.py"
    slow.write_text(
        "import os, time, pathlib\nfrom ovd_bench.tests.benchmarks.runner.toy_detectors import Idle\n"
        "class Slow(Idle):\n    def set_vocabulary(self, vocabulary, plan):\n"
        f"        pathlib.Path({str(tmp_path / 'pid')!r}).write_text(str(os.getpid()))\n        time.sleep(60)\n"
    )
    options = ["-d", f"{TOYS}Idle,{slow}:Slow,{TOYS}Idle", *map(str, QUICK), "--out", str(file)]
    command = [sys.executable, str(ROOT / "bench.py"), "speed", *options]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    while not (tmp_path / "pid").exists() or not (tmp_path / "pid").read_text():
        assert process.poll() is None
        time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 130, errors
    assert "Traceback" not in errors
    first, second = read_report(file).detectors
    assert isinstance(first, Measured)
    assert second == FailedDetector(detector=f"{slow}:Slow", problem="interrupted")
    with pytest.raises(ProcessLookupError):
        os.kill(int((tmp_path / "pid").read_text()), 0)


def test_vocabulary_and_plan_reach_the_detector(tmp_path: Path) -> None:
    """Through the JSON file of a worker, all of them."""
    asked = request(plan=PromptPlan(name="own", templates=("a {}",), chunk_classes=2), batches=(1,))
    assert SpeedRequest.model_validate_json(asked.model_dump_json()) == asked
    spy = tmp_path / "spy.py"
    spy.write_text(
        "from ovd_bench.detectors.types import DetectorError\n"
        "from ovd_bench.tests.benchmarks.runner.toy_detectors import Idle\n"
        "class Spy(Idle):\n    def set_vocabulary(self, vocabulary, plan):\n"
        "        raise DetectorError(f'{vocabulary.names[-1]} {plan.fill(\"cup\")} {plan.chunk_classes}')\n"
    )
    result = measure_apart(asked.model_copy(update={"detector": f"{spy}:Spy"}), SMALL, ignore)
    assert result == FailedDetector(detector=f"{spy}:Spy", problem="car ['a cup'] 2")
