"""The measurement for graphics processors, on small sizes and without one."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

import ovd_bench.perf.deformable_attention_torch as binding
from ovd_bench.perf import gpu

SHAPES = [(4, 6), (2, 3)]


@pytest.fixture(autouse=True)
def kernel_on_the_cpu(monkeypatch: pytest.MonkeyPatch) -> None:
    """The composition stands for the kernel; it sums in the type of the locations, as the kernel does."""

    def stand_in(value: Any, shapes: Any, locations: Any, weights: Any) -> Any:
        return binding.composed(value.to(locations.dtype), shapes, locations, weights).to(value.dtype)

    monkeypatch.setattr(binding, "deformable_attention", stand_in)


def test_tables() -> None:
    table = gpu.correctness("cpu", (5, 30), SHAPES)
    assert len(table.rows) == 2 * (4 + 2)
    errors = {row[0]: [float(cell) for cell in row[1:]] for row in table.rows}
    assert max(errors["kernel, float64, 30 queries"]) == 0
    assert 0 < max(errors["kernel, float32, 30 queries"]) < 1e-5
    table = gpu.times("cpu", (5,), SHAPES, repeats=2)
    assert [row[0] for row in table.rows][:2] == [
        "forward, float32, 5 queries",
        "forward + backward, float32, 5 queries",
    ]


def test_inputs_of_the_encoder_follow_its_pixels() -> None:
    _, locations, weights = gpu.make_inputs(30, 0, SHAPES)
    centre = torch.tensor(locations).mean((2, 3, 4))[0]
    assert centre[:24, 0].reshape(4, 6).mean(0).diff().min() > 0  # x grows along the rows of the first level
    assert centre[:24, 1].reshape(4, 6).mean(1).diff().min() > 0
    assert torch.tensor(weights).sum((3, 4)).sub(1).abs().max() < 1e-6


def test_bytes() -> None:
    forward, both = gpu.bytes_moved(queries=10, pixels=100, levels=2, value_bytes=4, real_bytes=4)
    assert forward == 4 * (100 * 256 + 10 * 256 + 3 * 10 * 64)
    assert both == 2 * forward + 4 * (2 * 100 * 256 + 3 * 10 * 64)


def test_page_keeps_one_section_per_device() -> None:
    page = (Path(gpu.__file__).parent / "RESULTS.md").read_text()
    page = gpu.with_section(page, gpu._HEADING + "A\n\nold\n")
    page = gpu.with_section(page, gpu._HEADING + "B\n\nother\n")
    page = gpu.with_section(page, gpu._HEADING + "A\n\nnew\n\n### Part\n")
    assert page.startswith("# Measured on")
    assert "old" not in page
    assert gpu._NONE_YET not in page
    assert page.count(gpu._HEADING) == 2
    assert page.endswith("B\n\nother\n\n## Deformable attention on A\n\nnew\n\n### Part\n")


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a device")
def test_without_a_device_it_says_so() -> None:
    done = subprocess.run([sys.executable, "-m", "ovd_bench.perf.gpu"], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr.count("\n")) == (1, 1)
    assert "no NVIDIA device" in done.stderr
