"""``export``: predictions in the formats of other tools."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from ovd_bench.benchmarks.cli.common import DataRoot, Json, Out, Verbose, console, print_json
from ovd_bench.benchmarks.cli.scoring import BenchmarkName, SomeAnnotations
from ovd_bench.benchmarks.data.output_paths import check_file, check_folder

#: Suffix of the file of each format; the others are folders.
_SUFFIXES = {"coco": ".json", "lvis": ".json", "csv": ".csv", "parquet": ".parquet", "supervision": ".npz"}


def export(
    run: Annotated[
        str,
        typer.Argument(
            metavar="RUN", help="A run: its folder, or its detector; or a prediction file.", show_default=False
        ),
    ],
    to: Annotated[
        Literal["coco", "lvis", "csv", "parquet", "yolo", "fiftyone", "supervision"],
        typer.Option("--to", help="Format.", show_default=False),
    ],
    output: Annotated[
        Path,
        typer.Option("--output", "-o", help="File to write; for yolo and fiftyone a folder.", show_default=False),
    ],
    annotations: SomeAnnotations = None,
    benchmark: BenchmarkName = None,
    *,
    data_root: DataRoot,
    out: Out = Path("results"),
    as_json: Json = False,
    verbose: Verbose = False,
) -> None:
    """Write the predictions of a run for another tool, with the names of classes and images."""
    from ovd_bench.benchmarks.store.run_names import find_predictions

    _check(to, output)
    source = find_predictions(run, out, benchmark)
    from ovd_bench.benchmarks.store.export import WRITERS, Named
    from ovd_bench.benchmarks.store.prediction_source import find_annotations

    truth, _ = find_annotations([source], annotations, benchmark, data_root)
    if truth is None:
        raise typer.BadParameter("a prediction file needs its annotations: -a FILE or -b NAME", param_hint="-a")
    named = Named.read(source, truth)
    WRITERS[to](named, output)
    if as_json:
        print_json({"file": str(output), "format": to, "images": len(named.files), "boxes": len(named.predictions)})
        return
    line = f"wrote {output}: {len(named.predictions):,} boxes of {len(named.files):,} images"
    console(as_json).print(line, highlight=False, markup=False, soft_wrap=True)


def _check(to: str, output: Path) -> None:
    """Refuse a file or folder that could not be written."""
    if to in _SUFFIXES:
        check_file(output, (_SUFFIXES[to],))
    else:
        check_folder(output)


def register(app: typer.Typer) -> None:
    """Add the verb to the command line."""
    app.command(
        epilog="Examples:\n\n"
        "  bench export owl-nano --out runs/bench --to coco -o owl-nano.json\n\n"
        "  bench export owl-nano --out runs/bench --to yolo -o owl-nano-yolo\n\n"
        "  bench export dets.json -a lvis_v1_val.json --to parquet -o dets.parquet\n\n"
        "coco and lvis are the results JSON that both evaluators read; csv and parquet a row per box with the names of "
        "class and image; yolo a text file per image; fiftyone a folder with labels.json, the COCO detection format "
        "with scores; supervision an npz file. docs/running.md shows how the last two are read."
    )(export)
