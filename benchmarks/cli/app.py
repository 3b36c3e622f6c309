"""The command line: all verbs, and the handling of errors."""

from __future__ import annotations

import os
import sys
from typing import Annotated, NoReturn

import typer

from ovd_bench.benchmarks.cli import (
    board,
    data,
    detectors,
    doctor,
    export,
    pictures,
    running,
    scoring,
    speed,
    streams,
    study,
    training,
    weights,
)
from ovd_bench.benchmarks.data.text import printable
from ovd_bench.detectors.errors import DetectorError
from ovd_bench.detectors.extras import missing_package
from ovd_bench.metrics.errors import DataError
from ovd_bench.metrics.native import CompilerError

app = typer.Typer(
    help="Comparative benchmark suite for open-vocabulary object detectors.",
    no_args_is_help=True,
    rich_markup_mode="rich",
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _version(wanted: bool) -> None:
    if wanted:
        import ovd_bench

        print(f"ovd-bench {ovd_bench.__version__}")
        raise typer.Exit


@app.callback()
def suite(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version of the suite.")
    ] = False,
) -> None:
    """Options before the verb."""


for verbs in (detectors, data, running, scoring, export, board, pictures, doctor, speed, training, study, weights):
    verbs.register(app)


def main() -> None:
    """Entry point: errors are one line on stderr with exit code 1; a traceback only with -v."""
    verbose = "-v" in sys.argv or "--verbose" in sys.argv
    if verbose:
        os.environ["OVD_BENCH_VERBOSE"] = "1"  # for Jittor, also in worker processes
    streams.show_everything()
    try:
        _run(verbose)
    except SystemExit as stop:
        if isinstance(stop.__context__, BrokenPipeError):
            streams.reader_gone()
        try:
            streams.finish()
        except BrokenPipeError:
            streams.reader_gone()
        except OSError as error:
            sys.exit(f"error: the output cannot be written: {error.strerror}")
        raise


def _run(verbose: bool) -> None:
    """Run the verb of the command line and end the process."""
    try:
        app(prog_name="bench")
    except (DataError, DetectorError, CompilerError, OSError, MemoryError) as error:
        if verbose:
            raise
        _end(str(error) or type(error).__name__)
    except UnicodeError as error:
        if verbose:
            raise
        _end(f"a name cannot be written in the encoding of this system ({error}): set the locale to UTF-8")
    except SystemExit as stop:
        if _is_of_typer(stop):
            raise
        from ovd_bench.detectors.third_party import described  # needs pydantic, which takes time to import

        _end(f"third-party code ended the program: {described(stop)}")
    except ModuleNotFoundError as error:
        lacking = missing_package(error)
        if verbose or lacking is None:
            raise
        _end(f"this {lacking}")


def _is_of_typer(stop: SystemExit) -> bool:
    """Whether the command line itself ended: every verb of the suite does so by ``typer.Exit``.

    Rich ends a program whose output nobody reads any more.
    """
    packages = []
    trace = stop.__traceback__
    while trace is not None:
        packages.append(str(trace.tb_frame.f_globals.get("__name__", "")).partition(".")[0])
        trace = trace.tb_next
    while packages and packages[-1] == "jittor":  # which puts a function of its own in the place of sys.exit
        packages.pop()
    return bool(packages) and packages[-1] in ("typer", "click", "rich")


def _end(reason: str) -> NoReturn:
    print("error:", printable(reason), file=sys.stderr)
    sys.exit(1)
