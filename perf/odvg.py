"""Time and memory of ODVG files: indexing, opening, random access, and conversion.

``python -m ovd_bench.perf.odvg [--lines 1000000] [--images 100000] [--work FOLDER] [--out FILE.md]``

The files are generated here: detection records like those of Objects365 (15 boxes on average, 365 labels), an
annotation file in its format, and a document in MDETR's. Every figure is one run in a separate process.
"""

from __future__ import annotations

import argparse
import json
import resource
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
from rich.console import Console

from ovd_bench.benchmarks.data.files.atomic import atomic_write
from ovd_bench.benchmarks.data.files.native import library
from ovd_bench.benchmarks.data.odvg.detection import convert_objects365
from ovd_bench.benchmarks.data.odvg.index import OdvgFile
from ovd_bench.benchmarks.data.odvg.index_file import index_path
from ovd_bench.benchmarks.data.odvg.mdetr import convert_goldg
from ovd_bench.perf.child import Metrics, Run, run_child, time_and_report
from ovd_bench.perf.machine import describe_machine
from ovd_bench.perf.tables import MarkdownTable

_BOXES = 15
_CLASSES = 365
_DISTINCT = 5_000
_READS = 50_000
_WIDTH, _HEIGHT = 640, 480


def _boxes(rng: np.random.Generator) -> list[tuple[float, float, float, float, int]]:
    """x, y, w, h with the ten digits that Objects365 has, and a class."""
    count = min(int(rng.exponential(_BOXES)), 200)
    corners = np.sort(rng.random((count, 2, 2)), axis=1) * (_WIDTH, _HEIGHT)
    boxes = np.round(np.concatenate([corners[:, 0], corners[:, 1] - corners[:, 0]], 1), 10)
    labels = rng.integers(_CLASSES, size=count)
    return [(x, y, w, h, label) for (x, y, w, h), label in zip(boxes.tolist(), labels.tolist(), strict=True)]


def _images() -> list[list[tuple[float, float, float, float, int]]]:
    """Boxes of some images, which are repeated in the files."""
    rng = np.random.default_rng(0)
    return [_boxes(rng) for _ in range(_DISTINCT)]


def _records(count: int) -> Iterator[str]:
    tails = []
    for image in _images():
        instances = [
            {
                "bbox": [round(x, 2), round(y, 2), round(x + w, 2), round(y + h, 2)],
                "label": label,
                "category": f"class {label}",
            }
            for x, y, w, h, label in image
        ]
        rest = {"height": _HEIGHT, "width": _WIDTH, "detection": {"instances": instances}}
        tails.append(json.dumps(rest, separators=(",", ":"))[1:])
    for number in range(count):
        yield f'{{"filename":"patch{number % 51}/objects365_v2_{number:08}.jpg",{tails[number % _DISTINCT]}'


def _objects365(count: int) -> Iterator[str]:
    fixed = '"iscrowd":0,"isfake":0,"isreflected":0'
    tails = [
        [f'{fixed},"bbox":[{x},{y},{w},{h}],"area":{w * h},"category_id":{label + 1}' for x, y, w, h, label in image]
        for image in _images()
    ]
    number = 0
    yield '{"annotations":['
    for image in range(1, count + 1):
        for tail in tails[image % _DISTINCT]:
            yield f'{"," if number else ""}{{"id":{number},"image_id":{image},{tail}}}'
            number += 1
    yield '],"images":['
    for image in range(1, count + 1):
        name = f"images/v2/patch{image % 51}/objects365_v2_{image:08}.jpg"
        row = {"id": image, "file_name": name, "width": _WIDTH, "height": _HEIGHT, "license": 5, "url": ""}
        yield ("," if image > 1 else "") + json.dumps(row)
    yield f'],"categories":{json.dumps([{"id": k + 1, "name": f"class {k}"} for k in range(_CLASSES)])}}}'


def _goldg(count: int) -> Iterator[str]:
    caption = "a person beside a red car and two dogs on the grass"
    spans = ((0, 8), (16, 25), (30, 38), (42, 51))
    fixed = '"category_id":1,"iscrowd":0'
    tails = [
        [
            f'{fixed},"bbox":[{x},{y},{w},{h}],"area":{w * h},"tokens_positive":[{list(spans[label % 4])}]'
            for x, y, w, h, label in image[:6]
        ]
        for image in _images()
    ]
    number = 0
    yield '{"annotations":['
    for image in range(count):
        for tail in tails[image % _DISTINCT]:
            yield f'{"," if number else ""}{{"id":{number},"image_id":{image},{tail}}}'
            number += 1
    yield '],"images":['
    for image in range(count):
        row = {"id": image, "file_name": f"{image}.jpg", "width": _WIDTH, "height": _HEIGHT, "caption": caption}
        row |= {"dataset_name": "mixed", "tokens_negative": [[0, len(caption)]], "data_source": "gqa"}
        yield ("," if image else "") + json.dumps(row)
    yield "]}"


