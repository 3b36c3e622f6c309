"""A training step of Grounding DINO in Jittor against torch on the CPU: ``python -m ovd_bench.perf.training``.

A step is: forward pass, matching and losses of all decoder layers, of the encoder's selection and of 100 denoising
queries per image, backward pass, clipping, AdamW. The torch side is built from transformers' modules
(``torch_training.py``) with vectorised losses and the fused optimizer. Both start from the same random weights, get
the same batch, and alternate in one process; times are medians. Memory and CPU time are those of a fresh process each;
with ``--threads 1`` the CPU time hardly depends on other load on the machine.

If the text encoder is frozen, torch runs it without gradients and the suite reads its output for each phrase from a
cache. This is exact, since phrases do not attend to each other, and it is part of the trainer.
"""

from __future__ import annotations

import dataclasses
import os
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from statistics import median
from typing import Annotated, Protocol

import numpy as np
import typer
from rich.console import Console

from ovd_bench.benchmarks.data.files.atomic import atomic_write
from ovd_bench.grounding_dino_jt.config import NANO, TINY, Config
from ovd_bench.grounding_dino_jt.tokens import BERT_SEPARATORS, TokenBatch
from ovd_bench.grounding_dino_jt.training.batch import Targets, TrainingBatch
from ovd_bench.perf.child import run_child, time_and_report
from ovd_bench.perf.machine import describe_machine
from ovd_bench.perf.tables import MarkdownTable

_TOKENS = 190
_CLASSES_OF_IMAGE, _BOXES_OF_IMAGE = 6, 8


@dataclass(frozen=True)
class Size:
    """One row: a network, ``batch`` images of ``height`` x ``width`` pixels, and whether its text encoder learns."""

    title: str
    config: Config
    batch: int
    height: int
    width: int
    text_learns: bool = True


SIZES = {
    "nano": Size("nano, 4 images of 192 x 192, text encoder frozen", NANO, 4, 192, 192, text_learns=False),
    "nano-all": Size("nano, 4 images of 192 x 192, everything learns", NANO, 4, 192, 192),
    "tiny": Size("Swin-T, 1 image of 480 x 640, everything learns", TINY, 1, 480, 640),
}


class Side(Protocol):
    """One way to train."""

    def step(self) -> float:
        """Make one complete step; returns the loss before it."""


def make_batch(size: Size) -> TrainingBatch:
    """Noise images with captions of at most 190 tokens, made-up names, and eight boxes each."""
    from ovd_bench.grounding_dino_jt.tokenizer import packaged_tokenizer
    from ovd_bench.perf.vocabulary import made_up_names

    rng = np.random.default_rng(0)
    names, caption = iter(made_up_names(200)), ""
    read = packaged_tokenizer().caption
    while len(read(longer := f"{caption}{next(names)}. ")) <= _TOKENS:
        caption = longer
    ids = np.array(read(caption))
    ends = np.flatnonzero(np.isin(ids, BERT_SEPARATORS))
    phrases = [(first + 1, last) for first, last in pairwise(ends) if last > first + 1]
    targets = []
    for _ in range(size.batch):
        told = rng.choice(rng.choice(len(phrases), _CLASSES_OF_IMAGE, replace=False), _BOXES_OF_IMAGE)
        maps = np.zeros((_BOXES_OF_IMAGE, len(ids)), np.bool_)
        for row, phrase in zip(maps, told, strict=True):
            row[slice(*phrases[phrase])] = True
        sides = rng.uniform(0.05, 0.4, (_BOXES_OF_IMAGE, 2))
        boxes = np.concatenate([rng.uniform(sides / 2, 1 - sides / 2), sides], 1)
        targets.append(Targets(boxes.astype(np.float32), told.astype(np.int64), maps))
    images = rng.integers(0, 256, (size.batch, size.height, size.width, 3), np.uint8)
    sizes = np.array([(size.height, size.width)] * size.batch)
    return TrainingBatch(images, sizes, TokenBatch.of([ids.tolist()] * size.batch), targets)


