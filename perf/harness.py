"""Overhead of the runner: time compared with a bare loop, and memory by number of images.

``python -m ovd_bench.perf.harness [--images 300] [--milliseconds 20] [--batch 4] [--repeats 5] [--out FILE.md]``

The bare loop reads the same files with the same reader, gives the same detector the same batches, and keeps its
detections in a list. The runner also checks the detections, writes them shard by shard with hashes and records, holds
locks, and reports to its parent. Both run in this process, alternating.
"""

from __future__ import annotations

import argparse
import io
import json
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from statistics import median

import numpy as np
import PIL.Image
from rich.console import Console

from ovd_bench.benchmarks.data.files.atomic import atomic_write
from ovd_bench.benchmarks.data.files.documents import checked
from ovd_bench.benchmarks.runner.events import Channel, Event, Fault, Loaded
from ovd_bench.benchmarks.runner.loading import LoadedDetector
from ovd_bench.benchmarks.runner.plan import RunPlan, prepare_run
from ovd_bench.benchmarks.runner.predict import run_worker
from ovd_bench.benchmarks.runner.reader import Reader, Wanted
from ovd_bench.benchmarks.runner.request import RunRequest
from ovd_bench.benchmarks.runner.shards import ShardMaker
from ovd_bench.benchmarks.store.describe import detector_info
from ovd_bench.benchmarks.store.manifest import read_manifest, read_records
from ovd_bench.detectors.card import DetectorCard
from ovd_bench.detectors.interface import DetectorSettings
from ovd_bench.detectors.prompts import PromptPlan
from ovd_bench.detectors.types import Detections, Image, Vocabulary
from ovd_bench.perf.machine import describe_machine
from ovd_bench.perf.tables import MarkdownTable

_BOXES = 300
_CLASSES = 80


class Waiting:
    """A detector that waits, as for a GPU (by default 0 s), and then returns 300 boxes."""

    card = DetectorCard("waiting", family="harness", framework="numpy", loader="", weights_sha256="0" * 64)

    def __init__(self, card: DetectorCard, settings: DetectorSettings, seconds: float = 0.0) -> None:
        rng = np.random.default_rng(0)
        corners = rng.random((_BOXES, 2)) * 300
        self._boxes = np.concatenate([corners, corners + 50], axis=1).astype(np.float32)
        self._scores = np.sort(rng.random(_BOXES))[::-1].astype(np.float32)
        self._labels = rng.integers(1, _CLASSES + 1, _BOXES).astype(np.int32)
        self._seconds = seconds

    def set_vocabulary(self, vocabulary: Vocabulary, plan: PromptPlan) -> None:
        """Nothing to encode."""

    def detect(self, images: Sequence[Image]) -> list[Detections]:
        """The same boxes for every image, after the wait."""
        self._work(self._seconds * len(images))
        return [Detections.of(image, self._boxes, self._scores, self._labels) for image in images]

    def _work(self, seconds: float) -> None:
        time.sleep(seconds)


class Computing(Waiting):
    """The same, but it keeps one CPU core busy while it waits, like a detector without a GPU."""

    def _work(self, seconds: float) -> None:
        end = time.perf_counter() + seconds
        matrix = np.ones((256, 256), np.float32)
        while time.perf_counter() < end:
            matrix = matrix @ matrix * np.float32(1e-3)


def overhead(folder: Path, *, images: int, milliseconds: float, batch: int, repeats: int) -> MarkdownTable:
    """Seconds of the bare loop and of the runner, alternating, and their ratio."""
    gt = _data(folder, images, files=images)
    rows = []
    for kind in (Waiting, Computing):
        detector = kind(kind.card, DetectorSettings(), milliseconds / 1000)
        bare, whole = [], []
        for repeat in range(repeats):
            request = _request(gt, folder / f"{kind.__name__}-{repeat}", batch)
            plan = RunPlan.of(request)
            bare.append(_bare_loop(plan, detector))
            whole.append(_runner(plan, detector))
        ratio = median(w / b for w, b in zip(whole, bare, strict=True))
        per_image = 1000 * (median(whole) - median(bare)) / images
        cells = (median(bare), median(whole))
        rows.append((kind.__name__, *(f"{c:.3f}" for c in cells), f"{ratio:.4f}", f"{per_image:+.3f}"))
    title = f"{images:,} images (640 x 480 JPEG), {milliseconds:g} ms each, batch {batch}, {_BOXES} boxes each"
    return MarkdownTable(title, ("detector", "bare loop s", "runner s", "ratio", "ms per image more"), rows)


