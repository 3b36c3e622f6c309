"""A small data set on disk, detectors that need no framework, and the command line in its own process."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from ovd_bench.benchmarks.data.errors import one_line
from ovd_bench.benchmarks.data.files.documents import checked
from ovd_bench.benchmarks.runner.events import Channel, End, Event, Fault, Loaded, ShardFailed, parse_event
from ovd_bench.benchmarks.runner.request import RunRequest
from ovd_bench.benchmarks.runner.worker import work
from ovd_bench.detectors.types import DetectorError
from ovd_bench.metrics.errors import DataError

ROOT = Path(__file__).resolve().parents[3]
DETECTORS = Path(__file__).with_name("toy_detectors.py")
Json = dict[str, Any]

NAMES = ("red thing", "green thing", "blue thing", "grey thing")


def make_data(folder: Path, images: int, *, side: int = 24, seed: int = 0) -> Path:
    """LVIS-like annotations and one-coloured boxes on noise; returns the annotation file.

    Image ids are sparse and not in the order of the file. The last class has no training image.
    """
    rng = np.random.default_rng(seed)
    (folder / "images").mkdir(parents=True)
    rows: list[Json] = []
    boxes: list[Json] = []
    for image in (rng.permutation(images) * 7 + 3).tolist():
        width, height = side + int(rng.integers(0, 9)), side
        pixels = rng.integers(90, 110, (height, width, 3)).astype(np.uint8)
        label = int(rng.integers(len(NAMES)))
        x, y, w, h = (int(v) for v in (*rng.integers(0, side // 2, 2), *rng.integers(4, side // 2, 2)))
        pixels[y : y + h, x : x + w] = np.eye(4, 3, dtype=np.uint8)[label] * 255
        Image.fromarray(pixels).save(folder / "images" / f"{image}.png")
        absent = [k + 1 for k in range(len(NAMES)) if k != label][: image % 3]
        lists = {"neg_category_ids": absent, "not_exhaustive_category_ids": []}
        rows.append({"id": image, "file_name": f"{image}.png", "width": width, "height": height, **lists})
        box = {"image_id": image, "category_id": label + 1, "bbox": [x, y, w, h], "area": w * h}
        boxes.append(box | {"id": len(boxes) + 1})
    categories = [
        {"id": k + 1, "name": name, "frequency": "fcrr"[k], "image_count": (200, 20, 2, 0)[k], "synonyms": [name]}
        | {"synset": f"{name.split()[0]}.n.01"}
        for k, name in enumerate(NAMES)
    ]
    path = folder / "toy.json"
    path.write_text(json.dumps({"images": rows, "annotations": boxes, "categories": categories}))
    return path


def detector(name: str = "Plain") -> str:
    """A detector of ``toy_detectors.py``, as the command line takes it."""
    return f"{DETECTORS}:{name}"


def request(gt: Path, out: Path, toy: str = "Plain", **parts: Any) -> RunRequest:
    """A request for a toy detector on an annotation file."""
    fields = {"data_root": gt.parent, "images": gt.parent / "images", "out": out, **parts}
    return checked(RunRequest, detector=detector(toy), benchmark=str(gt), **fields)


def make(asked: RunRequest, shards: list[int] | None = None) -> list[Event]:
    """What a worker does and tells, in this process."""
    stream = io.StringIO()
    channel = Channel(stream)
    try:
        work(asked, shards, channel, 0.0)
    except (DataError, DetectorError, OSError) as error:
        channel.tell(Fault(reason=one_line(error)))
    else:
        channel.tell(End())
    return [parse_event(line) for line in stream.getvalue().splitlines()]


def folder_of(events: list[Event]) -> Path:
    """The folder of the run that a worker reported."""
    return next(Path(event.folder) for event in events if isinstance(event, Loaded))


def failures(events: list[Event]) -> list[str]:
    """Reasons of a worker for missing shards or images."""
    return [event.reason for event in events if isinstance(event, ShardFailed | Fault)]


def command(*arguments: object) -> list[str]:
    """``bench.py`` with arguments."""
    return [sys.executable, str(ROOT / "bench.py"), *map(str, arguments)]


def bench(*arguments: object, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run the command line to its end."""
    return subprocess.run(
        command(*arguments),
        capture_output=True,
        text=True,
        check=False,
        env=os.environ | {"COLUMNS": "200", "NO_COLOR": "1", "OMP_NUM_THREADS": "1", **environment},
        timeout=300,
    )


def bench_json(*arguments: object, code: int = 0, **environment: str) -> Json:
    """What the command line prints with ``--json``."""
    result = bench(*arguments, "--json", **environment)
    assert result.returncode == code, result.stderr
    document: Json = json.loads(result.stdout)
    return document


def artefacts(folder: Path) -> dict[str, bytes]:
    """The files of a run that must not depend on how often it was interrupted: shards and manifest."""
    files = [*folder.glob("predictions/*.arrow"), folder / "predictions" / "manifest.json"]
    return {path.name: path.read_bytes() for path in files}