class Ours:
    """The suite's trainer."""

    def __init__(self, folder: Path, size: Size) -> None:
        from ovd_bench.grounding_dino_jt.load import build
        from ovd_bench.grounding_dino_jt.training.optimisation import GroundingDinoOptimisation, Settings
        from ovd_bench.grounding_dino_jt.training.recipe import ENCODER_RATES, Recipe
        from ovd_bench.grounding_dino_jt.weights import read_weights

        tensors, config, _ = read_weights(folder)
        still = dataclasses.replace(config.backbone, drop_path_rate=0.0)  # as in torch
        network = build(dataclasses.replace(config, backbone=still, fusion_drop_path=0.0), tensors)
        rates = ENCODER_RATES if size.text_learns else {**ENCODER_RATES, "bert.": 0.0}
        self._trainer = GroundingDinoOptimisation(network, Settings(Recipe(steps=1000, rates=rates)))
        self._batch = make_batch(size)

    def step(self) -> float:
        """See ``Side``."""
        return self._trainer.train_step([self._batch])["loss"]


class Theirs:
    """The same in torch."""

    def __init__(self, folder: Path, size: Size) -> None:
        import torch
        from transformers import GroundingDinoForObjectDetection

        from ovd_bench.grounding_dino_jt.training.denoising import DenoisingConfig, Slots
        from ovd_bench.perf.torch_training import TorchTraining

        torch.manual_seed(0)
        self._model = TorchTraining(GroundingDinoForObjectDetection.from_pretrained(folder))
        self._model.model.model.text_backbone.requires_grad_(size.text_learns)
        named = [(name, value) for name, value in self._model.named_parameters() if value.requires_grad]
        slow = [value for name, value in named if "backbone." in name]  # of image and of text
        others = [value for name, value in named if "backbone." not in name]
        groups = [{"params": slow, "lr": 1e-5}, {"params": others, "lr": 1e-4}]
        self._optimizer = torch.optim.AdamW(groups, weight_decay=1e-4, fused=True)
        self._batch = make_batch(size)
        self._denoising = DenoisingConfig()
        slots = Slots.of(_BOXES_OF_IMAGE, self._denoising)
        assert slots is not None
        self._slots = slots
        self._rng = np.random.default_rng(0)

    def step(self) -> float:
        """See ``Side``."""
        import torch

        from ovd_bench.grounding_dino_jt.training.denoising import denoising_queries, draw_noise
        from ovd_bench.perf.torch_losses import total_loss
        from ovd_bench.perf.torch_training import Extra

        batch, count = self._batch, self._model.model.config.num_queries
        pixels = torch.from_numpy(batch.images).permute(0, 3, 1, 2).float() / 255
        pixels = (pixels - torch.tensor([0.485, 0.456, 0.406]).reshape(3, 1, 1)) / torch.tensor(
            [0.229, 0.224, 0.225]
        ).reshape(3, 1, 1)
        noise = [draw_noise(len(one), self._slots.groups, self._denoising, self._rng) for one in batch.targets]
        queries = denoising_queries(batch.targets, noise, self._slots, count, self._denoising, 1e-3)
        extra = Extra(queries.phrases, queries.boxes, queries.hidden)
        predictions = self._model(pixels, batch.padding(), batch.tokens, extra)
        loss = total_loss(predictions, queries, batch.targets, batch.tokens.real)
        self._optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self._model.parameters(), 0.1)
        self._optimizer.step()
        return float(loss.detach())


_SIDES: dict[str, Callable[[Path, Size], Side]] = {"ours": Ours, "torch": Theirs}


def _write_weights(folder: Path, size: Size) -> None:
    """Random weights in the hub's layout."""
    import torch
    from transformers import GroundingDinoConfig, GroundingDinoForObjectDetection, GroundingDinoImageProcessor

    from ovd_bench.grounding_dino_jt.weights.hf_config import hf_config
    from ovd_bench.perf.random_models import bert_tokenizer, draw_weights

    torch.manual_seed(0)
    model = GroundingDinoForObjectDetection(GroundingDinoConfig(**hf_config(size.config)))
    draw_weights(model, 0.02)
    for part in (model, bert_tokenizer(), GroundingDinoImageProcessor()):
        part.save_pretrained(folder)


