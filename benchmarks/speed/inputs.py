"""Input of the timings: images and a vocabulary, made or read once and passed to every worker."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ovd_bench.benchmarks.speed.record import Workload
from ovd_bench.detectors.coco_classes import COCO_NAMES
from ovd_bench.detectors.prompts import PromptPlan
from ovd_bench.detectors.types import Image, Vocabulary
from ovd_bench.metrics.errors import DataError

#: Size of the synthetic image: that of a 4 : 3 photo in Grounding DINO.
HEIGHT, WIDTH = 800, 1066
#: Images of a benchmark that are used in turns, or as many as the largest batch has.
BENCHMARK_IMAGES = 32
#: Number of classes without a vocabulary or benchmark: those of COCO.
CLASSES = 80

_ADJECTIVES = (
    *("red", "old", "small", "wooden", "broken", "round", "folded", "striped"),
    *("empty", "heavy", "green", "shiny", "tall", "dirty", "plastic", "blue"),
)


@dataclass(frozen=True)
class Inputs:
    """Images and vocabulary.

    Attributes:
        source: of the images, for people.
        images: used in turns, numbered from 1.
        vocabulary_source: of the classes, for people.
        vocabulary: classes to find.
    """

    source: str
    images: list[Image]
    vocabulary_source: str
    vocabulary: Vocabulary

    def workload(self, plan: PromptPlan) -> Workload:
        """The workload as it is recorded."""
        digest = hashlib.sha256()
        for image in self.images:
            digest.update(f"{image.height} {image.width}\n".encode() + image.pixels.tobytes())
        return Workload(
            source=self.source,
            images=len(self.images),
            sizes=[(image.width, image.height) for image in self.images],
            pixels_sha256=digest.hexdigest(),
            vocabulary=self.vocabulary_source,
            classes=len(self.vocabulary),
            vocabulary_sha256=self.vocabulary.sha256,
            plan=plan.name,
            plan_sha256=plan.sha256,
        )


def synthetic_image(height: int = HEIGHT, width: int = WIDTH) -> Image:
    """Overlapping rectangles of one colour each and all sizes, with a little noise; the same in every process."""
    rng = np.random.default_rng(0)
    pixels = np.full((height, width, 3), 120, np.float32)
    for _ in range(60):
        h, w = (rng.uniform(0.02, 0.5, 2) * (height, width)).astype(int) + 1
        y, x = rng.integers(0, (height, width))
        pixels[y : y + h, x : x + w] = rng.integers(0, 256, 3)
    pixels += rng.normal(0, 6, pixels.shape)
    return Image(1, pixels.clip(0, 255).astype(np.uint8), "synthetic")


def gather(
    benchmark: str | None, image: Path | None, vocabulary: str | None, data_root: Path, largest_batch: int
) -> Inputs:
    """Images and vocabulary of a command.

    Args:
        benchmark: its first images by id are used.
        image: a file instead; without both, a synthetic image is made.
        vocabulary: number of classes to make up, name or annotation file of a benchmark, or a text file with a class
            per line; None = the benchmark's, else ``CLASSES``.
        data_root: folder of the data sets.
        largest_batch: minimum number of images, if the benchmark has them.

    Raises:
        DataError: something is missing or cannot be read; one line.
    """
    if benchmark is not None and image is not None:
        raise DataError("--benchmark and --image: give one of them")
    if benchmark is not None:
        source, images = benchmark, _benchmark_images(benchmark, data_root, max(BENCHMARK_IMAGES, largest_batch))
    elif image is not None:
        from ovd_bench.benchmarks.data.images import read_image

        source, images = str(image), [read_image(1, image)]
    else:
        source, images = "synthetic", [synthetic_image()]
    wanted = vocabulary or benchmark or str(CLASSES)
    return Inputs(source, images, wanted, _vocabulary(wanted, data_root))


def made_up_vocabulary(classes: int) -> Vocabulary:
    """The first names of COCO; after the last, the same with one adjective, then with two ("small red car").

    Raises:
        DataError: less than one class, or more than there are words for.
    """
    names = [*COCO_NAMES, *(f"{a} {noun}" for a in _ADJECTIVES for noun in COCO_NAMES)]
    names += [f"{a} {b} {noun}" for a in _ADJECTIVES for b in _ADJECTIVES if a != b for noun in COCO_NAMES]
    if not 1 <= classes <= len(names):
        raise DataError(f"--vocabulary {classes}: expected 1 to {len(names):,} synthetic classes")
    return Vocabulary(tuple(range(1, classes + 1)), tuple(names[:classes]))


def batches(images: Sequence[Image], batch: int, calls: int) -> list[list[Image]]:
    """Images of each call: used in turns, numbered from 1 within a call so that ids differ in a batch."""
    return [
        [
            Image(number + 1, images[(call * batch + number) % len(images)].pixels, images[0].path)
            for number in range(batch)
        ]
        for call in range(calls)
    ]


def save_pixels(path: Path, images: Sequence[Image]) -> None:
    """Write pixels for a worker."""
    np.savez(path, *(image.pixels for image in images))


def load_pixels(path: Path) -> list[Image]:
    """Read what ``save_pixels`` wrote."""
    with np.load(path) as arrays:
        return [Image(number + 1, arrays[f"arr_{number}"]) for number in range(len(arrays.files))]


def _benchmark_images(spec: str, data_root: Path, count: int) -> list[Image]:
    from ovd_bench.benchmarks.data.catalog.registry import open_benchmark
    from ovd_bench.benchmarks.data.files.annotations import read_ground_truth
    from ovd_bench.benchmarks.data.images import image_file, image_paths, read_image

    benchmark = open_benchmark(spec, data_root)
    files = image_paths(read_ground_truth(benchmark.annotations))
    if not files:
        raise DataError(f"benchmark '{spec}' has no images")
    return [read_image(n, image_file(benchmark.images, file)) for n, file in enumerate(files[:count], 1)]


def _vocabulary(spec: str, data_root: Path) -> Vocabulary:
    if spec.isdecimal():
        return made_up_vocabulary(int(spec))
    if spec.lower().endswith(".txt"):
        from ovd_bench.benchmarks.pictures.detect import class_vocabulary

        return class_vocabulary(Path(spec))
    from ovd_bench.benchmarks.data.catalog.benchmark import vocabulary_of
    from ovd_bench.benchmarks.data.catalog.registry import open_benchmark
    from ovd_bench.benchmarks.data.files.annotations import read_ground_truth

    return vocabulary_of(read_ground_truth(open_benchmark(spec, data_root).annotations).categories)
