"""Times the generator of the embedded benchmark: ``python -m ovd_bench.perf.shapes``.

Rendering: layout and pixels in one process. Writing: the same with PNG encoding, annotations and, for the training
split, captions and ODVG, in a fresh folder, with one process and with all cores; starting the processes is included.
CPU time counts this process and its workers.
"""

from __future__ import annotations

import os
import resource
import sys
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from ovd_bench.benchmarks.data.shapes import WORLDS, World, category_table, render, write_split
from ovd_bench.perf.machine import describe_machine
from ovd_bench.perf.tables import MarkdownTable

_WARM_UP = 50  # images after which all templates have probably been made


def _cpu_seconds() -> float:
    """CPU time of this process and of its children that have ended."""
    usage = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(u.ru_utime + u.ru_stime for u in usage)


def _timed(name: str, images: int, call: Callable[[], object]) -> tuple[str, ...]:
    wall, cpu = time.perf_counter(), _cpu_seconds()
    call()
    wall, cpu = time.perf_counter() - wall, _cpu_seconds() - cpu
    return name, f"{images / wall:.0f}", f"{1e3 * cpu / images:.1f}"


def _render(world: World, split: str, images: int) -> None:
    for index in range(images):
        render(world, split, index)


def main(
    name: Annotated[str, typer.Option("--world", help="World: " + ", ".join(WORLDS) + ".")] = "shapes",
    split: Annotated[str, typer.Option(help="Split to write.")] = "test",
    out: Annotated[Path | None, typer.Option(help="Markdown file to write.")] = None,
) -> None:
    """Time rendering and writing of the embedded benchmark."""
    if name not in WORLDS or split not in WORLDS[name].splits:
        raise typer.BadParameter(f"{name}/{split} does not exist: worlds are {', '.join(WORLDS)}")
    console = Console(width=None if sys.stdout.isatty() else 140)
    lines = describe_machine(["numpy", "pillow"])
    console.print(*lines, sep="\n")
    world = WORLDS[name]
    images = world.splits[split]
    category_table(world)  # dealt and counted once per process
    _render(world, split, min(images, _WARM_UP))
    rows = [_timed("render, 1 process", images, partial(_render, world, split, images))]
    with tempfile.TemporaryDirectory() as folder:
        for workers in sorted({1, len(os.sched_getaffinity(0))}):
            write = partial(write_split, world, split, Path(folder) / str(workers), workers=workers)
            rows.append(_timed(f"write, processes: {workers}", images, write))
    table = MarkdownTable(f"{name}/{split}: {images:,} images", ("", "images/s", "CPU ms per image"), rows)
    table.show(console)
    if out is not None:
        how = str(__doc__).split("\n\n", 1)[1]
        head = ["# Speed of the embedded benchmark's generator", "", *(f"- {line}" for line in lines), "", how]
        out.write_text("\n".join([*head, table.markdown()]))


if __name__ == "__main__":
    typer.run(main)
