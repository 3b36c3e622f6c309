"""Speed of detectors: whether the machine was idle, and counted operations."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from typing import Any

import pytest
import torch
from torch import nn

from ovd_bench.benchmarks.machine.cpu_load import Busy, LoadMeter
from ovd_bench.benchmarks.machine.gpus import GpuEvidence, GpuUse, parse
from ovd_bench.benchmarks.speed.flops import count_flops
from ovd_bench.benchmarks.speed.inputs import synthetic_image
from ovd_bench.benchmarks.speed.machine_idle import exclusive_use
from ovd_bench.benchmarks.speed.record import Flops
from ovd_bench.detectors.card import DetectorCard
from ovd_bench.detectors.prompts import PromptPlan
from ovd_bench.detectors.types import Detections, Image, Vocabulary

CORES = len(os.sched_getaffinity(0))


def busy(other: float | None = 0.0, stolen: float | None = 0.0, seconds: float = 10.0) -> Busy:
    names = ["cc1plus (process 7): 0.90 processors"]
    return Busy(seconds=seconds, other_processors=other, stolen_processors=stolen, load_average=0.5, busiest=names)


def test_a_busy_process_is_seen_and_named() -> None:
    # a grandchild whose parent has gone: nobody's child, as the processes of others are
    spin = f"exec {sys.executable} -c 'while True: pass'"
    answer = subprocess.run(
        ["sh", "-c", f"{spin} > /dev/null 2>&1 & echo $!"], stdout=subprocess.PIPE, text=True, check=True
    )
    stranger = int(answer.stdout)
    try:
        time.sleep(0.2)
        with LoadMeter() as meter:
            time.sleep(1.0)
    finally:
        os.kill(stranger, signal.SIGKILL)
    assert meter.busy.seconds >= 1.0
    verdict = exclusive_use(busy(), {"batch of 1": meter.busy}, CORES, None)
    assert verdict.exclusive is False
    assert verdict.reasons[0].startswith("batch of 1: other processes used ")
    # on a machine that is full already, three others may have had more
    assert any(f"(process {stranger})" in name for name in meter.busy.busiest) or len(meter.busy.busiest) == 3


def test_own_work_is_not_held_against_oneself() -> None:
    """Threads, children and ended children count as this process; the rest is the work of others."""
    with LoadMeter() as idle:
        time.sleep(0.5)
    with LoadMeter() as meter:
        subprocess.run([sys.executable, "-c", "sum(range(10**7))"], check=True)
        sum(range(10**7))
    assert os.getpid() not in [int(name.split("process ")[1].split(")")[0]) for name in meter.busy.busiest]
    assert idle.busy.other_processors is not None
    assert meter.busy.other_processors is not None
    assert 0 <= meter.busy.other_processors <= CORES


@pytest.mark.parametrize(
    ("during", "cores", "exclusive", "words"),
    [
        (busy(0.05), 2, True, None),
        (busy(0.2), 2, False, "batch of 1: other processes used 0.20 of 2 processors (cc1plus (process 7)"),
        (busy(0.2), 64, True, None),
        (busy(0.0, 0.5), 2, False, "batch of 1: the host of this virtual machine took away 0.50 of 2 processors"),
        (busy(0.3, seconds=0.2), 2, True, None),  # within what the counters cannot tell in so short a time
        (busy(None, None), 2, None, "batch of 1: the system does not tell what its processors do"),
    ],
)
def test_verdict(during: Busy, cores: int, exclusive: bool | None, words: str | None) -> None:
    verdict = exclusive_use(busy(), {"batch of 1": during}, cores, None)
    assert verdict.exclusive is exclusive
    assert len(verdict.reasons) == (0 if words is None else 1)
    assert words is None or verdict.reasons[0].startswith(words)
    assert exclusive_use(during, {}, cores, None).exclusive is exclusive


def test_answers_of_nvidia_smi() -> None:
    use = parse("GPU-a, 0\nGPU-b, 97\nMIG, [N/A]\n", "GPU-b, 4711, /usr/bin/python, x\nGPU-b, [N/A], y\n")
    assert use.utilisation == {"GPU-a": 0.0, "GPU-b": 97.0}
    assert use.processes == {("GPU-b", 4711, "/usr/bin/python, x")}
    assert parse("", "No running processes found\n") == GpuUse({}, frozenset())


ME, OTHER, INSIDE = ("GPU-a", 5, "python"), ("GPU-a", 6, "train"), ("GPU-a", 90210, "python")
GPU_CASES: dict[str, tuple[tuple[Any, ...], tuple[Any, ...], bool, str | None]] = {
    "alone": ((), (ME,), True, None),
    "another before": ((OTHER,), (OTHER, ME), False, "before: train (process 6) used the graphics processor"),
    "another came": ((), (ME, OTHER), False, "during: train (process 6) used the graphics processor"),
    "in a container": ((), (INSIDE,), True, None),
    "two in a container": ((), (INSIDE, OTHER), False, "during: train (process 6) used the graphics processor"),
    "on another device": ((("GPU-b", 8, "train"),), (ME, ("GPU-b", 8, "train")), True, None),
}


@pytest.mark.parametrize("case", GPU_CASES)
def test_verdict_with_a_graphics_processor(case: str) -> None:
    before, after, exclusive, words = GPU_CASES[case]
    looks = (GpuUse({"GPU-a": 0.0, "GPU-b": 99.0}, frozenset(before)), GpuUse({}, frozenset(after)))
    verdict = exclusive_use(busy(), {}, 2, GpuEvidence(*looks, "GPU-a", 5))
    assert verdict.exclusive is exclusive
    assert verdict.reasons[:1] == ([] if words is None else [words])
    unseen = exclusive_use(busy(), {}, 2, GpuEvidence(None, None, "GPU-a", 5))
    assert unseen.exclusive is None
    assert exclusive_use(busy(1.0), {}, 2, GpuEvidence(None, None, "GPU-a", 5)).exclusive is False
    warm = GpuEvidence(GpuUse({"GPU-a": 50.0}, frozenset()), looks[1], None, 5)
    assert "before: the graphics processor was 50 % busy" in exclusive_use(busy(), {}, 2, warm).reasons


class Net(nn.Module):  # type: ignore[misc]
    """A matrix product, a convolution, attention, and things without a formula."""

    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(7, 11)
        self.conv = nn.Conv2d(3, 5, 3)
        self.query = nn.Parameter(torch.ones(4, 7))

    def forward(self, x: torch.Tensor) -> None:
        self.linear(self.query[None].expand(2, 4, 7))  # a view of a parameter
        self.conv(x)
        heads = torch.ones(1, 2, 6, 8)
        nn.functional.scaled_dot_product_attention(heads, heads, heads)
        nn.functional.grid_sample(x, torch.zeros(1, 2, 2, 2), align_corners=False)
        (x * 2 + 1).sigmoid().flatten().contiguous()


class Stub:
    """A detector whose ``detect`` is a network."""

    def __init__(self, framework: Any, *, told: int | None = None) -> None:
        self.card = DetectorCard("stub", "stub", framework, loader="")
        self.net = Net()
        if told is not None:
            self.flops = lambda image: told * image.width

    def set_vocabulary(self, vocabulary: Vocabulary, plan: PromptPlan) -> None: ...

    def detect(self, images: Sequence[Image]) -> list[Detections]:
        with torch.inference_mode():
            for _ in images:
                self.net(torch.zeros(1, 3, 10, 12))
        return []


def test_operations_of_a_known_network_are_exact() -> None:
    flops = count_flops(Stub("torch"), synthetic_image(8, 9))
    assert flops is not None
    linear, conv, attention = 2 * 2 * 4 * 7 * 11, 2 * 5 * 8 * 10 * 3 * 9, 2 * 2 * 2 * 6 * 6 * 8
    assert flops.value == sum(flops.operators.values()) == linear + conv + attention
    assert flops.not_counted == {"aten.grid_sampler_2d": 1}


def test_other_frameworks_are_asked() -> None:
    image = synthetic_image(8, 9)
    told = count_flops(Stub("jittor", told=100), image)
    assert isinstance(told, Flops)
    assert (told.value, told.source) == (900, "detector")
    assert count_flops(Stub("numpy"), image) is None
