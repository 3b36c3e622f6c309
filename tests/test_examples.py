"""The notebook of ``examples`` runs from top to bottom, and as a plain script, which has no main guard."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

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
