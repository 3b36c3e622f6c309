"""Grounding DINO-T in Jittor against transformers' on the CPU: ``python -m ovd_bench.perf.grounding_dino``.

Both sides have the same random weights, pixels and token ids and alternate in one process; times are medians. Memory
and start-up time are measured in a fresh process each. Only times and memory are meaningful here;
tests/grounding_dino_jt compares the outputs.

* ``80 classes``: one forward pass with the 80 names of COCO in one caption; text, image and the rest, without caches.
* ``1,203 classes``: transformers runs the whole network for every chunk of 40 names. The suite encodes the text once
  per vocabulary and the image once, and runs the rest per chunk. Each side is timed on ``--chunks`` chunks and the time
  is scaled up, since all chunks take the same time; 31 measures all of them.
"""

from __future__ import annotations

import json
import math
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from statistics import median
from typing import Annotated, Any

import numpy as np
import typer
from rich.console import Console

from ovd_bench.benchmarks.data.files.atomic import atomic_write
from ovd_bench.detectors.coco_classes import COCO_NAMES
from ovd_bench.perf.child import Run, run_child, time_and_report
from ovd_bench.perf.machine import describe_machine
from ovd_bench.perf.tables import MarkdownTable

_SIZE = (800, 1066)
_LVIS, _CHUNK = 1203, 40
_COCO = ". ".join(COCO_NAMES) + "."


def _pixels() -> Any:
    """One image as input of both networks, (1, 3, H, W)."""
    return np.random.default_rng(0).standard_normal((1, 3, *_SIZE)).astype(np.float32)


def _captions(packed: bool) -> list[list[int]]:
    """Token ids of the captions of 1,203 made-up names: 40 per chunk, or as many as fit 256 tokens."""
    from ovd_bench.detectors.captions import planned_captions
    from ovd_bench.detectors.prompts import PromptPlan
    from ovd_bench.detectors.types import Vocabulary
    from ovd_bench.grounding_dino_jt.tokenizer import packaged_tokenizer
    from ovd_bench.perf.vocabulary import made_up_names

    vocabulary = Vocabulary(tuple(range(1, _LVIS + 1)), made_up_names(_LVIS))
    plan = PromptPlan(name="chunks", chunk_classes=None if packed else _CHUNK)
    planned = planned_captions("race", vocabulary, plan, packaged_tokenizer().words, 256)
    return [list(caption.ids) for caption in planned.captions]


class _Theirs:
    """transformers' network."""

    def __init__(self, folder: Path) -> None:
        from transformers import GroundingDinoForObjectDetection

        self._model = GroundingDinoForObjectDetection.from_pretrained(folder).eval()

    def forward(self, pixels: Any, ids: Sequence[int]) -> None:
        import torch

        tokens = torch.tensor([ids])
        with torch.inference_mode():
            self._model(
                pixel_values=torch.from_numpy(pixels),
                input_ids=tokens,
                attention_mask=torch.ones_like(tokens),
                token_type_ids=torch.zeros_like(tokens),
            )


class _Ours:
    """The suite's network."""

    def __init__(self, folder: Path) -> None:
        from ovd_bench.grounding_dino_jt.load import load

        self.model = load(folder)

    def image(self, pixels: Any) -> Any:
        features = self.model.network.encode_image(pixels)
        features.features.sync()
        return features

    def text(self, rows: Sequence[Sequence[int]]) -> Any:
        features = self.model.encode_tokens(rows)
        features.features.sync()
        return features

    def pair(self, image: Any, text: Any) -> None:
        output = self.model(image, text)
        output.pred_logits.numpy(), output.pred_boxes.numpy()

    def forward(self, pixels: Any, ids: Sequence[int]) -> None:
        self.pair(self.model.network.encode_image(pixels), self.model.encode_tokens([ids]))


def _in_turns(calls: dict[str, Callable[[], object]], repeats: int) -> dict[str, float]:
    """Run every call once untimed, then all alternating; median seconds."""
    runs: dict[str, list[float]] = {name: [] for name in calls}
    for repeat in range(repeats + 1):
        for name, call in calls.items():
            start = time.perf_counter()
            call()
            if repeat:
                runs[name].append(time.perf_counter() - start)
    return {name: median(seconds) for name, seconds in runs.items()}


def _each(call: Callable[[Any], None], items: Sequence[Any]) -> None:
    for item in items:
        call(item)


def _race(folder: Path, repeats: int, chunks: int) -> MarkdownTable:
    from ovd_bench.grounding_dino_jt.tokenizer import packaged_tokenizer

    pixels, coco = _pixels(), packaged_tokenizer().caption(_COCO)
    theirs, ours = _Theirs(folder), _Ours(folder)
    by_forty, packed = _captions(packed=False), _captions(packed=True)
    chunks = min(chunks, len(by_forty))
    image = ours.image(pixels)
    text = ours.text([coco])
    forty, full = ([ours.text([ids]) for ids in rows[:chunks]] for rows in (by_forty, packed))
    seconds = _in_turns(
        {
            "theirs": lambda: theirs.forward(pixels, coco),
            "ours": lambda: ours.forward(pixels, coco),
            "kept": lambda: ours.pair(image, text),
            "image": lambda: ours.image(pixels),
            "their chunks": lambda: _each(lambda ids: theirs.forward(pixels, ids), by_forty[:chunks]),
            "our chunks": lambda: _each(lambda one: ours.pair(image, one), forty),
            "our packed chunks": lambda: _each(lambda one: ours.pair(image, one), full),
        },
        repeats,
    )
    factor, packed_factor = len(by_forty) / chunks, len(packed) / len(full)
    their_lvis = seconds["their chunks"] * factor
    our_lvis = seconds["image"] + seconds["our chunks"] * factor
    our_packed = seconds["image"] + seconds["our packed chunks"] * packed_factor
    rows = [
        _row("80 classes, everything", seconds["ours"], seconds["theirs"]),
        _row("80 classes, text and image kept", seconds["kept"], seconds["theirs"]),
        _row(f"1,203 classes, {len(by_forty)} chunks of 40", our_lvis, their_lvis),
        _row(f"1,203 classes, {len(packed)} chunks of up to 256 tokens", our_packed, their_lvis),
    ]
    return MarkdownTable(f"Seconds per image, {_SIZE[0]} x {_SIZE[1]}", ("what", "ours", "transformers", "ratio"), rows)


