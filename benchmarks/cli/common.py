"""Options, console and output shared by all verbs."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console

from ovd_bench.benchmarks.cli.streams import speaks_unicode
from ovd_bench.benchmarks.data.catalog.data_root import default_data_root

Annotations = Annotated[
    Path, typer.Option("--annotations", "-a", help="LVIS v1 / v0.5 or COCO instances JSON.", show_default=False)
]
ApProtocolName = Annotated[str, typer.Option("--protocol", "-p", help="lvis, lvis-fixed or coco.")]
Json = Annotated[bool, typer.Option("--json", help="Print one JSON object on stdout, everything else on stderr.")]
Seed = Annotated[int, typer.Option(min=0, help="Seed of the bootstrap.")]
Threads = Annotated[int, typer.Option(min=0, max=256, help="Threads; 0 = all processors. Results do not depend on it.")]
Verbose = Annotated[bool, typer.Option("--verbose", "-v", help="Show a traceback with an error.")]
DataRoot = Annotated[
    Path,
    typer.Option(
        "--data-root",
        help="Folder of the data sets.",
        default_factory=default_data_root,
        show_default="$OVD_BENCH_DATA, else data here or in the checkout, else the user's data folder",
    ),
]


def finite(text: str) -> float:
    """The number in an option's text; NaN and infinity compare with every score in the same way."""
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise typer.BadParameter(f"{text!r:.40} is not a finite number")
    return value


Threshold = Annotated[
    float, typer.Option(parser=finite, metavar="FLOAT", help="Score threshold of the presence decision.")
]
MaxDets = Annotated[
    str | None,
    typer.Option(
        "--max-dets",
        metavar="N,N,N",
        help="With -p coco: other limits of detections per image and class; AP is that of the last.",
        show_default="1,10,100",
    ),
]
IouThresholds = Annotated[
    str | None,
    typer.Option(
        "--iou",
        metavar="IOU,…",
        help="With -p coco: other IoU thresholds, up to ten, as 0.5 or 0.5,0.75 or 0.3:0.7:0.1 (first, last, step).",
        show_default="0.5:0.95:0.05",
    ),
]
AreaRanges = Annotated[
    list[str] | None,
    typer.Option(
        "--area",
        metavar="SIZE=LOW:HIGH",
        help="With -p coco: another range of small, medium or large, square pixels, as small=0:16^2 or large=128^2:.",
        show_default="small=0:32^2, medium=32^2:96^2, large=96^2:",
    ),
]
Out = Annotated[Path, typer.Option("--out", help="Folder of the results.")]


def console(as_json: bool) -> Console:
    """The console for text: stdout, or stderr if stdout carries JSON."""
    return Console(stderr=as_json)


def print_json(document: dict[str, Any]) -> None:
    """One JSON object on stdout; NaN is refused. What the terminal cannot show is escaped, so nothing is lost."""
    print(json.dumps(document, indent=2, ensure_ascii=not speaks_unicode(), allow_nan=False))
