"""The notebook of ``examples`` runs from top to bottom, also as a plain script; the template keeps the contract."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from ovd_bench.benchmarks.conformance.checks import check_detector
from ovd_bench.benchmarks.data.files.atomic import file_sha256
from ovd_bench.detectors.interface import Detector, DetectorSettings
from ovd_bench.detectors.registry import load_detector
from ovd_bench.detectors.types import DetectorError

EXAMPLES = Path(__file__).resolve().parents[1] / "examples"


@pytest.fixture(scope="module")
def notebook() -> dict[str, Any]:
    content: dict[str, Any] = json.loads((EXAMPLES / "quickstart.ipynb").read_bytes())
    return content


def test_the_notebook_is_stored_without_outputs(notebook: dict[str, Any]) -> None:
    assert (notebook["nbformat"], notebook["nbformat_minor"]) == (4, 5)
    assert len({cell["id"] for cell in notebook["cells"]}) == len(notebook["cells"])
    for cell in notebook["cells"]:
        assert cell["cell_type"] in ("markdown", "code")
        if cell["cell_type"] == "code":
            assert (cell["outputs"], cell["execution_count"]) == ([], None)


def test_the_notebook_runs(notebook: dict[str, Any], tmp_path: Path) -> None:
    pytest.importorskip("torch")
    cells = ["".join(cell["source"]) for cell in notebook["cells"] if cell["cell_type"] == "code"]
    program = "\n".join(cells)
    assert program.count("images = 24\n") == 1
    (tmp_path / "program.py").write_text(program.replace("images = 24\n", "images = 6\n"))
    shutil.copy(EXAMPLES / "my_detector.py", tmp_path)
    done = subprocess.run(
        [sys.executable, "program.py"], cwd=tmp_path, capture_output=True, text=True, check=False, timeout=600
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("data sets:") == 1  # the processes that render did not start it again
    (numbers,) = re.findall(r"^map (\S+), COCOeval (\S+)$", done.stdout, re.MULTILINE)
    assert numbers[0] == numbers[1]
    assert float(numbers[0]) > 0.5
    assert (tmp_path / "quickstart" / "found.png").is_file()
    assert len(done.stdout.split("partial")) >= 3


def test_the_template_in_pytorch_keeps_the_contract(tmp_path: Path) -> None:
    safetensors_torch = pytest.importorskip("safetensors.torch")
    name = f"{EXAMPLES / 'torch_detector.py'}:TorchDetector"

    def load(top_k: int) -> Detector:
        return load_detector(name, DetectorSettings(top_k=top_k))

    made = list(check_detector(name, load))
    assert [(one.check, one.detail) for one in made if one.status == "failed"] == []
    network = sys.modules[type(load(1)).__module__].Network()
    safetensors_torch.save_file(network.state_dict(), tmp_path / "my.safetensors")
    loaded = load_detector(name, DetectorSettings(weights=str(tmp_path / "my.safetensors")))
    assert loaded.card.weights_sha256 == file_sha256(tmp_path / "my.safetensors")
    (tmp_path / "my.safetensors").write_bytes(b"no weights")
    with pytest.raises(DetectorError, match=r"my\.safetensors: ") as caught:
        load_detector(name, DetectorSettings(weights=str(tmp_path / "my.safetensors")))
    assert "\n" not in str(caught.value)