def memory(folder: Path, counts: Sequence[int]) -> MarkdownTable:
    """Peak memory of a worker process by number of images."""
    rows = []
    for count in counts:
        gt = _data(folder / str(count), count, files=1)
        events: list[Event] = []
        request = _request(gt, folder / "out", 4).model_copy(update={"detector": f"{Path(__file__).resolve()}:Waiting"})
        run_worker(request, None, events.append)
        if isinstance(events[-1], Fault):
            raise RuntimeError(events[-1].reason)
        run = next(Path(event.folder) for event in events if isinstance(event, Loaded))
        records = read_records(run, read_manifest(run))
        rows.append((f"{count:,}", f"{max(record.peak_memory_bytes for record in records) / 2**20:.1f}"))
    return MarkdownTable("Peak memory of a worker by number of images", ("images", "MiB"), rows)


def _bare_loop(plan: RunPlan, detector: Waiting) -> float:
    start = time.perf_counter()
    run_images, batch = plan.run_images, plan.request.batch
    wanted = (Wanted(0, *row) for row in zip(run_images.image_ids, run_images.files, run_images.sizes, strict=True))
    detector.set_vocabulary(run_images.vocabulary, plan.protocol.plan)
    found: list[Detections] = []
    with Reader(plan.benchmark.images, wanted, ahead=batch) as reader:
        pending: list[Image] = []
        for item in reader:
            if item.image is not None:
                pending.append(item.image)
            if len(pending) == batch:
                found += detector.detect(pending)
                pending = []
        if pending:
            found += detector.detect(pending)
    assert len(found) == len(run_images.image_ids)
    return time.perf_counter() - start


def _runner(plan: RunPlan, detector: Waiting) -> float:
    start = time.perf_counter()
    loaded = LoadedDetector(detector, detector_info(detector.card, ""), "cpu")
    folder = plan.folder(loaded.info.name, loaded.info.weights_sha256)
    manifest = prepare_run(
        folder, lambda there: plan.manifest(loaded.info, loaded.device, there), overwrite="missing", whole=True
    )
    maker = ShardMaker(plan, loaded, folder, manifest, Channel(io.StringIO()), time.monotonic(), None)
    maker.make(list(range(len(manifest.shards))))
    seconds = time.perf_counter() - start
    read_records(folder, manifest)  # all there
    return seconds


def _request(gt: Path, out: Path, batch: int) -> RunRequest:
    return checked(
        RunRequest,
        detector="waiting",
        benchmark=str(gt),
        data_root=gt.parent,
        images=gt.parent / "images",
        out=out,
        batch=batch,
        device="cpu",
    )


def _data(folder: Path, images: int, *, files: int) -> Path:
    """COCO annotations without boxes for a number of images that share a number of files."""
    rng = np.random.default_rng(0)
    (folder / "images").mkdir(parents=True)
    for number in range(files):
        coarse = PIL.Image.fromarray(rng.integers(0, 256, (15, 20, 3)).astype(np.uint8))
        coarse.resize((640, 480), PIL.Image.Resampling.BICUBIC).save(folder / "images" / f"{number}.jpg", quality=90)
    rows = [{"id": i + 1, "file_name": f"{i % files}.jpg", "width": 640, "height": 480} for i in range(images)]
    categories = [{"id": k + 1, "name": f"class {k}"} for k in range(_CLASSES)]
    path = folder / f"harness-{images}.json"
    path.write_text(json.dumps({"images": rows, "annotations": [], "categories": categories}))
    return path


def main() -> None:
    """Measure, print, and write a Markdown file if requested."""
    parser = argparse.ArgumentParser(description="Overhead of the runner.")
    parser.add_argument("--images", type=int, default=300)
    parser.add_argument("--milliseconds", type=float, default=20.0)
    parser.add_argument("--batch", type=int, default=4)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--memory", type=int, nargs="*", default=[500, 5000], help="numbers of images; none = not")
    parser.add_argument("--out", type=Path)
    arguments = parser.parse_args()
    machine = describe_machine(["numpy", "pillow", "pyarrow"])
    with tempfile.TemporaryDirectory() as directory:
        measure = {"images": arguments.images, "milliseconds": arguments.milliseconds, "batch": arguments.batch}
        tables = [overhead(Path(directory) / "overhead", repeats=arguments.repeats, **measure)]
        if arguments.memory:
            tables.append(memory(Path(directory) / "memory", arguments.memory))
    console = Console()
    for line in machine:
        console.print(line, markup=False, highlight=False)
    for table in tables:
        table.show(console)
    if arguments.out:
        text = "\n".join(["# Cost of the runner", "", *machine, "", *(table.markdown() for table in tables)])
        with atomic_write(arguments.out) as file:
            file.write(text.encode())


if __name__ == "__main__":
    main()
