"""What the readers wrote, for comparison."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from ovd_bench.benchmarks.data.files.queries import read_queries


def lines(path: Path) -> list[dict[str, Any]]:
    """Objects of a file of queries, which the suite's own reader must accept."""
    read_queries(path)
    return [json.loads(line) for line in path.read_text().splitlines()]
