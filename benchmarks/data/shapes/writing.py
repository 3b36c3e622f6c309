"""A split on disk: PNG images, the LVIS document, tables of class names and, for training, ODVG."""

from __future__ import annotations

import io
import json
import os
from collections.abc import Callable
from concurrent.futures.process import BrokenProcessPool
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from ovd_bench.benchmarks.data.files.atomic import atomic_write, file_sha256
from ovd_bench.benchmarks.data.odvg.records import (
    Detection,
    Grounding,
    Instance,
    OdvgRecord,
    Region,
    write_label_map,
    write_odvg,
)
from ovd_bench.benchmarks.data.process_pool import ordered_map
from ovd_bench.benchmarks.data.shapes.captions import caption
from ovd_bench.benchmarks.data.shapes.document import Annotated, annotate, document, file_name, vocabulary_tables
from ovd_bench.benchmarks.data.shapes.layout import ScenePlan, scene_plan
from ovd_bench.benchmarks.data.shapes.painting import paint
from ovd_bench.benchmarks.data.shapes.world import World
from ovd_bench.metrics.errors import DataError

_HUFFMAN_ONLY = 2  # zlib's Z_HUFFMAN_ONLY
_CHUNK = 40  # images per task of the pool
_WORLD_MARK = ".world"  # marks the world of the images in a folder while they are being written


@dataclass(frozen=True)
class SplitManifest:
    """Content of a finished split.

    Attributes:
        world, world_hash, split: names and hash of the data set.
        images, annotations: counts.
        image_bytes: sum of the sizes of the image files.
        sha256: hash of every file beside the images, by name.
    """

    world: str
    world_hash: str
    split: str
    images: int
    annotations: int
    image_bytes: int
    sha256: dict[str, str]


@dataclass(frozen=True)
class _Written:
    """Result of a worker for one image: its annotations and, for training, its caption."""

    annotated: Annotated
    grounding: Grounding | None


def write_split(
    world: World, split: str, folder: Path, *, workers: int = 0, progress: Callable[[int], None] | None = None
) -> Path:
    """Write a split below ``folder``, unless it is complete.

    Files: ``<split>/NNNNNN.png``, ``<split>.json`` (LVIS v1), ``tables.json``, ``<split>.manifest.json``, and for
    the training split ``train_od.jsonl``, ``train_vg.jsonl`` (ODVG) and ``label_map.json``. An interrupted run is
    resumed. The content does not depend on ``workers``.

    Args:
        world: the world.
        split: one of ``world.splits``.
        folder: made if it does not exist.
        workers: processes; 0 = one per core that this process may use. A script that calls this with more than one
            needs the usual ``if __name__ == "__main__"``.
        progress: called with the number of images finished since its last call.

    Returns:
        Path of the annotation file.

    Raises:
        DataError: no such split, the folder cannot be written to, or a worker was killed.
    """
    if split not in world.splits:
        raise DataError(f"{world.name} has no split '{split}': choose from {', '.join(world.splits)}")
    annotations = folder / f"{split}.json"
    if read_split_manifest(world, split, folder) is not None:
        return annotations
    try:
        (folder / split).mkdir(parents=True, exist_ok=True)
        _write(world, split, folder, workers or len(os.sched_getaffinity(0)), progress)
    except OSError as error:
        raise DataError(f"{folder}: cannot be written: {error.strerror}") from error
    except BrokenProcessPool as error:
        raise DataError(
            f"{folder}: a rendering process was killed: run again to resume, if needed with fewer workers"
        ) from error
    return annotations


def read_split_manifest(world: World, split: str, folder: Path) -> SplitManifest | None:
    """Manifest of a split that is complete and belongs to this world, otherwise None."""
    try:
        manifest = SplitManifest(**json.loads((folder / f"{split}.manifest.json").read_bytes()))
        files = {name: file_sha256(folder / name) for name in _file_names(split)}
        sizes = [(folder / file_name(split, i)).stat().st_size for i in range(world.splits[split])]
    except (OSError, ValueError, TypeError):
        return None
    wanted = (world.name, world.hash, split, len(sizes), sum(sizes), files)
    found = (
        manifest.world,
        manifest.world_hash,
        manifest.split,
        manifest.images,
        manifest.image_bytes,
        manifest.sha256,
    )
    return manifest if wanted == found else None


def _file_names(split: str) -> list[str]:
    training = ["train_od.jsonl", "train_vg.jsonl", "label_map.json"]
    return [f"{split}.json", "tables.json", *(training if split == "train" else [])]


