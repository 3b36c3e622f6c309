"""The arrows between the rooms run downwards only."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
MAY_IMPORT = {
    "metrics": {"metrics"},
    "kernels": {"kernels"},
    "grounding_dino_jt": {"grounding_dino_jt", "kernels"},
    "baselines": {"baselines"},
    "detectors": {"detectors", "baselines", "grounding_dino_jt"},
    "benchmarks": {"benchmarks", "detectors", "metrics"},
}
ROOMS = {"bench", "benchmarks", "detectors", "grounding_dino_jt", "kernels", "baselines", "metrics", "tests"}
FRAMEWORKS = {"torch", "jittor", "transformers", "sentence_transformers", "open_clip", "tensorflow"}


def _imports(path: Path) -> set[str]:
    nodes = list(ast.walk(ast.parse(path.read_text())))
    names = {alias.name for node in nodes if isinstance(node, ast.Import) for alias in node.names}
    names |= {node.module for node in nodes if isinstance(node, ast.ImportFrom) and node.module}
    return {name.split(".")[0] for name in names}


#: What reads files hands batches to the trainers, which are no detector's business.
TRAINING = ROOT / "benchmarks" / "training"
#: Races of single operators, and of a network without its adapter.
RACES = ROOT / "benchmarks" / "perf"
#: Set-up and doctor look after the runtime itself.
RUNTIME = {ROOT / "benchmarks" / name for name in ("warm.py", "doctor.py")}


@pytest.mark.parametrize("room", MAY_IMPORT)
def test_rooms_import_only_what_lies_below(room: str) -> None:
    files = list((ROOT / room).rglob("*.py"))
    assert files
    for path in files:
        allowed = MAY_IMPORT[room] | ({"baselines", "grounding_dino_jt"} if path.is_relative_to(TRAINING) else set())
        allowed |= {"kernels", "grounding_dino_jt"} if path.is_relative_to(RACES) else set()
        allowed |= {"kernels"} if path in RUNTIME else set()
        assert not (_imports(path) & ROOMS) - allowed, path


def test_metrics_know_no_framework_and_no_file_formats() -> None:
    for path in (ROOT / "metrics").rglob("*.py"):
        assert not _imports(path) & (FRAMEWORKS | {"pyarrow", "PIL", "pydantic", "rich", "typer"}), path


def test_importing_the_command_line_imports_no_framework() -> None:
    code = f"import sys, bench; print(sorted({FRAMEWORKS | {'pyarrow', 'matplotlib', 'scipy'}} & set(sys.modules)))"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT)
    assert result.stdout.strip() == "[]"
