"""Tensors made in a forward pass are made on its device: checked in the source, since CUDA may be missing."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

BASELINES = Path(__file__).resolve().parents[2] / "baselines"
#: Of ``torch``; those that end in ``_like`` and a tensor's ``new_*`` follow by themselves.
MAKERS = {"zeros", "ones", "full", "empty", "tensor", "as_tensor", "arange", "linspace", "eye", "rand", "randn"}
FILES = [
    BASELINES / "swin.py",
    *sorted(path for room in ("controlled", "glip") for path in (BASELINES / room).glob("*.py")),
]
FILES += [BASELINES / "owl_nano" / f"{name}.py" for name in ("assign", "boxes", "losses", "model")]


def _placeless(node: ast.AST) -> Iterator[int]:
    """Lines that make a tensor without saying where; not in constructors, whose modules are moved as a whole."""
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.FunctionDef) and child.name == "__init__":
            continue
        if (
            isinstance(child, ast.Call)
            and ast.unparse(child.func) in {f"torch.{name}" for name in MAKERS}
            and not any(keyword.arg == "device" for keyword in child.keywords)
        ):
            yield child.lineno
        yield from _placeless(child)


@pytest.mark.parametrize("path", FILES, ids=lambda path: f"{path.parent.name}/{path.name}")
def test_no_tensor_is_made_on_a_device_of_its_own(path: Path) -> None:
    assert list(_placeless(ast.parse(path.read_text()))) == []


def test_one_that_is_would_be_found() -> None:
    code = "def forward(x):\n    return x + torch.arange(3)\n"
    assert list(_placeless(ast.parse(code))) == [2]
