"""``board``, ``report``: tables and pages of the runs in the results folder."""

from __future__ import annotations

import sys
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from ovd_bench.benchmarks.cli.common import Json, Out, Seed, Verbose, console, print_json
from ovd_bench.benchmarks.cli.streams import print_document
from ovd_bench.benchmarks.data.output_paths import check_file, check_folder
from ovd_bench.benchmarks.data.text import printable

Bootstrap = Annotated[int, typer.Option(min=2, max=100_000, help="Paired bootstrap resamples of the images.")]


class Format(StrEnum):
    """Format of the output of ``board``."""

    terminal = "terminal"
    md = "md"
    json = "json"
    csv = "csv"
    html = "html"
    latex = "latex"


def board(
    out: Out = Path("results"),
    benchmark: Annotated[
        list[str] | None,
        typer.Option("--benchmark", "-b", help="Only these benchmarks or suites; comma-separated or repeated."),
    ] = None,
    shape: Annotated[Format, typer.Option("--format", help="Format of the output.")] = Format.terminal,
    write: Annotated[
        bool, typer.Option("--write", help="Write board.json, board.md and board.html into --out.")
    ] = False,
    published: Annotated[bool, typer.Option("--published", help="Show published numbers in the terminal too.")] = False,
    bootstrap: Bootstrap = 1000,
    seed: Seed = 0,
    as_json: Json = False,
    verbose: Verbose = False,
) -> None:
    """Rank all complete runs; rows share a table only if annotations and protocol agree to the byte."""
    from ovd_bench.benchmarks.board.collect import collect
    from ovd_bench.benchmarks.board.text_formats import board_csv, board_document, board_markdown
    from ovd_bench.metrics.errors import DataError

    names = [name.strip() for entry in benchmark or [] for name in entry.split(",") if name.strip()]
    if write and names:
        raise DataError("--write writes the whole board: leave out -b")
    if write and out.is_dir():
        check_folder(out)
    made = collect(out, names, resamples=bootstrap, seed=seed)
    chosen = Format.json if as_json else shape
    terminal = console(chosen is not Format.terminal)
    if chosen is Format.json:
        print_json(board_document(made))
    elif chosen is Format.terminal:
        from ovd_bench.benchmarks.board.terminal import board_tables

        terminal.print(board_tables(made, published=published, width=terminal.width))
    elif chosen is Format.html:
        from ovd_bench.benchmarks.board.files import board_html

        print_document(board_html(made))
    elif chosen is Format.latex:
        from ovd_bench.benchmarks.board.latex import board_latex

        print_document(board_latex(made))
    else:
        print_document({Format.md: board_markdown, Format.csv: board_csv}[chosen](made))
    if chosen in (Format.csv, Format.json):
        for problem in made.problems:
            terminal.print(f"left out: {problem}", style="yellow", highlight=False, markup=False)
    if write:
        from ovd_bench.benchmarks.board.files import write_board

        for path in write_board(out, made):
            terminal.print(f"wrote {path}", style="dim", highlight=False, markup=False)


def report(
    runs: Annotated[
        list[str],
        typer.Argument(
            metavar="RUN",
            help="Folder, detector or detector@weights8; comma-separated or several.",
            show_default=False,
        ),
    ],
    output: Annotated[Path, typer.Option("--output", "-o", help="The page.")] = Path("report.html"),
    out: Out = Path("results"),
    benchmark: Annotated[
        str | None,
        typer.Option("--benchmark", "-b", help="Benchmark of the runs; needed if a detector has runs on several."),
    ] = None,
    images: Annotated[int, typer.Option("--count", "-n", min=0, max=200, help="Images in the gallery.")] = 8,
    title: Annotated[str, typer.Option(help="Heading of the page.")] = "Detectors compared",
    bootstrap: Bootstrap = 1000,
    seed: Seed = 0,
    as_json: Json = False,
    verbose: Verbose = False,
) -> None:
    """Compare the given runs on one page: the board's tables and charts, every statistic, and pictures."""
    from ovd_bench.benchmarks.store.run_names import find_result, split_specs

    check_file(output)
    files = [find_result(spec, out, benchmark) for spec in split_specs(runs)]  # before numpy and others are imported
    from ovd_bench.benchmarks.board.collect import of_runs
    from ovd_bench.benchmarks.board.files import write_text
    from ovd_bench.benchmarks.board.galleries import make_galleries
    from ovd_bench.benchmarks.board.page import render
    from ovd_bench.benchmarks.store.schema import read_result

    made = of_runs([(file.parent, read_result(file)) for file in files], resamples=bootstrap, seed=seed)
    galleries = make_galleries(made, images) if images else {}
    for table in made.tables:
        gallery = galleries.get(table.slug)
        if gallery is not None and not gallery.pictures:
            why = "; ".join(gallery.notes)
            print("warning:", printable(f"the page has no pictures of {table.benchmark.name}: {why}"), file=sys.stderr)
    write_text(output, render(made, title=title, galleries=galleries, detailed=True))
    if as_json:
        print_json({"file": str(output), "tables": len(made.tables), "runs": len(files)})
    else:
        console(False).print(f"wrote {output}", highlight=False, markup=False)


def register(app: typer.Typer) -> None:
    """Add the verbs to the command line."""
    app.command(
        epilog="Examples:\n\n"
        "  bench board\n\n"
        "  bench board -b shapes --format md\n\n"
        "  bench board --write\n\n"
        "★ marks the best row and rows that do not differ significantly from it in a paired bootstrap over the images; "
        "without the predictions on this machine, rows whose interval overlaps with that of the best one. "
        "Partial runs (--limit) are never shown."
    )(board)
    app.command(
        epilog="Examples:\n\n"
        "  bench report owl-nano,grounding-dino-nano --out runs/bench -o report.html\n\n"
        "  bench report results/shapes/*/* -n 16\n\n"
        "The page is one file and needs no server. Pictures need the predictions and the images on this machine."
    )(report)
