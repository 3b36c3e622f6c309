"""Times detectors on a vocabulary of LVIS's size: ``python -m ovd_bench.perf.vocabulary``.

The suite's adapters are compared with the same network used as transformers documents it: processor, forward pass,
post-processing, once per image and chunk of classes. Sizes are real; weights, names and pixels are random, so only the
times are meaningful. Both sides alternate in one process, after one untimed run each.

* ``forward``: one call with all classes (OWL-ViT), or one call per chunk (the others).
* ``pipeline``: ``zero-shot-object-detection``, which runs the whole network once per class; timed on a few classes.
"""

from __future__ import annotations

import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Annotated, Any

import numpy as np
import PIL.Image
import torch
import typer
from rich.console import Console
from transformers import (
    DetrImageProcessor,
    GroundingDinoConfig,
    GroundingDinoForObjectDetection,
    GroundingDinoImageProcessor,
    GroundingDinoProcessor,
    OmDetTurboConfig,
    OmDetTurboForObjectDetection,
    OmDetTurboProcessor,
    OwlViTConfig,
    OwlViTForObjectDetection,
    OwlViTImageProcessor,
    OwlViTProcessor,
    pipeline,
)
from transformers.utils import logging

from ovd_bench.benchmarks.data.files.atomic import atomic_write
from ovd_bench.detectors import grounding_dino_hf, omdet_turbo, owl
from ovd_bench.detectors.card import DetectorCard
from ovd_bench.detectors.interface import Detector, DetectorSettings
from ovd_bench.detectors.prompts import PLANS, PromptPlan
from ovd_bench.detectors.types import Image, Vocabulary
from ovd_bench.perf.machine import describe_machine
from ovd_bench.perf.random_models import bert_tokenizer, clip_tokenizer
from ovd_bench.perf.tables import MarkdownTable

_ADJECTIVES = ("red", "old", "small", "wooden", "broken", "round", "folded", "striped", "empty", "heavy", "glass")
_NOUNS = ("cup", "chair", "ladder", "basket", "kettle", "bottle", "lamp", "bicycle", "pillow", "shovel", "mirror")
_HEIGHT, _WIDTH = 480, 640


@dataclass(frozen=True)
class Row:
    """Seconds of one measurement."""

    what: str
    runs: tuple[float, ...]
    times: str = ""

    @property
    def seconds(self) -> float:
        """Median."""
        return median(self.runs)


def made_up_names(count: int) -> tuple[str, ...]:
    """Distinct names of one to three words."""
    names = [*_NOUNS, *(f"{a} {n}" for a in _ADJECTIVES for n in _NOUNS)]
    names += [f"{a} {b} {n}" for a in _ADJECTIVES for b in _ADJECTIVES for n in _NOUNS if a != b]
    return tuple(names[:count])


def _picture() -> Image:
    return Image(1, np.random.default_rng(0).integers(0, 256, (_HEIGHT, _WIDTH, 3), np.uint8))


def _in_turns(calls: dict[str, Callable[[], object]], repeats: int) -> dict[str, Row]:
    """Run every call once untimed, then all alternating, so that other load on the machine affects all of them."""
    runs: dict[str, list[float]] = {name: [] for name in calls}
    for repeat in range(repeats + 1):
        for name, call in calls.items():
            start = time.perf_counter()
            call()
            if repeat:
                runs[name].append(time.perf_counter() - start)
    return {name: Row(name, tuple(seconds)) for name, seconds in runs.items()}


def _table(title: str, setups: Sequence[Row], ours: Row, others: Sequence[Row]) -> MarkdownTable:
    rows = [(row.what, f"{row.seconds:.2f}", row.times, "") for row in setups]
    rows.append((ours.what, f"{ours.seconds:.2f}", ours.times, "1.0"))
    rows += [(row.what, f"{row.seconds:.2f}", row.times, f"{row.seconds / ours.seconds:.1f}") for row in others]
    return MarkdownTable(title, ("what", "seconds", "of", "times ours"), rows)