def _write(world: World, split: str, folder: Path, workers: int, progress: Callable[[int], None] | None) -> None:
    (folder / f"{split}.manifest.json").unlink(missing_ok=True)
    _ = world.categories, world.deck(split)  # computed once, not in every worker
    keep = _claim(world, folder / split / _WORLD_MARK)
    count = world.splits[split]
    chunks = [range(start, min(start + _CHUNK, count)) for start in range(0, count, _CHUNK)]
    written: list[_Written] = []
    with ordered_map(min(workers, len(chunks))) as mapped:
        for done in mapped(partial(_write_images, world, split, folder, keep), chunks):
            written += done
            if progress is not None:
                progress(len(done))
    rows = [row.annotated for row in written]
    _write_json(folder / "tables.json", vocabulary_tables(world))
    _write_json(folder / f"{split}.json", document(world, split, rows))
    if split == "train":
        names = [category.name for category in world.categories]
        write_label_map(folder / "label_map.json", names)
        write_odvg(folder / "train_od.jsonl", (_detection(world, split, row) for row in rows))
        write_odvg(folder / "train_vg.jsonl", (_grounding(world, split, row) for row in written if row.grounding))
    manifest = SplitManifest(
        world=world.name,
        world_hash=world.hash,
        split=split,
        images=count,
        annotations=sum(len(row.category_ids) for row in rows),
        image_bytes=sum((folder / file_name(split, i)).stat().st_size for i in range(count)),
        sha256={name: file_sha256(folder / name) for name in _file_names(split)},
    )
    (folder / split / _WORLD_MARK).unlink(missing_ok=True)
    _write_json(folder / f"{split}.manifest.json", asdict(manifest))


def _claim(world: World, mark: Path) -> bool:
    """Whether existing images are from an unfinished run of the same world; marks the folder with this world."""
    mine = world.hash.encode()
    try:
        if mark.read_bytes() == mine:
            return True
    except FileNotFoundError:
        pass
    for image in mark.parent.glob("[0-9]" * 6 + ".png"):
        image.unlink()
    with atomic_write(mark) as file:
        file.write(mine)
    return False


def _write_images(world: World, split: str, folder: Path, keep: bool, indices: range) -> list[_Written]:
    """Write the missing images of a range; returns annotations of all of them."""
    rows = []
    for index in indices:
        plan = scene_plan(world, split, index)
        path = folder / file_name(split, index)
        if not (keep and path.exists()):
            data = encode_png(paint(world, split, index, plan).pixels)
            with atomic_write(path) as file:
                file.write(data)
        grounding = _captioned(world, split, index, plan) if split == "train" else None
        rows.append(_Written(annotate(world, split, index, plan), grounding))
    return rows


def encode_png(pixels: npt.NDArray[np.uint8]) -> bytes:
    """PNG of uint8 (H, W, 3) RGB pixels, compressed fast."""
    from PIL import Image

    buffer = io.BytesIO()
    # Entropy coding only: noisy pixels have no matches, and searching for them takes the most time.
    Image.fromarray(pixels).save(buffer, "PNG", compress_level=1, compress_type=_HUFFMAN_ONLY)
    return buffer.getvalue()


def _captioned(world: World, split: str, index: int, plan: ScenePlan) -> Grounding:
    described = caption(world, split, index, plan)
    corners = np.concatenate([plan.boxes_xywh[:, :2], plan.boxes_xywh[:, :2] + plan.boxes_xywh[:, 2:]], axis=1).tolist()
    return Grounding(
        caption=described.text,
        regions=tuple(
            Region(
                bbox=tuple(corners[number] for number in phrase.objects),
                phrase=(phrase.text,),
                tokens_positive=(phrase.span,),
            )
            for phrase in described.phrases
        ),
    )


def _detection(world: World, split: str, row: Annotated) -> OdvgRecord:
    instances = tuple(
        Instance(
            bbox=(float(x), float(y), float(x + w), float(y + h)),
            label=category_id - 1,
            category=world.categories[category_id - 1].name,
        )
        for (x, y, w, h), category_id in zip(row.boxes_xywh, row.category_ids, strict=True)
    )
    size = world.image_size
    return OdvgRecord(
        filename=file_name(split, row.index), height=size, width=size, detection=Detection(instances=instances)
    )


def _grounding(world: World, split: str, row: _Written) -> OdvgRecord:
    size = world.image_size
    return OdvgRecord(filename=file_name(split, row.annotated.index), height=size, width=size, grounding=row.grounding)


def _write_json(path: Path, content: dict[str, Any]) -> None:
    with atomic_write(path) as file:
        file.write(json.dumps(content, separators=(",", ":")).encode())
