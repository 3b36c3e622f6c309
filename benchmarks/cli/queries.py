"""``data convert …-queries``: make the suite's files of queries from data sets of referring expressions and phrases."""

from __future__ import annotations

from collections.abc import Callable
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ovd_bench.benchmarks.cli.common import Json, Verbose, console, print_json
from ovd_bench.benchmarks.cli.printing import counter, pairs, say
from ovd_bench.benchmarks.data.output_paths import check_file

if TYPE_CHECKING:
    from ovd_bench.benchmarks.data.queries.conversion import QueryConversion

Source = Annotated[Path, typer.Argument(help="The file to read.", show_default=False)]
Sources = Annotated[list[Path], typer.Argument(help="The files to read.", show_default=False)]
Output = Annotated[
    Path, typer.Option("--output", "-o", help="The file of queries to write (.jsonl).", show_default=False)
]


class Scenario(StrEnum):
    """Descriptions that an image of D³ is asked."""

    intra = "intra"
    inter = "inter"


def refcoco(
    sources: Sources,
    output: Output,
    kind: Annotated[
        str, typer.Option(help="Kind of all queries; default: after the file, such as refcoco+/testA.")
    ] = "",
    as_json: Json = False,
    verbose: Verbose = False,
) -> None:
    """Convert RefCOCO, RefCOCO+ or RefCOCOg: documents of MDETR, or .jsonl files of Qwen-VL and InternVL.

    Several files, such as all eight splits, become one; each split is a kind.
    """
    from ovd_bench.benchmarks.data.queries.refcoco import convert_refcoco

    _run(output, lambda: [convert_refcoco(sources, output, kind=kind)], as_json)


def flickr30k(
    source: Annotated[
        Path, typer.Argument(help="Folder with Sentences and Annotations, or a document of MDETR.", show_default=False)
    ],
    output: Output,
    split: Annotated[Path | None, typer.Option(help="Text file with the numbers of the images to convert.")] = None,
    as_json: Json = False,
    verbose: Verbose = False,
) -> None:
    """Convert Flickr30k Entities: one query per phrase of a caption. Only the folder has entity types."""
    from ovd_bench.benchmarks.data.queries.flickr30k import convert_flickr30k_queries

    with counter("images") as advance:
        _run(output, lambda: [convert_flickr30k_queries(source, output, split=split, progress=advance)], as_json)


def d3(
    source: Annotated[Path, typer.Argument(help="d3_full_annotations.json of d3_json.zip.", show_default=False)],
    tables: Annotated[
        Path, typer.Option(help="Folder of d3_pkl.zip, with sentences, images and groups (.pkl or .json).")
    ],
    output: Output,
    scenario: Annotated[
        Scenario, typer.Option(help="intra: an image is asked the descriptions of its group; inter: all 422.")
    ] = Scenario.intra,
    as_json: Json = False,
    verbose: Verbose = False,
) -> None:
    """Convert D³ (Described Object Detection): present and absent descriptions of images.

    The inter-scenario has 4.5 million queries.
    """
    from ovd_bench.benchmarks.data.queries.d3 import convert_d3

    with counter("images") as advance:
        _run(output, lambda: [convert_d3(source, tables, output, scenario=scenario.value, progress=advance)], as_json)


def omnilabel(source: Source, output: Output, as_json: Json = False, verbose: Verbose = False) -> None:
    """Convert OmniLabel: categories and descriptions, present and absent ones."""
    from ovd_bench.benchmarks.data.queries.omnilabel import convert_omnilabel

    _run(output, lambda: [convert_omnilabel(source, output)], as_json)


def saco(sources: Sources, output: Output, as_json: Json = False, verbose: Verbose = False) -> None:
    """Convert SA-Co Gold or Silver: noun phrases, present and absent ones.

    The three annotators of a subset become three files of the same queries, -o gold.jsonl writes gold-a.jsonl,
    gold-b.jsonl and gold-c.jsonl.
    """
    from ovd_bench.benchmarks.data.queries.saco import convert_saco

    _run(output, lambda: convert_saco(sources, output), as_json)


def register(convert: typer.Typer) -> None:
    """Add the verbs to ``data convert``."""
    example = "Example:\n\n  bench data convert"
    convert.command(
        "refcoco-queries", epilog=f"{example} refcoco-queries finetune_refcoco_val.json -o refcoco_val.jsonl"
    )(refcoco)
    convert.command(
        "flickr30k-queries", epilog=f"{example} flickr30k-queries entities -o flickr_test.jsonl --split test.txt"
    )(flickr30k)
    convert.command(
        "d3-queries",
        epilog=f"{example} d3-queries d3_json/d3_full_annotations.json --tables d3_pkl -o d3_intra.jsonl",
    )(d3)
    convert.command(
        "omnilabel-queries", epilog=f"{example} omnilabel-queries dataset_all_val_v0.1.3.json -o omnilabel_val.jsonl"
    )(omnilabel)
    convert.command(
        "saco-queries",
        epilog=f"{example} saco-queries gold_attributes_merged_a_release_test.json -o gold_attributes_a.jsonl",
    )(saco)


def _run(output: Path, work: Callable[[], list[QueryConversion]], as_json: bool) -> None:
    check_file(output)
    documents = []
    out = console(as_json)
    for report in work():
        counts = {name: +getattr(report, name) for name in ("kinds", "left_out")}
        facts = {key: value for key, value in vars(report).items() if key not in (*counts, "notes")}
        facts["path"] = str(report.path)
        documents.append(facts | {name: dict(found) for name, found in counts.items()} | {"notes": report.notes})
        if as_json:
            continue
        pairs(out, facts)
        for name, found in counts.items():
            say(out, f"{name.replace('_', ' ')}: {'' if found else 'nothing' if name == 'left_out' else 'none'}")
            for what, count in found.most_common():
                say(out, f"{count:,} {what}", indent=2)
        for note in report.notes:
            say(out, f"note: {note}")
    if as_json:
        print_json({"files": documents})
