"""Operators of ``kernels`` against torch at the sizes of Grounding DINO: ``python -m ovd_bench.perf.kernels``.

``[--only NAME] [--repeats N] [--threads N] [--out FILE.md]``; a name selects all cases that begin with it.

Both sides have the same inputs and number of threads and alternate in one process after two untimed rounds. The
backward pass of both starts from the sum of the result times fixed weights. A ratio is the median over the rounds,
below 1 if Jittor is faster. A difference is the largest one between the two results, relative to torch's largest value.
Among millions of hidden values of a ReLU a few are 0 up to rounding; each one that gets another sign there causes a
difference of 1e-3 to 1e-2. So does a sample at the centre of a pixel up to rounding, where the slope is discontinuous.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from statistics import median
from typing import Annotated, Any

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F  # noqa: N812
import typer
from rich.console import Console

from ovd_bench.benchmarks.data.files.atomic import atomic_write
from ovd_bench.kernels.deformable_attention import deformable_attention
from ovd_bench.kernels.feed_forward import feed_forward
from ovd_bench.kernels.linear import linear
from ovd_bench.kernels.matmul import bmm
from ovd_bench.kernels.norms import group_norm, layer_norm
from ovd_bench.kernels.runtime import jittor
from ovd_bench.kernels.softmax import softmax
from ovd_bench.perf.deformable_attention_torch import composed
from ovd_bench.perf.gpu import SHAPES, make_inputs
from ovd_bench.perf.kernel_attention import ATTENTION_CASES
from ovd_bench.perf.machine import describe_machine
from ovd_bench.perf.tables import MarkdownTable

jt = jittor()

Array = npt.NDArray[np.float32]


@dataclass(frozen=True)
class Case:
    """One operator at one size; both functions take the inputs in order."""

    name: str
    inputs: Callable[[], Sequence[Array]]
    ours: Callable[..., Any]
    theirs: Callable[..., torch.Tensor]


def normal(*shapes: tuple[int, ...]) -> list[Array]:
    """Normal numbers, scaled so that products stay near 1."""
    rng = np.random.default_rng(0)
    return [rng.standard_normal(shape, np.float32) / np.float32(shape[-1] ** 0.25) for shape in shapes]


def _linear(rows: int, inputs: int, outputs: int) -> Case:
    shapes = ((rows, inputs), (outputs, inputs), (outputs,))
    return Case(f"linear {rows} x {inputs} -> {outputs}", partial(normal, *shapes), linear, F.linear)


def _feed_forward(rows: int, width: int, hidden: int, activation: Any) -> Case:
    act: Any = {"relu": F.relu, "gelu": F.gelu}[activation]
    shapes = ((rows, width), (hidden, width), (hidden,), (width, hidden), (width,))
    return Case(
        f"feed_forward {rows} x {width} -> {hidden} {activation}",
        partial(normal, *shapes),
        partial(feed_forward, activation=activation),
        lambda x, w1, b1, w2, b2: F.linear(act(F.linear(x, w1, b1)), w2, b2),
    )


def _layer_norm(rows: int, width: int) -> Case:
    return Case(
        f"layer_norm {rows} x {width}",
        partial(normal, (rows, width), (width,), (width,)),
        lambda x, w, b: layer_norm(x, w, b, 1e-5),
        lambda x, w, b: F.layer_norm(x, (width,), w, b, 1e-5),
    )


def _group_norm(height: int, width: int) -> Case:
    return Case(
        f"group_norm 256 x {height} x {width}",
        partial(normal, (1, 256, height, width), (256,), (256,)),
        lambda x, w, b: group_norm(x, 32, w, b, 1e-5),
        lambda x, w, b: F.group_norm(x, 32, w, b, 1e-5),
    )


def _softmax(*shape: int) -> Case:
    name = f"softmax {' x '.join(map(str, shape))}"
    return Case(name, partial(normal, shape), softmax, lambda x: x.softmax(-1))


def _bmm(batch: int, m: int, k: int, n: int, transpose_a: bool, transpose_b: bool) -> Case:
    shapes = (batch, k, m) if transpose_a else (batch, m, k), (batch, n, k) if transpose_b else (batch, k, n)
    marks = "^T" if transpose_a else "", "^T" if transpose_b else ""
    return Case(
        f"bmm {batch} x {m} x {k}{marks[0]} @ {k} x {n}{marks[1]}",
        partial(normal, *shapes),
        lambda a, b: bmm(a, b, transpose_a, transpose_b),
        lambda a, b: torch.bmm(a.mT if transpose_a else a, b.mT if transpose_b else b),
    )


def _deformable(queries: int) -> Case:
    return Case(
        f"deformable_attention {queries} queries",
        partial(make_inputs, queries, 0, SHAPES),
        lambda value, locations, weights: deformable_attention(value, SHAPES, locations, weights),
        lambda value, locations, weights: composed(value, SHAPES, locations, weights),
    )


#: 17,821 = tokens of an 800 x 1066 image on four levels; 53,333 = its patches; 195 = tokens of the 80 COCO names.
CASES: tuple[Case, ...] = (
    _linear(17821, 256, 256),
    _linear(17821, 256, 2048),
    _linear(53333, 96, 288),
    _linear(195, 768, 768),
    _feed_forward(17821, 256, 2048, "relu"),
    _feed_forward(900, 256, 2048, "relu"),
    _feed_forward(53333, 96, 384, "gelu"),
    _feed_forward(195, 768, 3072, "gelu"),
    _layer_norm(17821, 256),
    _layer_norm(53333, 96),
    _layer_norm(900, 256),
    _group_norm(100, 134),
    _softmax(17821 * 8, 16),
    _softmax(8, 900, 900),
    _bmm(8, 900, 32, 900, False, True),
    _bmm(8, 900, 900, 32, False, False),
    _bmm(4, 17821, 256, 195, False, True),
    _bmm(4, 195, 17821, 256, True, False),
    _deformable(900),
    _deformable(17821),
    *(Case(case.name, partial(normal, *case.shapes), case.ours, case.theirs) for case in ATTENTION_CASES),
)


def measure(case: Case, repeats: int) -> tuple[str, ...]:
    """A row of the table."""
    arrays = case.inputs()
    variables, tensors = [jt.array(x) for x in arrays], [torch.from_numpy(x) for x in arrays]
    with torch.no_grad():
        expected = case.theirs(*tensors).numpy()
    weights = normal(expected.shape)[0]
    difference = _difference(case.ours(*variables).numpy(), expected)
    forward = _in_turns(
        lambda: case.ours(*variables).sync(), lambda: _without_graph(lambda: case.theirs(*tensors)), repeats
    )
    both_ways = _in_turns(
        lambda: _ours_both_ways(case, variables, jt.array(weights)),
        lambda: _theirs_both_ways(case, arrays, torch.from_numpy(weights)),
        repeats,
    )
    gradients = zip(
        _ours_both_ways(case, variables, jt.array(weights)),
        _theirs_both_ways(case, arrays, torch.from_numpy(weights)),
        strict=True,
    )
    backward = max(_difference(ours.numpy(), theirs.numpy()) for ours, theirs in gradients)
    return (case.name, *forward, f"{difference:.1e}", *both_ways, f"{backward:.1e}")


def _without_graph(call: Callable[[], object]) -> None:
    with torch.no_grad():
        call()


def _ours_both_ways(case: Case, variables: list[Any], weights: Any) -> list[Any]:
    gradients = jt.grad((case.ours(*variables) * weights).sum(), variables)
    jt.sync(gradients)
    return list(gradients)


def _theirs_both_ways(case: Case, arrays: Sequence[Array], weights: torch.Tensor) -> tuple[torch.Tensor, ...]:
    leaves = [torch.from_numpy(x).requires_grad_() for x in arrays]
    gradients: tuple[torch.Tensor, ...] = torch.autograd.grad((case.theirs(*leaves) * weights).sum(), leaves)
    return gradients


def _difference(found: Array, expected: Array) -> float:
    return float(np.abs(found - expected).max() / np.abs(expected).max())


def _in_turns(ours: Callable[[], object], theirs: Callable[[], object], repeats: int) -> tuple[str, str, str]:
    """Median milliseconds of both, and median ratio of consecutive runs."""
    seconds: tuple[list[float], list[float]] = ([], [])
    for repeat in range(repeats + 2):
        for side, call in zip(seconds, (ours, theirs), strict=True):
            start = time.perf_counter()
            call()
            if repeat >= 2:
                side.append(time.perf_counter() - start)
    ratio = median(mine / other for mine, other in zip(*seconds, strict=True))
    return f"{1e3 * median(seconds[0]):.2f}", f"{1e3 * median(seconds[1]):.2f}", f"{ratio:.2f}"


def main(
    only: Annotated[str, typer.Option(help="Cases whose name begins with this.")] = "",
    repeats: Annotated[int, typer.Option(min=1, help="Timed runs of each side.")] = 15,
    threads: Annotated[int, typer.Option(min=1, help="Of both sides.")] = 2,
    out: Annotated[Path | None, typer.Option(help="Markdown file to write.")] = None,
) -> None:
    """Time the kernels against torch."""
    cases = [case for case in CASES if case.name.startswith(only)]
    if not cases:
        raise typer.BadParameter(f"no case begins with '{only}'; there are {', '.join(case.name for case in CASES)}")
    torch.set_num_threads(threads)  # sets the number of OpenMP threads, which Jittor's kernels use too
    console = Console(width=None if sys.stdout.isatty() else 160)
    lines = [*describe_machine(["jittor", "torch"]), f"{threads} threads, median of {repeats} runs, milliseconds"]
    console.print(*lines, sep="\n", markup=False, highlight=False)
    header = ("case", "forward", "torch", "ratio", "difference", "with backward", "torch", "ratio", "difference")
    table = MarkdownTable("Kernels in Jittor and torch", header, [measure(case, repeats) for case in cases])
    table.show(console)
    if out is not None:
        head = ["# Speed of the kernels", "", *(f"- {line}" for line in lines), ""]
        with atomic_write(out) as file:
            file.write("\n".join([*head, table.markdown()]).encode())


if __name__ == "__main__":
    typer.run(main)
