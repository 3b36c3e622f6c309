"""Times GLIP on a vocabulary of LVIS's size: ``python -m ovd_bench.perf.glip``.

The suite encodes the text of each chunk once per vocabulary and an image once for all chunks; the official evaluation
runs everything for every image and chunk, with captions padded to 256 tokens (``engine/inference.py`` of
microsoft/GLIP). Here the same network is run both ways, alternating in one process. Sizes are real; weights, names and
pixels are random, so only the times are meaningful. They are CPU seconds, because the machine may be busy.

* ``this suite``: ``detect`` after ``set_vocabulary``.
* ``nothing kept``: ``set_vocabulary`` and ``detect`` per chunk, so text and image are encoded again.
* ``nothing kept, 256 tokens``: ``raw`` per chunk, which pads as officially; without the selection of boxes.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Annotated

import numpy as np
import torch
import typer
from rich.console import Console

from ovd_bench.benchmarks.data.files.atomic import atomic_write
from ovd_bench.detectors.glip import GlipDetector, untrained
from ovd_bench.detectors.interface import DetectorSettings
from ovd_bench.detectors.prompts import PLANS
from ovd_bench.detectors.registry import find_card
from ovd_bench.detectors.types import Image, Vocabulary
from ovd_bench.perf.machine import describe_machine
from ovd_bench.perf.tables import MarkdownTable
from ovd_bench.perf.vocabulary import made_up_names

_CHUNK = 40


def _picture() -> Image:
    return Image(1, np.random.default_rng(0).integers(0, 256, (480, 640, 3), np.uint8))


def _seconds(call: Callable[[], object]) -> float:
    start = time.process_time()
    call()
    return time.process_time() - start


def race(detector: GlipDetector, vocabulary: Vocabulary, repeats: int, *, padded: bool) -> MarkdownTable:
    """An image with all chunks, with and without caches, alternating."""
    image, plan = _picture(), PLANS["names"]
    chunks = [range(begin, min(begin + _CHUNK, len(vocabulary))) for begin in range(0, len(vocabulary), _CHUNK)]
    parts = [vocabulary.take(chunk) for chunk in chunks]
    captions = [". ".join(part.names) for part in parts]

    def nothing_kept() -> None:
        for part in parts:
            detector.set_vocabulary(part, plan)
            detector.detect([image])

    def nothing_kept_padded() -> None:
        for caption in captions:
            detector.raw(image, caption)

    others = {"nothing kept": nothing_kept}
    if padded:
        others["nothing kept, 256 tokens"] = nothing_kept_padded
    detector.set_vocabulary(parts[-1], plan)
    detector.detect([image])  # untimed
    runs: dict[str, list[float]] = {name: [] for name in ("text once", "this suite", *others)}
    for _ in range(repeats):
        runs["text once"].append(_seconds(lambda: detector.set_vocabulary(vocabulary, plan)))
        runs["this suite"].append(_seconds(lambda: detector.detect([image])))
        for name, call in others.items():
            runs[name].append(_seconds(call))
    ours = median(runs["this suite"])
    rows = [
        (name, f"{median(seconds):.2f}", "" if name == "text once" else f"{median(seconds) / ours:.1f}")
        for name, seconds in runs.items()
    ]
    size = "x".join(map(str, detector.network_size(image)))
    title = f"{detector.card.name}, an image of {size}, {len(vocabulary):,} classes in {len(chunks)} chunks"
    return MarkdownTable(title, ("what", "processor s", "times ours"), rows)


def stages(detector: GlipDetector, vocabulary: Vocabulary, repeats: int = 3) -> MarkdownTable:
    """Times of text, image and head for one chunk, alternating; the minimum of each."""
    image, chunk = _picture(), vocabulary.take(range(_CHUNK))
    calls: tuple[Callable[[], object], ...] = (
        lambda: detector.set_vocabulary(chunk, PLANS["names"]),
        lambda: detector.image_features(image),
        lambda: detector.detect([image]),
    )
    runs = [[_seconds(call) for call in calls] for _ in range(repeats + 1)][1:]
    text, seen, all_of_it = (min(column) for column in zip(*runs, strict=True))
    size = "x".join(map(str, detector.network_size(image)))
    rows = [
        (f"text of a chunk of {_CHUNK}", f"{text:.2f}", "chunk and vocabulary"),
        ("image", f"{seen:.2f}", "image"),
        ("head, and choice of boxes", f"{all_of_it - seen:.2f}", "image and chunk"),
    ]
    return MarkdownTable(f"{detector.card.name}, stages, an image of {size}", ("what", "processor s", "once per"), rows)


def main(
    model: Annotated[list[str] | None, typer.Option(help="Card; repeatable. Default: one of each kind.")] = None,
    classes: Annotated[int, typer.Option(min=_CHUNK, help="Classes.")] = 1203,
    image_size: Annotated[int, typer.Option(min=32, help="Shorter side of the image, pixels.")] = 128,
    stages_size: Annotated[int, typer.Option(min=0, help="Shorter side for the stages; 0 = leave them out.")] = 400,
    repeats: Annotated[int, typer.Option(min=1, help="Timed runs of each side.")] = 1,
    padded: Annotated[bool, typer.Option(help="Also with captions padded to 256 tokens.")] = True,
    out: Annotated[Path | None, typer.Option(help="Markdown file to write.")] = None,
) -> None:
    """Time GLIP on a large vocabulary, with and without caches."""
    console = Console(width=None if sys.stdout.isatty() else 120)
    lines = [*describe_machine(["torch"]), f"{torch.get_num_threads()} threads"]
    console.print(*lines, sep="\n")
    vocabulary = Vocabulary(tuple(range(1, classes + 1)), made_up_names(classes))
    tables = []
    for name in model or ("glip-tiny-a", "glip-tiny"):
        card = find_card(name)
        tables.append(
            race(untrained(card, DetectorSettings(image_size=image_size)), vocabulary, repeats, padded=padded)
        )
        tables[-1].show(console)
        if stages_size:
            settings = DetectorSettings(image_size=stages_size)
            tables.append(stages(untrained(card, settings), vocabulary))
            tables[-1].show(console)
    if out is not None:
        head = ["# Speed of GLIP on a large vocabulary", "", *(f"- {line}" for line in lines), ""]
        with atomic_write(out) as file:
            file.write("\n".join([*head, *(table.markdown() for table in tables)]).encode())


if __name__ == "__main__":
    typer.run(main)
