"""Detection in single images: vocabulary from a prompt, boxes above a threshold."""

from __future__ import annotations

import glob
import io
import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import PIL.Image
from rich import box
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from ovd_bench.benchmarks.data.files.atomic import atomic_write
from ovd_bench.benchmarks.data.files.documents import read_document
from ovd_bench.benchmarks.data.text import printable
from ovd_bench.benchmarks.pictures.drawing import color_of, draw_boxes, grid
from ovd_bench.detectors.interface import Detector, GroundingDetector, RawDetector
from ovd_bench.detectors.prompts import PromptPlan
from ovd_bench.detectors.types import Image, Vocabulary
from ovd_bench.metrics.errors import DataError
from ovd_bench.metrics.types import FloatArray

#: The model reads the text exactly as the user writes it.
PLAN = PromptPlan(name="prompt", cleaning="none")

_MAX_BYTES = 2**20

#: Suffixes of the files of a folder that are taken for images.
_SUFFIXES = {".avif", ".bmp", ".gif", ".jp2", ".jpeg", ".jpg", ".png", ".ppm", ".tif", ".tiff", ".webp"}


@dataclass(frozen=True)
class Found:
    """Detections in one image, best first (n boxes).

    Attributes:
        image: the image.
        boxes_xyxy: (n, 4), absolute pixels.
        labels: n texts.
        scores: (n,).
        best: highest score, even below the threshold; None without any box.
    """

    image: Image
    boxes_xyxy: FloatArray
    labels: tuple[str, ...]
    scores: FloatArray
    best: float | None

    def as_json(self) -> dict[str, Any]:
        """Plain values."""
        rows = zip(self.labels, self.scores.tolist(), self.boxes_xyxy.tolist(), strict=True)
        found = [{"label": label, "score": score, "box_xyxy": box} for label, score, box in rows]
        return {"image": self.image.path, "width": self.image.width, "height": self.image.height, "detections": found}


def prompt_vocabulary(prompt: str) -> Vocabulary:
    """Classes of a prompt such as ``a cat. a remote control.``; dots, commas, semicolons and line breaks separate them.

    The signs of Chinese and Japanese separate, too.

    Empty parts are left out, as are repetitions (upper and lower case are the same).

    Raises:
        DataError: nothing is left.
    """
    return plain_vocabulary(
        re.split(r"[.,;。，；\n]", prompt), "the prompt names no class: write, for example, 'a cat. a dog.'"
    )


def class_vocabulary(path: Path) -> Vocabulary:
    """Classes of a text file, one per line; empty lines and repetitions are left out.

    Raises:
        DataError: the file cannot be read, is not text, or names no class.
    """
    try:
        text = read_document(path, _MAX_BYTES, "list of classes").decode()
    except UnicodeDecodeError as error:
        raise DataError(f"{path}: is not UTF-8 text") from error
    return plain_vocabulary(text.splitlines(), f"{path}: names no class: write one per line")


def plain_vocabulary(parts: Sequence[str], complaint: str) -> Vocabulary:
    """Classes of names, numbered from 1; empty ones and repetitions are left out.

    Args:
        parts: the names.
        complaint: message of the error.

    Raises:
        DataError: nothing is left.
    """
    words = [" ".join(part.split()) for part in parts]
    names = tuple({word.casefold(): word for word in reversed(words) if word}.values())[::-1]
    if not names:
        raise DataError(complaint)
    return Vocabulary(ids=tuple(range(1, len(names) + 1)), names=names)


def image_files(paths: Sequence[Path]) -> list[Path]:
    """Files of the images; a folder stands for the images in it, a pattern such as ``photos/*.jpg`` for its matches.

    Each file is there once. Those of a folder or pattern are sorted.

    Raises:
        DataError: a folder without images, or a pattern that matches none.
    """
    files: dict[Path, None] = {}
    for path in paths:
        found = [path]
        if path.is_dir():
            found = sorted(file for file in path.iterdir() if file.suffix.lower() in _SUFFIXES and file.is_file())
        elif glob.has_magic(str(path)) and not path.exists():
            found = sorted(Path(name) for name in glob.glob(str(path), recursive=True))  # noqa: PTH207 - absolute patterns
        if not found:
            raise DataError(f"{path}: no images there ({', '.join(sorted(_SUFFIXES))})")
        files |= dict.fromkeys(found)
    return list(files)


