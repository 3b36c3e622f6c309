"""``data convert …-odvg``: make training files from annotation files."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ovd_bench.benchmarks.cli.common import Json, Verbose, console, print_json
from ovd_bench.benchmarks.cli.printing import counter, pairs, say
from ovd_bench.benchmarks.data.output_paths import check_file

if TYPE_CHECKING:
    from ovd_bench.benchmarks.data.odvg.conversion import Conversion

Source = Annotated[Path, typer.Argument(help="The file to read.", show_default=False)]
Output = Annotated[Path, typer.Option("--output", "-o", help="The ODVG file to write (.jsonl).", show_default=False)]
Progress = Callable[[int], None]


def coco(source: Source, output: Output, as_json: Json = False, verbose: Verbose = False) -> None:
    """Convert COCO instances, or any file in that format, to ODVG with a label map."""
    from ovd_bench.benchmarks.data.odvg.detection import convert_coco

    _run(output, lambda progress: convert_coco(source, output, progress), as_json)


def lvis(
    source: Source,
    output: Output,
    frequencies: Annotated[
        str,
        typer.Option(
            help="Frequencies to keep: cf removes boxes and names of rare classes, f those of all but frequent classes."
        ),
    ] = "rcf",
    as_json: Json = False,
    verbose: Verbose = False,
) -> None:
    """Convert LVIS v1 or v0.5 to ODVG with a label map; images are named by their coco_url."""
    from ovd_bench.benchmarks.data.odvg.detection import convert_lvis

    _run(output, lambda progress: convert_lvis(source, output, keep=frequencies, progress=progress), as_json)


def objects365(source: Source, output: Output, as_json: Json = False, verbose: Verbose = False) -> None:
    """Convert Objects365 v1 or v2 to ODVG with a label map; class names are corrected."""
    from ovd_bench.benchmarks.data.odvg.detection import convert_objects365

    _run(output, lambda progress: convert_objects365(source, output, progress), as_json)


def flickr30k(
    source: Annotated[Path, typer.Argument(help="Folder with Sentences and Annotations.", show_default=False)],
    output: Output,
    split: Annotated[Path | None, typer.Option(help="Text file with the numbers of the images to convert.")] = None,
    as_json: Json = False,
    verbose: Verbose = False,
) -> None:
    """Convert Flickr30k Entities in its original form to ODVG; one record per caption."""
    from ovd_bench.benchmarks.data.odvg.flickr30k import convert_flickr30k

    _run(output, lambda progress: convert_flickr30k(source, output, split=split, progress=progress), as_json)


def goldg(source: Source, output: Output, as_json: Json = False, verbose: Verbose = False) -> None:
    """Convert a training file of MDETR (GoldG: GQA, Flickr30k) to ODVG; one record per caption."""
    from ovd_bench.benchmarks.data.odvg.mdetr import convert_goldg

    _run(output, lambda progress: convert_goldg(source, output, progress), as_json)


def queries(source: Source, output: Output, as_json: Json = False, verbose: Verbose = False) -> None:
    """Convert a file of queries to ODVG; one record per image and text, without queries of something absent."""
    from ovd_bench.benchmarks.data.odvg.queries import convert_queries

    _run(output, lambda progress: convert_queries(source, output, progress), as_json)


def ogd(
    source: Source,
    output: Output,
    join_phrases: Annotated[
        bool,
        typer.Option(
            "--join-phrases",
            help="Replace captions by their phrases, 'a cat . a dog .', as Open-GroundingDino's own reader does.",
        ),
    ] = False,
    as_json: Json = False,
    verbose: Verbose = False,
) -> None:
    """Convert ODVG of Open-GroundingDino, which has no spans, to that of mmdetection, which has them.

    Boxes whose phrases are not in their caption are dropped and counted.
    """
    from ovd_bench.benchmarks.data.odvg.dialect import convert_dialect

    _run(output, lambda progress: convert_dialect(source, output, progress, join_phrases=join_phrases), as_json)


def register(convert: typer.Typer) -> None:
    """Add the verbs to ``data convert``."""
    example = "Example:\n\n  bench data convert"
    convert.command("coco-odvg", epilog=f"{example} coco-odvg instances_train2017.json -o coco_train.jsonl")(coco)
    convert.command(
        "lvis-odvg", epilog=f"{example} lvis-odvg lvis_v1_train.json -o lvis_norare.jsonl --frequencies cf"
    )(lvis)
    convert.command("objects365-odvg", epilog=f"{example} objects365-odvg zhiyuan_objv2_train.json -o o365.jsonl")(
        objects365
    )
    convert.command("flickr30k-odvg", epilog=f"{example} flickr30k-odvg entities -o flickr.jsonl --split train.txt")(
        flickr30k
    )
    convert.command("goldg-odvg", epilog=f"{example} goldg-odvg final_mixed_train_no_coco.json -o gqa.jsonl")(goldg)
    convert.command("queries-odvg", epilog=f"{example} queries-odvg queries.jsonl -o train.jsonl")(queries)
    convert.command("ogd-odvg", epilog=f"{example} ogd-odvg train_vg.jsonl -o train_spans.jsonl")(ogd)


def _run(output: Path, work: Callable[[Progress], Conversion], as_json: bool) -> None:
    check_file(output)
    with counter("images or captions") as advance:
        report = work(advance)
    lists = {
        name: {reason: count for reason, count in counts.most_common() if count}
        for name, counts in (("dropped", report.dropped), ("left_out", report.left_out))
    }
    facts = {key: value for key, value in vars(report).items() if key not in (*lists, "notes")}
    facts |= {key: str(value) for key, value in facts.items() if isinstance(value, Path)}
    if as_json:
        print_json(facts | lists | {"notes": report.notes})
        return
    out = console(as_json)
    pairs(out, {key: value for key, value in facts.items() if value is not None})
    for key, counts in lists.items():
        say(out, f"{key.replace('_', ' ')}: {'' if counts else 'nothing'}")
        for reason, count in counts.items():
            say(out, f"{count:,} {reason}", indent=2)
    for note in report.notes:
        say(out, f"note: {note}")
