"""The same seed gives the same pixels and bytes: recorded values, which change only with ``GENERATOR_VERSION``.

``python -m ovd_bench.tests.benchmarks.data.shapes.test_determinism`` records them anew after such a change.
"""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from ovd_bench.benchmarks.data.shapes import WORLDS, render, scene_plan
from ovd_bench.benchmarks.data.shapes.captions import caption
from ovd_bench.benchmarks.data.shapes.document import annotate, document
from ovd_bench.tests.benchmarks.data.shapes.worlds import SMALL

RECORDED = json.loads((Path(__file__).parent / "recorded.json").read_text())
_CODE = """
import hashlib
from ovd_bench.benchmarks.data.shapes import WORLDS, render
for key in {keys!r}:
    world, split, index = key.split("/")
    print(key, hashlib.sha256(render(WORLDS[world], split, int(index)).pixels.tobytes()).hexdigest())
"""


def sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def document_bytes(split: str) -> bytes:
    rows = [annotate(SMALL, split, i, scene_plan(SMALL, split, i)) for i in range(SMALL.splits[split])]
    return json.dumps(document(SMALL, split, rows)).encode()


def captions_bytes() -> bytes:
    return "\n".join(caption(SMALL, "train", i, scene_plan(SMALL, "train", i)).text for i in range(100)).encode()


def class_list_bytes(name: str) -> bytes:
    rows = [(c.id, c.name, c.frequency, c.image_count) for c in WORLDS[name].categories]
    return json.dumps(rows).encode()


@pytest.mark.parametrize("key", RECORDED["pixels"])
def test_pixel_hashes_are_the_recorded_ones(key: str) -> None:
    world, split, index = key.split("/")
    assert sha256(render(WORLDS[world], split, int(index)).pixels.tobytes()) == RECORDED["pixels"][key]


@pytest.mark.parametrize("split", SMALL.splits)
def test_annotations_are_the_recorded_ones(split: str) -> None:
    assert sha256(document_bytes(split)) == RECORDED["documents"][split]


def test_captions_are_the_recorded_ones() -> None:
    assert sha256(captions_bytes()) == RECORDED["captions"]


@pytest.mark.parametrize("name", WORLDS)
def test_class_lists_are_the_recorded_ones(name: str) -> None:
    assert sha256(class_list_bytes(name)) == RECORDED["classes"][name]


def test_another_process_in_another_order_with_plain_numpy_loops_gives_the_same_pixels() -> None:
    """Vectorised loops of numpy loops differ between processors; with them switched off nothing may change."""
    keys = sorted(RECORDED["pixels"], reverse=True)
    features = " ".join(np.core._multiarray_umath.__cpu_dispatch__)
    result = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", _CODE.format(keys=keys)],
        capture_output=True,
        text=True,
        check=True,
        env=os.environ | {"NPY_DISABLE_CPU_FEATURES": features, "PYTHONHASHSEED": "1"},
        cwd=Path(__file__).parents[4],
    )
    assert dict(line.split() for line in result.stdout.splitlines()) == RECORDED["pixels"]


def record() -> None:
    """Write what the generator makes now into ``recorded.json``."""
    pixels = {}
    for key in RECORDED["pixels"]:
        world, split, index = key.split("/")
        pixels[key] = sha256(render(WORLDS[world], split, int(index)).pixels.tobytes())
    values = {
        "pixels": pixels,
        "documents": {split: sha256(document_bytes(split)) for split in SMALL.splits},
        "captions": sha256(captions_bytes()),
        "classes": {name: sha256(class_list_bytes(name)) for name in WORLDS},
    }
    (Path(__file__).parent / "recorded.json").write_text(json.dumps(values, indent=2) + "\n")


if __name__ == "__main__":
    record()