def _once(what: str, call: Callable[[], object], times: str) -> Row:
    start = time.perf_counter()
    call()
    return Row(what, (time.perf_counter() - start,), times)


def _renamed(row: Row, what: str, times: str, factor: float = 1.0) -> Row:
    return Row(what, tuple(seconds * factor for seconds in row.runs), times)


def _owl(folder: Path, vocabulary: Vocabulary, repeats: int, labels: int) -> MarkdownTable:
    model, tokenizer = OwlViTForObjectDetection(OwlViTConfig()).eval(), clip_tokenizer("!")
    _save(folder, model, tokenizer)
    detector = owl.load(_card("owlvit", "ovd_bench.detectors.owl:load"), DetectorSettings(weights=str(folder)))
    processor = OwlViTProcessor(OwlViTImageProcessor(), tokenizer)
    names, image = list(vocabulary.names), _picture()
    picture = PIL.Image.fromarray(image.pixels)
    finder = pipeline(
        "zero-shot-object-detection",
        model=model,
        processor=processor,
        tokenizer=tokenizer,
        image_processor=processor.image_processor,
    )

    def forward(texts: list[str]) -> None:
        inputs = processor(text=[texts], images=picture, return_tensors="pt")
        with torch.inference_mode():
            processor.post_process_grounded_object_detection(
                model(**inputs), threshold=0.0, target_sizes=[(_HEIGHT, _WIDTH)], text_labels=[texts]
            )

    setups = [_vocabulary_row(detector, vocabulary, PLANS[plan]) for plan in ("owl7", "names")]
    calls = {
        "ours": lambda: detector.detect([image]),
        "forward": lambda: forward(names),
        "pipeline": lambda: finder(picture, candidate_labels=names[:labels], threshold=0.0),
    }
    times = _in_turns(calls, repeats)
    size = f"1 image, {len(names):,} classes"
    factor = len(names) / labels
    return _table(
        "OWL-ViT B/32",
        setups,
        _renamed(times["ours"], "this suite, an image", size),
        (
            _renamed(times["forward"], "transformers, forward with all names", size),
            _renamed(times["pipeline"], "transformers, pipeline", f"{size}, from {labels} classes", factor),
        ),
    )


def _grounding_dino(folder: Path, vocabulary: Vocabulary, repeats: int, labels: int) -> MarkdownTable:
    model, tokenizer = GroundingDinoForObjectDetection(GroundingDinoConfig()).eval(), bert_tokenizer()
    images = GroundingDinoImageProcessor()
    _save(folder, model, tokenizer, images)
    card = _card("grounding-dino", "ovd_bench.detectors.grounding_dino_hf:load")
    detector = grounding_dino_hf.load(card, DetectorSettings(weights=str(folder)))
    processor = GroundingDinoProcessor(images, tokenizer)
    image = _picture()
    picture = PIL.Image.fromarray(image.pixels)
    chunks = [list(vocabulary.names[begin : begin + 40]) for begin in range(0, len(vocabulary), 40)]

    def forward() -> None:
        for chunk in chunks:
            inputs = processor(images=picture, text=[chunk], return_tensors="pt")
            with torch.inference_mode():
                processor.post_process_grounded_object_detection(
                    model(**inputs), threshold=0.0, target_sizes=[(_HEIGHT, _WIDTH)]
                )

    return _by_chunks("Grounding DINO-T", detector, vocabulary, len(chunks), forward, repeats)


