"""``speed``: time, memory and size of detectors."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from ovd_bench.benchmarks.cli.common import DataRoot, Json, Verbose, console, print_json
from ovd_bench.benchmarks.cli.run_options import (
    Detectors,
    Device,
    DtypeName,
    Quiet,
    RunSeed,
    Weights,
    split_names,
)
from ovd_bench.benchmarks.data.output_paths import check_file
from ovd_bench.benchmarks.data.text import printable
from ovd_bench.detectors.prompts import PLANS
from ovd_bench.metrics.errors import DataError


def speed(
    detector: Detectors,
    benchmark: Annotated[
        str | None,
        typer.Option("--benchmark", "-b", help="Name, or annotation file: its first images.", show_default=False),
    ] = None,
    image: Annotated[
        Path | None, typer.Option(help="One image file.", show_default="a synthetic image, 1066 x 800")
    ] = None,
    vocabulary: Annotated[
        str | None,
        typer.Option(
            help="Number of synthetic classes, benchmark or annotation file, or .txt with one class per line.",
            show_default="the benchmark's, else 80",
        ),
    ] = None,
    prompts: Annotated[str, typer.Option(help=f"Prompt plan: {', '.join(PLANS)}, or a YAML file.")] = "names",
    batch: Annotated[str, typer.Option(help="Images per call, comma-separated.")] = "1,8",
    warmup: Annotated[int, typer.Option(min=0, help="Calls before the timed ones.")] = 5,
    iters: Annotated[int, typer.Option(min=1, help="Timed calls.")] = 20,
    device: Device = "auto",
    dtype: DtypeName = "float32",
    weights: Weights = None,
    seed: RunSeed = 0,
    *,
    data_root: DataRoot,
    out: Annotated[Path | None, typer.Option(help="JSON file to write.", show_default="none")] = None,
    as_json: Json = False,
    quiet: Quiet = False,
    verbose: Verbose = False,
) -> None:
    """Measure latency, images per second, memory, parameters and operations, each detector in its own process."""
    from ovd_bench.benchmarks.data.files.documents import checked
    from ovd_bench.benchmarks.data.prompt_files import read_plan
    from ovd_bench.benchmarks.runner.user_request import detector_spec, weights_source
    from ovd_bench.benchmarks.speed.command import failed, measure_all
    from ovd_bench.benchmarks.speed.inputs import gather
    from ovd_bench.benchmarks.speed.record import Measured, write_report
    from ovd_bench.benchmarks.speed.request import SpeedRequest
    from ovd_bench.benchmarks.speed.show import report_table
    from ovd_bench.detectors.registry import check_detector

    if out is not None:
        check_file(out)
    sizes = _sizes(batch)
    names = split_names(detector)
    if not names:
        raise DataError("--detector names no detector: 'bench list detectors' shows them")
    if weights is not None and len(names) > 1:
        raise DataError("--weights needs exactly one --detector")
    for name in names:
        check_detector(name, weights)  # before data are rendered
    plan = read_plan(prompts)
    inputs = gather(benchmark, image, vocabulary, data_root, max(sizes))
    requests = [
        checked(
            SpeedRequest,
            detector=detector_spec(name),
            weights=weights_source(weights),
            device=device,
            dtype=dtype,
            plan=plan,
            vocabulary=inputs.vocabulary,
            batches=sizes,
            warm_up=warmup,
            iterations=iters,
            seed=seed,
        )
        for name in names
    ]
    errors = Console(stderr=True)

    def tell(line: str) -> None:
        if not quiet:
            errors.print(printable(line), style="dim", markup=False, highlight=False)

    report, interrupted = measure_all(requests, inputs, shlex.join(["bench", *sys.argv[1:]]), tell, verbose=verbose)
    if out is not None:
        write_report(out, report)
    if as_json:
        print_json(report.model_dump(mode="json", by_alias=True))
    (errors if as_json else console(False)).print(report_table(report))
    if interrupted:
        raise typer.Exit(130)
    if failed(report):
        raise typer.Exit(3 if any(isinstance(one, Measured) for one in report.detectors) else 1)


def _sizes(text: str) -> tuple[int, ...]:
    """Batch sizes of a list such as ``1,8``."""
    words = [word.strip() for word in text.split(",") if word.strip()]
    if not words or not all(word.isdecimal() and int(word) > 0 for word in words):
        raise DataError(f"--batch {text!r:.60}: expected whole numbers from 1, comma-separated")
    return tuple(sorted({int(word) for word in words}))


def register(app: typer.Typer) -> None:
    """Add the verb."""
    app.command(
        epilog="Examples:\n\n"
        "  bench speed -d owl-nano\n\n"
        "  bench speed -d grounding-dino-tiny-hf,owlv2-base-patch16 --vocabulary 1203 --batch 1 --iters 10\n\n"
        "  bench speed -d my_detector.py:Mine -b lvis-minival --json --out speed.json\n\n"
        "Exit codes: 0 done, 1 error, 2 usage, 3 some detectors or batch sizes failed, 130 interrupted. "
        "If other processes used the machine, a detector is measured anyway; the result says so and names them."
    )(speed)