def _made(path: Path, pieces: Iterator[str], separator: str) -> Path:
    if not path.exists():
        with atomic_write(path) as file:
            for piece in pieces:
                file.write((piece + separator).encode())
    return path


def _child(work: str, path: Path) -> Callable[[], Metrics]:
    """Work that a child process times."""

    def index(processes: int) -> Metrics:
        OdvgFile.open(path, processes=processes)
        return {"helpers": resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss * 1024 if processes != 1 else 0}

    def read() -> Metrics:
        start = time.perf_counter()
        file = OdvgFile.open(path)
        opened = time.perf_counter()
        for number in np.random.default_rng(0).integers(0, len(file), _READS).tolist():
            file[number]
        return {"open": opened - start, "per second": _READS / (time.perf_counter() - opened)}

    def convert(converter: Callable[[Path, Path], object]) -> Metrics:
        converter(path, path.with_suffix(".jsonl"))
        return {}

    choices: dict[str, Callable[[], Metrics]] = {
        "index-one": lambda: index(1),
        "index-all": lambda: index(0),
        "read": read,
        "objects365": lambda: convert(convert_objects365),
        "goldg": lambda: convert(convert_goldg),
    }
    return choices[work]


def _mib(size: float | None) -> str:
    return f"{(size or 0) / 2**20:,.0f}"


def _index_table(path: Path, lines: int) -> MarkdownTable:
    rows, index = [], index_path(path)
    for name, label in (("index-one", "index, one process"), ("index-all", "index, all processors")):
        index.unlink(missing_ok=True)
        run = run_child("ovd_bench.perf.odvg", "--child", name, str(path))
        rows.append((label, f"{run.seconds:.2f}", _mib(run.peak_rss), _mib(run.metrics["helpers"])))
    found = run_child("ovd_bench.perf.odvg", "--child", "read", str(path))
    opened, rate = found.metrics["open"] or 0.0, found.metrics["per second"] or 0.0
    rows.append(("open afterwards", f"{opened:.4f}", _mib(found.peak_rss), ""))
    rows.append((f"{_READS:,} records at random, {rate:,.0f} per second", f"{_READS / rate:.2f}", "", ""))
    title = f"{lines:,} records, {_mib(path.stat().st_size)} MiB; index {_mib(index.stat().st_size)} MiB"
    return MarkdownTable(title, ("", "s", "peak MiB", "peak MiB of a helper"), rows)


def _convert_table(work: Path, images: int) -> MarkdownTable:
    library()  # built before the clock starts
    rows = []
    for name, pieces in (("objects365", _objects365), ("goldg", _goldg)):
        path = _made(work / f"{name}-{images}.json", pieces(images), "")
        run: Run = run_child("ovd_bench.perf.odvg", "--child", name, str(path))
        rows.append((f"{name}-odvg", _mib(path.stat().st_size), f"{run.seconds:.1f}", _mib(run.peak_rss)))
    return MarkdownTable(f"Conversion of {images:,} images or captions", ("", "MiB", "s", "peak MiB"), rows)


def main() -> None:
    """Measure, print, and write a Markdown file if requested."""
    parser = argparse.ArgumentParser(description="Time and memory of files of training records.")
    parser.add_argument("--lines", type=int, default=1_000_000)
    parser.add_argument("--images", type=int, default=100_000)
    parser.add_argument("--work", type=Path, help="folder for the made files; they are used again")
    parser.add_argument("--out", type=Path)
    parser.add_argument("--child", nargs=2, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.child:
        time_and_report(_child(arguments.child[0], Path(arguments.child[1])))
        return
    machine = describe_machine(["numpy", "pydantic"])
    with tempfile.TemporaryDirectory() as scratch:
        work = arguments.work or Path(scratch)
        work.mkdir(parents=True, exist_ok=True)
        work = work.resolve()  # as an index knows its file
        path = _made(work / f"records-{arguments.lines}.jsonl", _records(arguments.lines), "\n")
        tables = [_index_table(path, arguments.lines), _convert_table(work, arguments.images)]
    console = Console()
    for line in machine:
        console.print(line, markup=False, highlight=False)
    for table in tables:
        table.show(console)
    if arguments.out:
        text = "\n".join(["# Files of training records", "", *machine, "", *(table.markdown() for table in tables)])
        with atomic_write(arguments.out) as file:
            file.write(text.encode())


if __name__ == "__main__":
    main()