def _omdet_turbo(folder: Path, vocabulary: Vocabulary, repeats: int, labels: int) -> MarkdownTable:
    model, tokenizer = OmDetTurboForObjectDetection(OmDetTurboConfig()).eval(), clip_tokenizer("<|endoftext|>")
    images = DetrImageProcessor(
        size={"height": 640, "width": 640},
        do_rescale=False,
        do_pad=False,
        image_mean=[123.675, 116.28, 103.53],
        image_std=[58.395, 57.12, 57.375],
    )
    _save(folder, model, tokenizer, images)
    card = _card("omdet-turbo", "ovd_bench.detectors.omdet_turbo:load")
    detector = omdet_turbo.load(card, DetectorSettings(weights=str(folder)))
    processor = OmDetTurboProcessor(images, tokenizer)
    image = _picture()
    picture = PIL.Image.fromarray(image.pixels)
    plan = PromptPlan(name="20 at a time", chunk_classes=20)
    chunks = [list(vocabulary.names[begin : begin + 20]) for begin in range(0, len(vocabulary), 20)]

    def forward() -> None:
        for chunk in chunks:
            inputs = processor(images=picture, text=[chunk], return_tensors="pt")
            with torch.inference_mode():
                processor.post_process_grounded_object_detection(
                    model(**inputs), text_labels=[chunk], target_sizes=[(_HEIGHT, _WIDTH)], threshold=0.0
                )

    return _by_chunks("OmDet-Turbo-T", detector, vocabulary, len(chunks), forward, repeats, plan)


def _by_chunks(
    title: str,
    detector: Detector,
    vocabulary: Vocabulary,
    chunks: int,
    forward: Callable[[], None],
    repeats: int,
    plan: PromptPlan | None = None,
) -> MarkdownTable:
    setup = _vocabulary_row(detector, vocabulary, plan or PLANS["names"])
    image = _picture()
    times = _in_turns({"ours": lambda: detector.detect([image]), "forward": forward}, repeats)
    size = f"1 image, {len(vocabulary)} classes in {chunks} chunks"
    return _table(
        title,
        [setup],
        _renamed(times["ours"], "this suite, an image", size),
        [_renamed(times["forward"], "transformers, forward per chunk", size)],
    )


def _vocabulary_row(detector: Detector, vocabulary: Vocabulary, plan: PromptPlan) -> Row:
    prompts = f"{len(vocabulary):,} classes, plan '{plan.name}'"
    return _once("this suite, text once", lambda: detector.set_vocabulary(vocabulary, plan), prompts)


def _card(family: str, loader: str) -> DetectorCard:
    return DetectorCard(family, family, "torch", loader=loader)


def _save(folder: Path, *parts: Any) -> None:
    for part in parts:
        part.save_pretrained(folder)


_RACES: dict[str, Callable[[Path, Vocabulary, int, int], MarkdownTable]] = {
    "owl": _owl,
    "grounding-dino": _grounding_dino,
    "omdet-turbo": _omdet_turbo,
}


def main(
    model: Annotated[list[str] | None, typer.Option(help=f"Of {', '.join(_RACES)}; repeatable. Default: all.")] = None,
    classes: Annotated[int, typer.Option(min=1, help="Classes of OWL-ViT.")] = 1203,
    chunked_classes: Annotated[int, typer.Option(min=1, help="Classes of the others, which work in chunks.")] = 80,
    repeats: Annotated[int, typer.Option(min=1, help="Timed runs of each side.")] = 3,
    labels: Annotated[int, typer.Option(min=1, help="Classes on which the pipeline is timed.")] = 4,
    out: Annotated[Path | None, typer.Option(help="Markdown file to write.")] = None,
) -> None:
    """Time detectors on a large vocabulary, compared with the same networks used as transformers documents it."""
    console = Console(width=None if sys.stdout.isatty() else 140)
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    lines = [*describe_machine(["torch", "transformers"]), f"{torch.get_num_threads()} threads"]
    console.print(*lines, sep="\n")
    tables = []
    for name in model or _RACES:
        if name not in _RACES:
            raise typer.BadParameter(f"'{name}' is none of {', '.join(_RACES)}")
        count = classes if name == "owl" else chunked_classes
        vocabulary = Vocabulary(tuple(range(1, count + 1)), made_up_names(count))
        with tempfile.TemporaryDirectory() as folder:
            tables.append(_RACES[name](Path(folder), vocabulary, repeats, labels))
        tables[-1].show(console)
    if out is not None:
        head = ["# Speed on a large vocabulary", "", *(f"- {line}" for line in lines), ""]
        with atomic_write(out) as file:
            file.write("\n".join([*head, *(table.markdown() for table in tables)]).encode())


if __name__ == "__main__":
    typer.run(main)
