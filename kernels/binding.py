"""Makes Jittor operators from C++ source files.

Jittor caches compiled kernels by their text, which does not cover included files. Sources are therefore concatenated
here and not included, so that a kernel is recompiled exactly if one of its files changed. Sizes and numbers are not
part of the text: shapes are read from the variables, scalars are passed as ``data``.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

from ovd_bench.kernels.runtime import jittor

_CPU = Path(__file__).parent / "cpu"


@cache
def cpu_source(*files: str) -> str:
    """Text of files in ``kernels/cpu``, one after the other."""
    return "\n".join((_CPU / file).read_text(encoding="utf-8") for file in files)


def cpu_op(
    shapes: Sequence[Sequence[int]],
    inputs: Sequence[Any],
    files: Sequence[str],
    call: str,
    data: Mapping[str, float] | None = None,
) -> list[Any]:
    """Run a C++ kernel on Jittor variables; all outputs have the type of the first input.

    Args:
        shapes: shapes of the outputs; their memory is not zeroed.
        inputs: ``in0`` … of the kernel; made contiguous for it.
        files: file names in ``kernels/cpu``.
        call: C++ statement that calls the kernel, with Jittor's names (``in0_p``, ``in0_shape0``, ``out0_p``).
        data: numbers that the statement reads as ``data["name"]``.
    """
    jt = jittor()
    dtype = inputs[0].dtype
    return list(
        jt.code(
            [list(shape) for shape in shapes],
            [dtype] * len(shapes),
            list(inputs),
            cpu_header=cpu_source(*files),
            cpu_src=call,
            data=dict(data or {}),
        )
    )
