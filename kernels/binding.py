"""From C++ text files to Jittor operators.

Jittor keys its compiled kernels by their text, not by the files that the text includes. Sources are therefore pasted
together here and never included by path; an edited file is compiled anew, an unedited one never. Sizes and numbers stay
out of the text: shapes are read from the variables, scalars are passed as ``data``.
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
    return "\n".join((_CPU / file).read_text() for file in files)


def cpu_op(
    shapes: Sequence[Sequence[int]],
    inputs: Sequence[Any],
    files: Sequence[str],
    call: str,
    data: Mapping[str, float] | None = None,
) -> list[Any]:
    """Run a C++ kernel on Jittor variables; all outputs have the type of the first input.

    Args:
        shapes: of the outputs; their memory is not zeroed.
        inputs: ``in0`` … of the kernel, contiguous there whatever they are here.
        files: of ``kernels/cpu``.
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
