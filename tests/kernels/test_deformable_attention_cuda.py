"""The source that Jittor compiles on CUDA: complete C++ for every type, in Jittor's names.

Jittor's own compilation needs a device; here its names are declared around the text, and the emulated CUDA of the
other tests stands for the real one.
"""

from __future__ import annotations

import subprocess
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from ovd_bench.kernels import deformable_attention as module
from ovd_bench.kernels.runtime import jittor

jt = jittor()

FRAME = """
#include <map>
#include <string>
struct Log {{ template <class T> const Log& operator<<(T) const {{ return *this; }} }};
#define LOGf Log()
void run({arguments}, std::map<std::string, double>& data) {{ {body} }}
"""


@pytest.fixture
def told(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    """Arguments of every operator that Jittor was asked for."""
    calls: list[dict[str, Any]] = []

    def code(shapes: Any, dtypes: Any, inputs: list[Any], **more: Any) -> list[Any]:
        calls.append({"shapes": shapes, "dtypes": [str(x) for x in dtypes], "inputs": inputs, **more})
        return [jt.zeros(shape, dtype) for shape, dtype in zip(shapes, dtypes, strict=True)]

    monkeypatch.setattr(module, "jt", SimpleNamespace(flags=SimpleNamespace(use_cuda=1), code=code))
    return calls


def compiles(call: dict[str, Any], folder: Path) -> str:
    """The compiler's complaints."""
    types = {"float32": "float", "float64": "double", "float16": "__half", "bfloat16": "__nv_bfloat16"}
    arguments = [f"{types[str(x.dtype)]}* in{i}_p" for i, x in enumerate(call["inputs"])]
    arguments += [f"long in{i}_shape{j}" for i, x in enumerate(call["inputs"]) for j in range(len(x.shape))]
    arguments += [f"{types[dtype]}* out{i}_p" for i, dtype in enumerate(call["dtypes"])]
    source = folder / "operator.cc"
    source.write_text(call["cuda_header"] + FRAME.format(arguments=", ".join(arguments), body=call["cuda_src"]))
    emulation = str(Path(__file__).parent / "cuda_emulation.h")
    command = ["g++", "-std=c++14", "-w", "-fsyntax-only", "-include", emulation, str(source)]
    return subprocess.run(command, capture_output=True, text=True, check=False).stderr


@pytest.mark.parametrize("dtype", ["float32", "float16"])
def test_text_compiles(dtype: str, told: list[dict[str, Any]], tmp_path: Path) -> None:
    value = jt.zeros((1, 6, 2, 4)).cast(dtype)
    locations, weights = jt.zeros((1, 3, 2, 1, 2, 2)), jt.zeros((1, 3, 2, 1, 2))
    out = module.deformable_attention(value, [(2, 3)], locations, weights)
    gradients = jt.grad(out.cast("float32").sum(), [value, locations, weights])
    assert str(out.dtype) == dtype
    assert [str(x.dtype) for x in gradients] == [dtype, "float32", "float32"]
    forward, backward = told
    assert forward["data"] == {"levels": 1.0, "height0": 2.0, "width0": 3.0}
    assert (forward["dtypes"], backward["dtypes"]) == ([dtype], ["float32"] * 3)
    assert [compiles(call, tmp_path) for call in told] == ["", ""]


def test_number_of_levels_has_a_limit(told: list[dict[str, Any]]) -> None:
    value = jt.array(np.zeros((1, 9, 1, 1), np.float32))
    with pytest.raises(ValueError, match="9 levels"):
        module.deformable_attention(value, [(1, 1)] * 9, jt.zeros((1, 1, 1, 9, 1, 2)), jt.zeros((1, 1, 1, 9, 1)))
    assert not told