def detect_again(
    detector: Detector, images: Sequence[Image], vocabulary: Vocabulary, threshold: float, most: int
) -> list[Found]:
    """Boxes of the classes, image by image, with a vocabulary that the detector has been given.

    Raises:
        DetectorError: the detector fails.
    """
    names = dict(zip(vocabulary.ids, vocabulary.names, strict=True))
    results = []
    for image in images:
        found = detector.detect([image])[0]
        found.check_vocabulary(vocabulary)
        labels = [names[category] for category in found.category_ids.tolist()]
        results.append(_kept(image, found.boxes_xyxy, labels, found.scores, threshold, most))
    return results


def detect_caption(
    detector: Detector, images: Sequence[Image], caption: str, threshold: float, most: int
) -> list[Found]:
    """Boxes of the phrases of a caption, image by image.

    Raises:
        DataError: the detector does not support captions, or the caption is empty.
    """
    if not isinstance(detector, GroundingDetector):
        raise DataError(f"detector '{detector.card.name}' finds classes, not phrases of a caption: use --prompt")
    if not caption.strip():
        raise DataError("--caption is empty")
    results = []
    for image in images:
        found = detector.ground([image], [caption])[0]
        results.append(_kept(image, found.boxes_xyxy, found.phrases, found.scores, threshold, most))
    return results


def save_raw(detector: Detector, image: Image, caption: str, file: Path) -> None:
    """Write the raw network output for an image and a caption as npz.

    Raises:
        DataError: the detector does not provide raw output, or the caption is empty.
    """
    if not isinstance(detector, RawDetector):
        raise DataError(f"detector '{detector.card.name}' has no raw network output: omit --raw")
    if not caption.strip():
        raise DataError("--caption is empty")
    buffer = io.BytesIO()
    np.savez(buffer, **detector.raw(image, caption))
    with atomic_write(file) as target:
        target.write(buffer.getvalue())


def _kept(
    image: Image, boxes_xyxy: FloatArray, labels: Sequence[str], scores: FloatArray, threshold: float, most: int
) -> Found:
    order = np.argsort(-scores, kind="stable")
    best = float(scores[order[0]]) if len(order) else None
    order = order[scores[order] >= threshold][:most]
    return Found(image, boxes_xyxy[order], tuple(labels[row] for row in order), scores[order], best)


def draw_found(results: Sequence[Found]) -> PIL.Image.Image:
    """The images with their boxes, in a grid about as wide as high."""
    titles = ["" if len(results) == 1 else Path(found.image.path).name for found in results]
    pictures = [
        draw_boxes(found.image.pixels, found.boxes_xyxy, found.labels, found.scores, title=title)
        for found, title in zip(results, titles, strict=True)
    ]
    return pictures[0] if len(pictures) == 1 else grid(pictures, round(len(pictures) ** 0.5))


class OutputFolder:
    """A folder with a picture per image and all detections as ``detections.json``."""

    def __init__(self, folder: Path) -> None:
        """Make the folder.

        Raises:
            DataError: it cannot be made.
        """
        self._folder = folder
        self._names: set[str] = set()
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise DataError(f"{folder}: cannot be made: {error.strerror}") from error

    def draw(self, found: Found) -> str:
        """Write the picture of an image and return the name of its file; images of one name are numbered."""
        stem = Path(found.image.path).stem
        name, number = f"{stem}.png", 1
        while name in self._names:
            number += 1
            name = f"{stem}-{number}.png"
        self._names.add(name)
        with atomic_write(self._folder / name) as file:
            draw_found([found]).save(file, format="PNG")
        return name

    def write(self, document: dict[str, Any]) -> None:
        """Write the detections."""
        with atomic_write(self._folder / "detections.json") as file:
            file.write((json.dumps(document, ensure_ascii=False, indent=1) + "\n").encode())


def found_table(found: Found, threshold: float) -> RenderableType:
    """Label, score and box of all detections in one image."""
    image = found.image
    title = Text(f"{printable(image.path)} · {image.width} × {image.height}")
    if not found.labels:
        best = "no box at all" if found.best is None else f"the best has {found.best:.3f}: lower --threshold"
        return Group(title, Text(f"nothing with a score of {threshold:g} or more; {best}", style="yellow"), Text())
    table = Table(title=title, box=box.SIMPLE_HEAD, title_justify="left", title_style="bold")
    table.add_column("label", overflow="fold")
    for heading in ("score", "left", "top", "right", "bottom"):
        table.add_column(heading, justify="right")
    for label, score, corners in zip(found.labels, found.scores, found.boxes_xyxy, strict=True):
        numbers = [f"{score:.3f}", *(f"{value:.1f}" for value in corners)]
        table.add_row(Text(printable(label), style=color_of(label)), *numbers)
    return table
