"""The command line answers before it imports what the answer does not need."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

import ovd_bench
from ovd_bench.benchmarks.cli.app import app

HEAVY = {"numpy", "pyarrow", "matplotlib", "scipy", "PIL", "yaml", "torch", "jittor", "transformers"}
PROGRAM = f"""
import sys
from ovd_bench.benchmarks.cli.app import main
try:
    main()
except SystemExit:
    pass
print(sorted({HEAVY} & set(sys.modules)), file=sys.stderr)
"""


@pytest.mark.parametrize(
    "words",
    ["--help", "--version", "run --help", "score nowhere.json", "compare nobody nothing", "report nobody"],
)
def test_nothing_heavy_is_imported(words: str, tmp_path: Path) -> None:
    command = [sys.executable, "-c", PROGRAM, *words.split()]
    result = subprocess.run(command, capture_output=True, text=True, check=True, cwd=tmp_path)
    assert result.stderr.splitlines()[-1] == "[]"


def test_version() -> None:
    assert CliRunner().invoke(app, ["--version"]).stdout == f"ovd-bench {ovd_bench.__version__}\n"


def test_completion_of_verbs() -> None:
    environment = {"_BENCH_COMPLETE": "complete_bash", "COMP_WORDS": "bench comp", "COMP_CWORD": "1"}
    result = CliRunner().invoke(app, [], prog_name="bench", env=environment)
    assert result.stdout.split() == ["compare"]
