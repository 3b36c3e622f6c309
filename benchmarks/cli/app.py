"""The command line: all verbs, and the handling of errors."""

from __future__ import annotations

import os
import sys

import typer

from ovd_bench.benchmarks.cli import (
    board,
    data,
    detectors,
    doctor,
    pictures,
    running,
    scoring,
    speed,
    study,
    training,
    weights,
)
from ovd_bench.benchmarks.data.text import printable
from ovd_bench.detectors.types import DetectorError
from ovd_bench.metrics.errors import DataError
from ovd_bench.metrics.native import CompilerError

app = typer.Typer(
    help="Comparative benchmark suite for open-vocabulary object detectors.",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode="rich",
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)

for verbs in (detectors, data, running, scoring, board, pictures, doctor, speed, training, study, weights):
    verbs.register(app)


def main() -> None:
    """Entry point: errors are one line on stderr with exit code 1; a traceback only with -v."""
    verbose = "-v" in sys.argv or "--verbose" in sys.argv
    if verbose:
        os.environ["OVD_BENCH_VERBOSE"] = "1"  # for Jittor, also in worker processes
    try:
        app(prog_name="bench")
    except (DataError, DetectorError, CompilerError, OSError, MemoryError) as error:
        if verbose:
            raise
        reason = str(error) or type(error).__name__
        print("error:", printable(reason), file=sys.stderr)
        sys.exit(1)