def _time(folder: Path, size: Size, repeats: int) -> dict[str, float]:
    """Make two untimed steps of each, then alternate; median seconds."""
    sides: dict[str, Side] = {name: make(folder, size) for name, make in _SIDES.items()}
    seconds: dict[str, list[float]] = {name: [] for name in sides}
    for repeat in range(repeats + 2):
        for name, side in sides.items():
            start = time.perf_counter()
            side.step()
            if repeat > 1:
                seconds[name].append(time.perf_counter() - start)
    return {name: median(values) for name, values in seconds.items()}


def _child(side: str, folder: Path, size: Size) -> None:
    """Five steps in this process; prints its memory and the median processor time of the last three."""
    measured = _SIDES[side](folder, size)

    def work() -> dict[str, float | None]:
        seconds = []
        for _ in range(5):
            start = time.process_time()
            measured.step()
            seconds.append(time.process_time() - start)
        return {"cpu": median(seconds[2:])}

    time_and_report(work)


def main(
    sizes: Annotated[str, typer.Option(help="Which of nano, nano-all and tiny, with commas.")] = "nano,nano-all,tiny",
    repeats: Annotated[int, typer.Option(min=1, help="Timed steps of each side.")] = 7,
    threads: Annotated[int | None, typer.Option(min=1, help="Threads of each side; all cores by default.")] = None,
    out: Annotated[Path | None, typer.Option(help="Markdown file to write.")] = None,
    child: Annotated[str | None, typer.Option(hidden=True)] = None,
    folder: Annotated[Path | None, typer.Option(hidden=True)] = None,
) -> None:
    """Time training steps in Jittor and in torch."""
    if child is not None and folder is not None:
        _child(child, folder, SIZES[sizes])
        return
    threads = threads or os.cpu_count() or 1
    os.environ["OMP_NUM_THREADS"] = str(threads)  # read when torch and Jittor are imported, here and in the children
    console = Console(width=None if sys.stdout.isatty() else 140)
    lines = describe_machine(["jittor", "torch", "transformers"])
    lines.append(f"{threads} threads, {repeats} steps of each, captions of about {_TOKENS} tokens")
    console.print(*lines, sep="\n")
    times: list[tuple[str, ...]] = []
    cpu: list[tuple[str, ...]] = []
    memory: list[tuple[str, ...]] = []
    for name in sizes.split(","):
        size = SIZES[name]
        with tempfile.TemporaryDirectory() as place:
            _write_weights(Path(place), size)
            runs = {
                side: run_child("ovd_bench.perf.training", "--child", side, "--folder", place, "--sizes", name)
                for side in _SIDES
            }
            memory.append(_row(size.title, runs["ours"].peak_rss / 2**20, runs["torch"].peak_rss / 2**20, ".0f"))
            used = [float(runs[side].metrics["cpu"] or 0) for side in _SIDES]
            cpu.append(_row(size.title, used[0], used[1], ".2f"))
            seconds = _time(Path(place), size, repeats)
            times.append(_row(size.title, seconds["ours"], seconds["torch"], ".2f"))
    header = ("what", "ours", "torch", "ratio")
    tables = [
        MarkdownTable("Seconds per training step", header, times),
        MarkdownTable("Processor seconds per training step, all threads", header, cpu),
        MarkdownTable("Peak resident memory of a process that makes five steps, MiB", header, memory),
    ]
    for table in tables:
        table.show(console)
    if out is not None:
        head = ["# Training Grounding DINO in Jittor", "", *(f"- {line}" for line in lines), ""]
        with atomic_write(out) as file:
            file.write("\n".join([*head, *(table.markdown() for table in tables)]).encode())


def _row(what: str, ours: float, theirs: float, form: str) -> tuple[str, ...]:
    return what, f"{ours:{form}}", f"{theirs:{form}}", f"{ours / theirs:.2f}"


if __name__ == "__main__":
    typer.run(main)
