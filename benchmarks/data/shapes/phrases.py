"""The queries of a world: expressions and captions about images that are rendered already."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from functools import partial
from pathlib import Path

from ovd_bench.benchmarks.data.files.atomic import atomic_write, file_sha256
from ovd_bench.benchmarks.data.files.queries import QueryLine, write_queries
from ovd_bench.benchmarks.data.process_pool import ordered_map
from ovd_bench.benchmarks.data.shapes.captions import caption
from ovd_bench.benchmarks.data.shapes.document import file_name
from ovd_bench.benchmarks.data.shapes.expressions import expressions
from ovd_bench.benchmarks.data.shapes.layout import scene_plan
from ovd_bench.benchmarks.data.shapes.world import World

#: Raised whenever the same world gives other queries.
VERSION = 1
#: Images of a split that are asked about, from the first on; training asks about all.
IMAGES = 200
_CHUNK = 20


def phrases_file(split: str) -> str:
    """Name of the file in the folder of the world."""
    return f"phrases_{split}.jsonl"


def write_phrases(world: World, split: str, folder: Path, *, workers: int) -> Path:
    """Write the queries about a split beside its annotations, unless they are there.

    Args:
        world: the world.
        split: one of ``world.splits``, whose images are in ``folder``.
        folder: of the world.
        workers: processes.

    Raises:
        OSError: the folder cannot be written to.
    """
    path = folder / phrases_file(split)
    mark = path.with_suffix(".manifest.json")
    wanted = {"world": world.name, "queries": _hash(world)}
    try:
        if json.loads(mark.read_bytes()) == wanted | {"sha256": file_sha256(path)}:
            return path
    except (OSError, ValueError):
        pass
    count = world.splits[split] if split == "train" else min(IMAGES, world.splits[split])
    chunks = [range(start, min(start + _CHUNK, count)) for start in range(0, count, _CHUNK)]
    _ = world.categories, world.deck(split)  # computed once, not in every worker
    with ordered_map(min(workers, len(chunks))) as mapped:
        lines = [line for done in mapped(partial(_lines, world, split), chunks) for line in done]
    for number, line in enumerate(lines, 1):
        line.query_id = number
    write_queries(path, lines)
    with atomic_write(mark) as file:
        file.write(json.dumps(wanted | {"sha256": file_sha256(path)}).encode())
    return path


def _hash(world: World) -> str:
    return hashlib.sha256(f"{VERSION} {IMAGES} {world.hash}".encode()).hexdigest()


def _lines(world: World, split: str, indices: range) -> list[QueryLine]:
    return [line for index in indices for line in _about(world, split, index)]


def _about(world: World, split: str, index: int) -> Iterator[QueryLine]:
    """Queries about one image, without their ids."""
    plan = scene_plan(world, split, index)
    boxes = [(x, y, width, height) for x, y, width, height in plan.boxes_xywh.tolist()]
    line = partial(
        QueryLine,
        query_id=0,
        image_id=index + 1,
        file_name=file_name(split, index),
        width=world.image_size,
        height=world.image_size,
    )
    for one in expressions(world, split, index, plan):
        if one.target is None:
            yield line(text=one.text, kinds=["absent", one.kind], present=False)
        else:
            yield line(text=one.text, kinds=["expression", one.kind], boxes=[boxes[one.target]])
    described = caption(world, split, index, plan)
    for phrase in described.phrases:
        yield line(
            text=described.text,
            spans=[phrase.span],
            kinds=["phrase"],
            boxes=[boxes[number] for number in phrase.objects],
        )
