"""Deformable attention on a GPU: errors, and times compared with PyTorch operators and the memory bandwidth.

``perf/gpu.sh [--repeats 50] [--out perf/RESULTS.md]``

Sizes are those of Grounding DINO on an 800 × 1066 image: 8 heads of 32 channels, 4 levels, 4 points; 900 queries as in
the decoder, 17,821 as in the encoder. Samples lie around the position of each query, as in a trained model.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
from collections.abc import Callable
from functools import partial
from itertools import cycle
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
from rich.console import Console

from ovd_bench.benchmarks.data.files.atomic import atomic_write
from ovd_bench.perf.tables import MarkdownTable

SHAPES = [(100, 134), (50, 67), (25, 34), (13, 17)]
QUERIES = (900, 17821)
_HEADS, _DIM, _POINTS = 8, 32, 4
_SETS = 4  # alternating inputs: together they do not fit into the cache of any device
_WARM_UP = 5
_TYPES = ("float32", "float16", "bfloat16", "float64")
_OPERANDS = ("value", "locations", "weights")
_HEADING = "## Deformable attention on "
_NONE_YET = "No GPU has been available"

Operator = Callable[..., Any]


def make_inputs(queries: int, seed: int, shapes: list[tuple[int, int]]) -> list[np.ndarray[Any, Any]]:
    """Value (1, S, H, D), locations (1, Q, H, L, P, 2) and weights (1, Q, H, L, P) that sum to 1, float32."""
    random = np.random.default_rng(seed)
    value = random.standard_normal((1, sum(h * w for h, w in shapes), _HEADS, _DIM))
    if queries == value.shape[1]:  # a query per pixel, row by row
        rows = [np.stack(np.meshgrid((np.arange(w) + 0.5) / w, (np.arange(h) + 0.5) / h), -1) for h, w in shapes]
        places = np.concatenate([row.reshape(-1, 2) for row in rows])
    else:
        places = random.random((queries, 2))
    steps = random.standard_normal((1, queries, _HEADS, len(shapes), _POINTS, 2)) * 2
    locations = places[None, :, None, None, None] + steps / np.array([(w, h) for h, w in shapes])[:, None]
    weights = random.random(locations.shape[:-1])
    weights /= weights.sum((-2, -1), keepdims=True)
    return [x.astype(np.float32) for x in (value, locations, weights)]


def bytes_moved(queries: int, pixels: int, levels: int, value_bytes: int, real_bytes: int) -> tuple[int, int]:
    """Bytes to move if every number is moved once: forward pass, forward and backward pass."""
    value, out = pixels * _HEADS * _DIM, queries * _HEADS * _DIM
    samples = 3 * queries * _HEADS * levels * _POINTS  # x, y and weight
    forward = (value + out) * value_bytes + samples * real_bytes
    # Backward: reads the same inputs and the gradient of the output, zeroes and writes the gradient of the value.
    return forward, 2 * forward + 2 * value * real_bytes + samples * real_bytes


def correctness(device: str, queries: tuple[int, ...], shapes: list[tuple[int, int]]) -> MarkdownTable:
    """Errors of kernel and composition relative to the composition in float64, on the same device."""
    from ovd_bench.perf.deformable_attention_torch import composed, deformable_attention

    rows = []
    for number in queries:
        for name in _TYPES:
            arrays = _tensors(make_inputs(number, 0, shapes), name, device)
            exact = _with_gradients(composed, [x.detach().double() for x in arrays], shapes)
            for label, operator in (("kernel", deformable_attention), ("composition", composed)):
                if label == "composition" and name not in ("float32", "float64"):
                    continue  # its locations would have 16 bits
                got = _with_gradients(operator, [x.detach() for x in arrays], shapes)
                errors = [float((a.double() - b).abs().max() / b.abs().max()) for a, b in zip(got, exact, strict=True)]
                rows.append((f"{label}, {name}, {number:,} queries", *(f"{error:.1e}" for error in errors)))
    header = ("largest error / largest value", "output", *(f"gradient of {name}" for name in _OPERANDS))
    return MarkdownTable("Against float64", header, rows)


def times(device: str, queries: tuple[int, ...], shapes: list[tuple[int, int]], repeats: int) -> MarkdownTable:
    """Medians in milliseconds, kernel and composition alternating; the floor is bytes divided by measured bandwidth."""
    from ovd_bench.perf.deformable_attention_torch import composed, deformable_attention

    bandwidth = _bandwidth(device)
    pixels, rows = sum(h * w for h, w in shapes), []
    for number in queries:
        for name in ("float32", "float16"):
            sets = [_tensors(make_inputs(number, seed, shapes), name, device) for seed in range(_SETS)]
            moved = bytes_moved(number, pixels, len(shapes), sets[0][0].element_size(), 4)
            for index, (label, step) in enumerate((("forward", _forward), ("forward + backward", _with_gradients))):
                calls: dict[str, Operator] = {"kernel": partial(step, deformable_attention)}
                if name == "float32":
                    calls["composition"] = partial(step, composed)
                found = _medians(calls, sets, shapes, device, repeats)
                floor = moved[index] / bandwidth * 1e3
                other = found.get("composition")
                rows.append(
                    (
                        f"{label}, {name}, {number:,} queries",
                        f"{found['kernel']:.3f}",
                        f"{other:.3f}" if other else "",
                        f"{other / found['kernel']:.1f}" if other else "",
                        f"{floor:.3f}",
                        f"{found['kernel'] / floor:.1f}",
                    )
                )
    title = f"Milliseconds; memory moves {bandwidth / 1e9:,.0f} GB/s when copied"
    return MarkdownTable(title, ("", "kernel", "composition", "ratio", "memory floor", "kernel / floor"), rows)


def jittor_rows(shapes: list[tuple[int, int]], repeats: int) -> list[tuple[str, ...]]:
    """The same operator through Jittor on CUDA, in this process: error of the output and median milliseconds."""
    from ovd_bench.kernels import runtime

    runtime.select("cuda")
    jt = runtime.jittor()
    from ovd_bench.kernels.deformable_attention import deformable_attention
    from ovd_bench.perf.deformable_attention_torch import composed

    rows: list[tuple[str, ...]] = []
    for number in QUERIES:
        arrays = make_inputs(number, 0, shapes)
        exact = composed(*_spread(_tensors(arrays, "float64", "cpu"), shapes)).detach().numpy()
        variables = [jt.array(x) for x in arrays]
        seconds = []
        for _ in range(_WARM_UP + repeats):
            jt.sync_all(True)
            start = time.perf_counter()
            out = deformable_attention(*_spread(variables, shapes))
            gradients = jt.grad(out.sum(), variables)
            jt.sync([out, *gradients], True)
            seconds.append(time.perf_counter() - start)
        error = np.abs(out.numpy() - exact).max() / np.abs(exact).max()
        rows.append((f"float32, {number:,} queries", f"{error:.1e}", f"{1e3 * median(seconds[_WARM_UP:]):.3f}"))
    return rows


def through_jittor(repeats: int) -> MarkdownTable | str:
    """The table, from a separate process; one line if Jittor does not work with CUDA here."""
    from ovd_bench.kernels.runtime import problem

    found = problem("cuda")
    if found:
        return f"Jittor on CUDA was not tried: {found}."
    command = [sys.executable, "-m", "ovd_bench.perf.gpu", "--jittor", "--repeats", str(repeats)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        reason = (done.stderr.strip() or f"exit code {done.returncode}").splitlines()[-1]
        return f"Jittor on CUDA did not work: {reason}"
    rows = [tuple(row) for row in json.loads(done.stdout.splitlines()[-1])]
    return MarkdownTable("Through Jittor", ("", "error of the output", "forward + backward, ms, with launch"), rows)


def with_section(page: str, section: str) -> str:
    """The page with a new section; it replaces a section with the same heading and the note that there is none."""
    heading = section.splitlines()[0]
    head, *sections = ("\n" + page).split(f"\n{_HEADING}")
    kept = [f"{_HEADING}{text}".strip() for text in sections if f"{_HEADING}{text}".splitlines()[0] != heading]
    if _NONE_YET in head:
        head = head[: head.index(_NONE_YET)] + "Made by `perf/gpu.sh`, one section per device.\n"
    return "\n\n".join([head.strip(), *kept, section.strip()]) + "\n"


def _tensors(arrays: list[np.ndarray[Any, Any]], dtype: str, device: str) -> list[Any]:
    """The inputs on the device; the value has the given type, locations and weights have at least 32 bits."""
    import torch

    value, *rest = (torch.tensor(x, device=device) for x in arrays)
    real = torch.float64 if dtype == "float64" else torch.float32
    return [value.to(getattr(torch, dtype)), *(x.to(real) for x in rest)]


def _spread(operands: list[Any], shapes: list[tuple[int, int]]) -> tuple[Any, ...]:
    return operands[0], shapes, operands[1], operands[2]


def _forward(operator: Operator, operands: list[Any], shapes: list[tuple[int, int]]) -> list[Any]:
    import torch

    with torch.no_grad():
        return [operator(*_spread(operands, shapes))]


def _with_gradients(operator: Operator, operands: list[Any], shapes: list[tuple[int, int]]) -> list[Any]:
    import torch

    operands = [x.requires_grad_() for x in operands]
    out = operator(*_spread(operands, shapes))
    return [out.detach(), *torch.autograd.grad(out, operands, torch.ones_like(out))]


def _medians(
    calls: dict[str, Operator], sets: list[list[Any]], shapes: list[tuple[int, int]], device: str, repeats: int
) -> dict[str, float]:
    turns = cycle(sets)
    seconds: dict[str, list[float]] = {name: [] for name in calls}
    for turn in range(_WARM_UP + repeats):
        for name, call in calls.items():
            taken = _seconds(partial(call, next(turns), shapes), device)
            if turn >= _WARM_UP:
                seconds[name].append(taken)
    return {name: 1e3 * median(values) for name, values in seconds.items()}


def _seconds(call: Callable[[], Any], device: str) -> float:
    import torch

    if device == "cpu":
        start = time.perf_counter()
        call()
        return time.perf_counter() - start
    start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
    # The device is kept busy while the calls are queued, so it never waits for them.
    torch.cuda._sleep(2_000_000)
    start.record()
    call()
    end.record()
    end.synchronize()
    return float(start.elapsed_time(end)) / 1e3


def _bandwidth(device: str, numbers: int = 2**28) -> float:
    """Bytes per second of copies of 1 GiB, counting reads and writes."""
    import torch

    source = torch.zeros(numbers if device != "cpu" else 2**22, device=device)
    target = torch.empty_like(source)
    fastest = min(_seconds(lambda: target.copy_(source), device) for _ in range(_WARM_UP))
    return float(2 * source.numel() * source.element_size() / fastest)


def main() -> None:
    """Measure, print, and write the section of this device."""
    parser = argparse.ArgumentParser(description="Deformable attention on a graphics processor.")
    parser.add_argument("--repeats", type=int, default=50)
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "RESULTS.md")
    parser.add_argument("--jittor", action="store_true", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.jittor:
        print(json.dumps(jittor_rows(SHAPES, arguments.repeats)))
        return
    import torch

    if not torch.cuda.is_available():
        sys.exit("gpu: PyTorch sees no NVIDIA device; run this on a machine that has one")
    console = Console()
    parts = [
        correctness("cuda", QUERIES, SHAPES),
        times("cuda", QUERIES, SHAPES, arguments.repeats),
        through_jittor(arguments.repeats),
    ]
    name = torch.cuda.get_device_name()
    lines = [f"{_HEADING}{name}", "", f"PyTorch {torch.__version__}, CUDA {torch.version.cuda}.", ""]
    for part in parts:
        if isinstance(part, MarkdownTable):
            part.show(console)
            lines.append("#" + part.markdown())
        else:
            console.print(part, markup=False)
            lines += [part, ""]
    page = arguments.out.read_text() if arguments.out.exists() else "# Measured on graphics processors\n"
    with atomic_write(arguments.out) as file:
        file.write(with_section(page, "\n".join(lines)).encode())


if __name__ == "__main__":
    main()
