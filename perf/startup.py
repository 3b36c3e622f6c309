"""Time from the start of ``bench score`` on a small file to its result: in a fresh environment, and later."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from statistics import median

from ovd_bench.perf.peers import FORMS
from ovd_bench.perf.tables import MarkdownTable


def time_of_first_number(directory: Path, repeats: int) -> MarkdownTable:
    """Wall time of the whole command with an empty cache directory, which includes compilation, and afterwards."""
    with tempfile.TemporaryDirectory() as cache:
        first = _command_seconds(directory, cache)
        later = [_command_seconds(directory, cache) for _ in range(repeats)]
    rows = [
        ("first command, empty cache, with compilation", f"{first:.2f}", f"{first:.2f}"),
        ("later commands", f"{median(later):.2f}", f"{min(later):.2f}"),
    ]
    return MarkdownTable("Process start to statistics, small file", ("", "median s", "least s"), rows)


def _command_seconds(directory: Path, cache: str) -> float:
    command = [sys.executable, "-m", "ovd_bench.bench", "score", str(directory / FORMS["JSON"])]
    command += ["--annotations", str(directory / "gt.json"), "--protocol", "lvis", "--json"]
    start = time.perf_counter()
    result = subprocess.run(
        command, capture_output=True, text=True, check=False, env=os.environ | {"XDG_CACHE_HOME": cache}
    )
    seconds = time.perf_counter() - start
    if result.returncode != 0:
        raise RuntimeError(f"bench score failed: {result.stderr.strip()[-500:]}")
    return seconds
