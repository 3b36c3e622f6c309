"""``shapes``: a rendered open-vocabulary detection benchmark with the structure of LVIS; nothing is downloaded."""

from ovd_bench.benchmarks.data.shapes.document import category_table
from ovd_bench.benchmarks.data.shapes.layout import scene_plan
from ovd_bench.benchmarks.data.shapes.painting import Scene, render
from ovd_bench.benchmarks.data.shapes.world import WORLDS, Category, World
from ovd_bench.benchmarks.data.shapes.writing import write_split

__all__ = ["WORLDS", "Category", "Scene", "World", "category_table", "render", "scene_plan", "write_split"]
