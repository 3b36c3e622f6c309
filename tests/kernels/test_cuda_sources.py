"""CUDA sources: they compile, and their arithmetic is right when their threads are emulated on the CPU."""

from __future__ import annotations

import ctypes
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import ovd_bench.perf.deformable_attention_torch as binding
from ovd_bench import kernels
from ovd_bench.kernels.cuda_toolkit import explain, find_toolkit
from ovd_bench.perf.deformable_attention_torch import composed
from ovd_bench.tests.kernels.checks import close
from ovd_bench.tests.kernels.deformable_cases import CASES, inputs

CUDA = Path(kernels.__file__).parent / "cuda"


@pytest.mark.skipif(find_toolkit() is None, reason=explain())
@pytest.mark.parametrize("source", sorted(CUDA.glob("*.cu")), ids=lambda path: path.name)
def test_compiles_for_every_architecture(source: Path, tmp_path: Path) -> None:
    toolkit = find_toolkit()
    assert toolkit
    toolkit.compile(source, tmp_path / "kernel.so")
    ctypes.CDLL(str(tmp_path / "kernel.so"))


@pytest.fixture(scope="module")
def emulated(tmp_path_factory: pytest.TempPathFactory) -> ctypes.CDLL:
    """The library, built as plain C++ with threads, barriers and shuffles played by fibers."""
    target = tmp_path_factory.mktemp("emulated") / "kernel.so"
    flags = ["-x", "c++", "-std=c++17", "-O2", "-w", "-include", str(Path(__file__).parent / "cuda_emulation.h")]
    source = str(CUDA / "deformable_attention.cu")
    subprocess.run(["g++", *flags, "-shared", "-fPIC", source, "-o", str(target)], check=True)
    return binding.load(target)


@pytest.fixture
def on_cpu(emulated: ctypes.CDLL, monkeypatch: pytest.MonkeyPatch) -> None:
    """The binding for torch takes tensors of the CPU."""

    @contextmanager
    def no_stream(tensor: Any) -> Iterator[int]:
        yield 0

    monkeypatch.setattr(binding, "_stream", no_stream)
    monkeypatch.setattr(binding, "_library", lambda tensor: emulated)


def both(case: str, dtype: Any, misaligned: bool = False) -> Iterator[tuple[Any, Any]]:
    """Output and three gradients of the kernel, each with what torch says in float64 about the same numbers."""
    value, shapes, locations, weights = inputs(case)
    real = torch.float64 if dtype == torch.float64 else torch.float32
    locations = np.clip(locations, -10, 10)  # further outside torch's grid overflows
    arrays = [torch.tensor(value, dtype=dtype), torch.tensor(locations, dtype=real), torch.tensor(weights, dtype=real)]
    if misaligned:
        arrays[0] = torch.cat([arrays[0].flatten()[:1], arrays[0].flatten()])[1:].view(value.shape)
    ours = [x.requires_grad_() for x in arrays]
    exact = [x.detach().double().requires_grad_() for x in arrays]
    out = binding.deformable_attention(ours[0], shapes, ours[1], ours[2])
    expected = composed(exact[0], shapes, exact[1], exact[2])
    grad = torch.tensor(np.random.default_rng(1).standard_normal(tuple(out.shape))).to(dtype)
    yield out.detach(), expected.detach()
    yield from zip(
        torch.autograd.grad(out, ours, grad), torch.autograd.grad(expected, exact, grad.double()), strict=True
    )


@pytest.mark.usefixtures("on_cpu")
@pytest.mark.parametrize("case", [case for case in CASES if CASES[case][3]])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16], ids=str)
def test_emulated_kernel_equals_torch(case: str, dtype: Any) -> None:
    tolerance = {torch.float32: 5e-6, torch.float64: 1e-13, torch.bfloat16: 1e-2}[dtype]
    for got, expected in both(case, dtype):
        close(got.double().numpy(), expected.numpy(), tolerance)


@pytest.mark.usefixtures("on_cpu")
def test_emulated_kernel_takes_a_misaligned_view() -> None:
    for got, expected in both("one query", torch.float32, misaligned=True):
        close(got.double().numpy(), expected.numpy(), 5e-6)


@pytest.mark.usefixtures("on_cpu")
def test_no_queries() -> None:
    value, shapes, locations, weights = inputs("no queries")
    tensors = [torch.tensor(x, requires_grad=True) for x in (value, locations, weights)]
    out = binding.deformable_attention(tensors[0], shapes, tensors[1], tensors[2])
    assert out.shape == (1, 0, 128)
    assert not torch.autograd.grad(out.sum(), tensors[0])[0].any()


@pytest.mark.usefixtures("on_cpu")
def test_launches_that_cannot_be_are_refused() -> None:
    shapes = [(1, 1)] * 9
    value, locations = torch.zeros(1, 9, 1, 4), torch.zeros(1, 1, 1, 9, 1, 2)
    with pytest.raises(RuntimeError, match="invalid argument"):
        binding.deformable_attention(value, shapes, locations, locations[..., 0])
    with pytest.raises(ValueError, match="int32"):
        binding.deformable_attention(value.int(), shapes, locations, locations[..., 0])
