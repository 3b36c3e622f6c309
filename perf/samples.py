"""Speed of preparing training batches: images per second, and the time that the training process itself spends.

``python -m ovd_bench.perf.samples [--seconds 5] [--rounds 3] [--out FILE.md]``

Images are JPEG files of 640 x 480 pixels with noise of several scales, resized to 480 … 800 pixels by the recipe of
Grounding DINO; and PNG files of 192 x 192 pixels that are only mirrored, as for the small model. Each image has eight
boxes, of 365 classes with names of two words. The rows of a table are measured alternating.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import PIL.Image
from rich.console import Console

from ovd_bench.benchmarks.data.files.atomic import atomic_write
from ovd_bench.benchmarks.data.odvg.records import write_label_map
from ovd_bench.benchmarks.training.grounding.loader import GroundingData
from ovd_bench.benchmarks.training.grounding.sampling import Sampler
from ovd_bench.benchmarks.training.grounding.settings import GroundingSettings
from ovd_bench.benchmarks.training.grounding.sources import open_source
from ovd_bench.grounding_dino_jt.tokenizer import packaged_tokenizer
from ovd_bench.perf.machine import describe_machine
from ovd_bench.perf.tables import MarkdownTable

_IMAGES, _BATCH, _CLASSES, _BOXES = 48, 4, 365, 8
_RECORDS = 1_700_000
_WORKERS = (0, 1, 2)


def _write(folder: Path, size: tuple[int, int], form: str) -> None:
    """Images, records and label map."""
    folder.mkdir()
    rng = np.random.default_rng(0)
    lines = []
    for index in range(_IMAGES):
        width, height = size if index % 3 else size[::-1]
        pixels = np.zeros((height, width, 3))
        for cells in (4, 16, 64, 256):
            noise = PIL.Image.fromarray(rng.integers(0, 256, (cells, cells, 3), np.uint8))
            pixels += np.asarray(noise.resize((width, height), PIL.Image.Resampling.BICUBIC), np.float64) / 4
        PIL.Image.fromarray(pixels.astype(np.uint8)).save(folder / f"{index}.{form}", quality=92)
        corners = rng.random((_BOXES, 2)) * 0.6 * (width, height)
        boxes = np.concatenate([corners, corners + 0.3 * np.array([width, height])], axis=1).round(1)
        instances = [{"bbox": box, "label": int(rng.integers(_CLASSES))} for box in boxes.tolist()]
        head = {"filename": f"{index}.{form}", "height": height, "width": width}
        lines.append(json.dumps(head | {"detection": {"instances": instances}}) + "\n")
    (folder / "records.jsonl").write_text("".join(lines))
    write_label_map(folder / "names.json", [f"object number{i}" for i in range(_CLASSES)])


def _data(folder: Path, workers: int, changes: dict[str, Any]) -> GroundingData:
    source = {
        "annotations": str(folder / "records.jsonl"),
        "images": str(folder),
        "label_map": str(folder / "names.json"),
    }
    settings = GroundingSettings.model_validate({"sources": [source], "workers": workers} | changes)
    sources = [open_source(one) for one in settings.sources]
    return GroundingData(sources, settings, packaged_tokenizer(), batch=_BATCH, seed=0)


def _race(title: str, folder: Path, changes: dict[str, Any], seconds: float, rounds: int) -> MarkdownTable:
    """Images per second with a number of workers, and CPU time of this process per batch."""
    times: dict[int, list[tuple[float, float]]] = {workers: [] for workers in _WORKERS}
    for _ in range(rounds):
        for workers, found in times.items():
            with _data(folder, workers, changes).batches() as batches:
                for _ in range(2 * max(_WORKERS) + _IMAGES // _BATCH):  # starts the workers and fills the file cache
                    next(batches)
                begin, own, count = time.perf_counter(), time.process_time(), 0
                while time.perf_counter() - begin < seconds:
                    next(batches)
                    count += 1
                found.append(((time.perf_counter() - begin) / count, (time.process_time() - own) / count))
    rows = []
    for workers, found in times.items():
        wall, own = (median(pair[i] for pair in found) for i in range(2))
        rows.append((str(workers), f"{_BATCH / wall:.0f}", f"{1e3 * own:.1f}"))
    return MarkdownTable(title, ("workers", "images/s", f"ms of the training per batch of {_BATCH}"), rows)


def _planning() -> MarkdownTable:
    rng = np.random.default_rng(0)
    sampler = Sampler(1 + rng.random(_RECORDS), rng.random(_RECORDS) < 0.7, batch=64, seed=0)
    begin = time.perf_counter()
    sampler.plan(0)
    seconds = time.perf_counter() - begin
    return MarkdownTable("Order of an epoch", ("", "s"), [(f"{_RECORDS:,} records, repeats 1 to 2", f"{seconds:.2f}")])


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure, print, and write a file if requested."""
    parser = argparse.ArgumentParser(prog="python -m ovd_bench.perf.samples")
    parser.add_argument("--seconds", type=float, default=5.0, help="per measurement")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--out", type=Path)
    options = parser.parse_args(arguments)
    machine = describe_machine(["numpy", "pillow"])
    plain: dict[str, Any] = {"sizes": [], "crop": None}
    with tempfile.TemporaryDirectory(prefix="ovd-bench-") as root:
        photos, small = Path(root) / "photos", Path(root) / "small"
        _write(photos, (640, 480), "jpg")
        _write(small, (192, 192), "png")
        cases: tuple[tuple[str, Path, dict[str, Any]], ...] = (
            ("480 … 800 pixels, crops", photos, {}),
            ("192 pixels", small, plain),
            ("192 pixels, kept in memory", small, plain | {"cache_images": True}),
        )
        tables = [_race(title, folder, changes, options.seconds, options.rounds) for title, folder, changes in cases]
    tables.append(_planning())
    console = Console()
    for line in machine:
        console.print(line, highlight=False)
    for table in tables:
        table.show(console)
    if options.out:
        with atomic_write(options.out) as file:
            file.write("\n".join([*machine, "", *(table.markdown() for table in tables)]).encode())


if __name__ == "__main__":
    main()
