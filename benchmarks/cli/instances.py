"""``data convert yolo-coco`` and ``voc-coco``: data sets of other tools as COCO instances."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from ovd_bench.benchmarks.cli.common import Json, Verbose, console, print_json
from ovd_bench.benchmarks.cli.printing import counter, pairs, say
from ovd_bench.benchmarks.data.output_paths import check_file

if TYPE_CHECKING:
    from ovd_bench.benchmarks.data.instances.writing import Instances

Output = Annotated[Path, typer.Option("--output", "-o", help="The JSON file to write.", show_default=False)]


def yolo(
    source: Annotated[Path, typer.Argument(help="Folder with data.yaml, or this file.", show_default=False)],
    output: Output,
    split: Annotated[Literal["train", "val", "test"], typer.Option(help="Split of data.yaml.")] = "val",
    as_json: Json = False,
    verbose: Verbose = False,
) -> None:
    """Convert a YOLO data set to COCO instances; polygons become boxes. Images are named from the folder of data.yaml.

    A class number k of YOLO becomes the category id k + 1.
    """
    from ovd_bench.benchmarks.data.instances.yolo import read_yolo

    check_file(output)
    with counter("images") as advance:
        made = read_yolo(source, split, advance)
    _write(made, output, as_json, source if source.is_dir() else source.parent)


def voc(
    source: Annotated[Path, typer.Argument(help="Folder with Annotations, or of .xml files.", show_default=False)],
    output: Output,
    split: Annotated[
        str | None,
        typer.Option(help="List of images, a name in ImageSets/Main, such as test.", show_default="all .xml files"),
    ] = None,
    as_json: Json = False,
    verbose: Verbose = False,
) -> None:
    """Convert Pascal VOC to COCO instances; pixels count from 0. Difficult objects are ignored, as crowds."""
    from ovd_bench.benchmarks.data.instances.voc import read_voc

    check_file(output)
    with counter("images") as advance:
        made = read_voc(source, split, advance)
    images = source / "JPEGImages"
    _write(made, output, as_json, images if images.is_dir() else source)


def register(convert: typer.Typer) -> None:
    """Add the verbs to ``data convert``."""
    example = "Example:\n\n  bench data convert"
    convert.command("yolo-coco", epilog=f"{example} yolo-coco data/mine -o data/mine/val.json --split val")(yolo)
    convert.command("voc-coco", epilog=f"{example} voc-coco VOCdevkit/VOC2007 -o voc2007_test.json --split test")(voc)


def _write(made: Instances, output: Path, as_json: bool, images: Path) -> None:
    facts = {key: value for key, value in asdict(made.write(output)).items() if value is not None}
    facts |= {"path": str(output), "images_in": str(images)}
    if as_json:
        print_json(facts | {"dropped": dict(made.dropped)})
        return
    out = console(as_json)
    pairs(out, facts)
    for reason, count in made.dropped.items():
        say(out, f"dropped: {count:,} boxes {reason}")
    say(out, f"'bench run -d DETECTOR -b {output} --images {images}' runs on it")