def _row(what: str, ours: float, theirs: float, form: str = ".2f") -> tuple[str, ...]:
    return what, f"{ours:{form}}", f"{theirs:{form}}", f"{ours / theirs:.2f}"


def _memory(folder: Path) -> MarkdownTable:
    runs: dict[str, Run] = {}
    for side in ("ours", "theirs"):
        runs[side] = run_child("ovd_bench.perf.grounding_dino", "--child", side, "--folder", str(folder))
    ours, theirs = (runs[side].peak_rss / 2**20 for side in ("ours", "theirs"))
    rows = [_row("peak resident memory, MiB", ours, theirs, ".0f")]
    return MarkdownTable(
        "A process that makes one forward pass, 80 classes", ("what", "ours", "transformers", "ratio"), rows
    )


def _child(side: str, folder: Path) -> None:
    """One forward pass in this process; prints its memory."""
    from ovd_bench.grounding_dino_jt.tokenizer import packaged_tokenizer

    network = _Ours(folder) if side == "ours" else _Theirs(folder)
    ids = packaged_tokenizer().caption(_COCO)

    def work() -> dict[str, float | None]:
        network.forward(_pixels(), ids)
        return {}

    time_and_report(work)


def _start(folder: Path) -> MarkdownTable:
    """``bench detect`` on one image, from process start to result, with compiled kernels in the cache."""
    import PIL.Image

    picture = folder / "picture.png"
    PIL.Image.fromarray(np.random.default_rng(0).integers(0, 256, (600, 800, 3), np.uint8)).save(picture)
    seconds: list[float] = []
    for name in ("grounding-dino-tiny", "grounding-dino-tiny-hf"):
        command = [
            sys.executable,
            "-m",
            "ovd_bench.bench",
            "detect",
            str(picture),
            "-d",
            name,
            "--weights",
            str(folder),
        ]
        command += ["--prompt", "a cat. a dog.", "--json"]
        runs = []
        for _ in range(2):  # the first one fills the file cache and compiles what is missing
            start = time.perf_counter()
            answer = subprocess.run(command, capture_output=True, text=True, check=True, env=os.environ)
            runs.append(time.perf_counter() - start)
            json.loads(answer.stdout)
        seconds.append(runs[-1])
    rows = [_row("start of the process to first detection, s", seconds[0], seconds[1], ".1f")]
    return MarkdownTable("bench detect, 800 x 600 image, two classes", ("what", "ours", "transformers", "ratio"), rows)


def _write_weights(folder: Path) -> None:
    """Random weights of the real size in the hub's layout."""
    import torch
    from transformers import GroundingDinoConfig, GroundingDinoForObjectDetection, GroundingDinoImageProcessor

    from ovd_bench.perf.random_models import bert_tokenizer, draw_weights

    torch.manual_seed(0)
    model = GroundingDinoForObjectDetection(GroundingDinoConfig())
    draw_weights(model, 0.02)
    for part in (model, bert_tokenizer(), GroundingDinoImageProcessor()):
        part.save_pretrained(folder)


def main(
    repeats: Annotated[int, typer.Option(min=1, help="Timed runs of each side.")] = 3,
    chunks: Annotated[int, typer.Option(min=1, help="Chunks of 1,203 classes that are timed.")] = 2,
    out: Annotated[Path | None, typer.Option(help="Markdown file to write.")] = None,
    child: Annotated[str | None, typer.Option(hidden=True)] = None,
    folder: Annotated[Path | None, typer.Option(hidden=True)] = None,
) -> None:
    """Time Grounding DINO-T in Jittor and in transformers."""
    if child is not None and folder is not None:
        _child(child, folder)
        return
    console = Console(width=None if sys.stdout.isatty() else 140)
    lines = describe_machine(["jittor", "torch", "transformers"])
    lines.append(
        f"{os.cpu_count()} threads, {repeats} runs of each, chunks timed: {chunks} of {math.ceil(_LVIS / _CHUNK)}"
    )
    console.print(*lines, sep="\n")
    with tempfile.TemporaryDirectory() as name:
        place = Path(name)
        _write_weights(place)
        tables = []
        for make in (_start, _memory, lambda place: _race(place, repeats, chunks)):
            tables.append(make(place))
            tables[-1].show(console)
    if out is not None:
        head = ["# Grounding DINO-T in Jittor", "", *(f"- {line}" for line in lines), ""]
        with atomic_write(out) as file:
            file.write("\n".join([*head, *(table.markdown() for table in tables)]).encode())


if __name__ == "__main__":
    typer.run(main)
