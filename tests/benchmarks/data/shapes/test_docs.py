"""The counts in docs/shapes.md are those of the worlds."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from ovd_bench.benchmarks.data.shapes import WORLDS
from ovd_bench.benchmarks.data.shapes.federation import federation
from ovd_bench.benchmarks.data.shapes.layout import scene_classes

TEXT = (Path(__file__).parents[4] / "docs" / "shapes.md").read_text()


@pytest.mark.parametrize(("name", "split"), [(name, split) for name, world in WORLDS.items() for split in world.splits])
def test_counts_per_split(name: str, split: str) -> None:
    world = WORLDS[name]
    count = world.splits[split]
    shown = [scene_classes(world, split, index) for index in range(count)]
    objects = sum(map(len, shown))
    left_out = sum(len(federation(world, split, index).left_out) for index in range(count))
    images = np.zeros(len(world.categories), np.int64)
    for classes in shown:
        images[np.unique(classes)] += 1
    cells = (count, objects, objects - left_out, left_out, images.min(), f"{np.median(images):g}")
    assert f"| `{name}` {split} | {' | '.join(map(str, cells))} |" in TEXT
