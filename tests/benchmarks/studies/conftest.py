"""A benchmark, a base configuration and a study on them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from ovd_bench.benchmarks.data.catalog.benchmark import Benchmark
from ovd_bench.tests.benchmarks.board.made_runs import make_benchmark

BASE: dict[str, Any] = {
    "trainer": "grounding-dino",
    "steps": 8,
    "batch": 2,
    "model": {"size": "nano", "options": {"fusion_drop_path": 0.0, "backbone": {"drop_path_rate": 0.0}}},
    "data": {"sources": [{"annotations": "toy.jsonl", "images": "toy"}]},
}
STUDY: dict[str, Any] = {
    "name": "toy-study",
    "question": "What does fusion do?",
    "base": "base.yaml",
    "shared": {"steps": 12},
    "benchmark": "bench/gt.json",
    "reference": "full",
    "seeds": [0, 1],
    "published": {"source": "Somebody 2020, table 1", "about": "another model on other data"},
    "arms": [
        {"name": "full", "about": "All of it.", "published": {"COCO": 46.7}},
        {
            "name": "no-fusion",
            "about": "Without fusion.",
            "changes": {"model.options.use_fusion": False},
            "published": {"COCO": 45.8},
        },
        {"name": "static", "about": "Learned boxes.", "changes": {"model.options.query_selection": "static"}},
    ],
}


@pytest.fixture(scope="session")
def benchmark_(tmp_path_factory: pytest.TempPathFactory) -> Benchmark:
    """Made rectangles; the last class has no training image."""
    made = make_benchmark(tmp_path_factory.mktemp("studies") / "bench", images=40)
    document = json.loads(made.annotations.read_text())
    document["categories"][-1]["image_count"] = 0
    made.annotations.write_text(json.dumps(document))
    return made


@pytest.fixture
def study_file(benchmark_: Benchmark) -> Path:
    """The study's YAML file, with its base beside it."""
    folder = benchmark_.annotations.parent.parent
    (folder / "base.yaml").write_text(yaml.safe_dump(BASE))
    path = folder / "study.yaml"
    path.write_text(yaml.safe_dump(STUDY))
    return path
