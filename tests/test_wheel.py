"""The wheel holds what the suite needs and nothing else."""

from __future__ import annotations

import shutil
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
#: What the wheel takes from the root, and the rooms it takes whole.
_FILES = {"__init__.py", "bench.py", "coco.pyi", "lvis.pyi", "py.typed", "results/published.json"}
_ROOMS = {"baselines", "benchmarks", "detectors", "grounding_dino_jt", "kernels", "metrics"}
#: Records of trainings: results for readers, not read by the suite.
_LEFT_OUT = {".jsonl"}


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> zipfile.ZipFile:
    """Built from the tracked files, so that no build folder of the checkout has a part in it."""
    source = tmp_path_factory.mktemp("source")
    for name in _tracked():
        (source / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(ROOT / name, source / name)
    code = "import sys; from setuptools.build_meta import build_wheel; print(build_wheel(sys.argv[1]))"
    done = subprocess.run([sys.executable, "-c", code, "dist"], capture_output=True, text=True, check=True, cwd=source)
    return zipfile.ZipFile(source / "dist" / done.stdout.splitlines()[-1])


def test_the_wheel_holds_the_rooms_with_weights_configurations_and_sources(wheel: zipfile.ZipFile) -> None:
    wanted = {name for name in _tracked() if name.split("/")[0] in _ROOMS and Path(name).suffix not in _LEFT_OUT}
    suffixes = {Path(name).suffix for name in wanted}
    assert suffixes >= {".py", ".cc", ".cu", ".cuh", ".h", ".sh", ".json", ".yaml", ".j2", ".safetensors"}
    held = {name for name in wheel.namelist() if ".dist-info/" not in name}
    assert held == {f"ovd_bench/{name}" for name in wanted | _FILES}


def test_only_jittor_holds_numpy_and_python_back() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert project["requires-python"] == ">=3.11"
    held = [name for name in project["dependencies"] if name.startswith("numpy")]
    assert held == ["numpy>=1.26,<3"]
    extras = project["optional-dependencies"]
    assert [name for name, needs in extras.items() if any(need.startswith("numpy") for need in needs)] == ["jittor"]


def _tracked() -> list[str]:
    listed = subprocess.run(["git", "ls-files"], capture_output=True, text=True, check=True, cwd=ROOT)
    return [name for name in listed.stdout.splitlines() if (ROOT / name).is_file()]
