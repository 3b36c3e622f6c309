"""A small world with the structure of the default one."""

from __future__ import annotations

from ovd_bench.benchmarks.data.shapes import World
from ovd_bench.benchmarks.data.shapes.attributes import COLOURS, PATTERNS, SHAPES
from ovd_bench.benchmarks.data.shapes.world import Split

SMALL = World(
    name="small",
    seed=7,
    patterns=PATTERNS[:3],
    colours=COLOURS[:4],
    shapes=SHAPES[:3],
    frequent=10,
    common=6,
    rare=6,
    unseen=4,
    peak=180,
    split_list=(Split("train", 340), Split("minival", 24), Split("test", 60)),
    negatives=8,
)
