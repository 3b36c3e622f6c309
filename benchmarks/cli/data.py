"""``data``: list, get, verify, convert and show data sets."""

from __future__ import annotations

from dataclasses import asdict
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from ovd_bench.benchmarks.cli import instances, odvg, queries
from ovd_bench.benchmarks.cli.common import DataRoot, Json, Verbose, console, print_json
from ovd_bench.benchmarks.cli.printing import counter, pairs, say
from ovd_bench.benchmarks.data.match import ImageMatch
from ovd_bench.benchmarks.data.output_paths import check_file
from ovd_bench.metrics.errors import DataError

if TYPE_CHECKING:
    from ovd_bench.benchmarks.data.catalog.card import Download
    from ovd_bench.benchmarks.data.catalog.convert import Facts
    from ovd_bench.benchmarks.data.catalog.suites import Suite
    from ovd_bench.benchmarks.data.report import Report

Name = Annotated[str, typer.Argument(help="Name of a data set ('bench data list').", show_default=False)]
Spec = Annotated[
    str,
    typer.Argument(
        help="Name of a data set, or path: COCO-format folder, annotation file, training records (.jsonl).",
        show_default=False,
    ),
]
Images = Annotated[Path | None, typer.Option("--images", help="Folder of the images; default: the usual one.")]
Match = Annotated[
    ImageMatch,
    typer.Option(
        help="How images are found in their folder: path (as annotated), or basename (the file of that base name)."
    ),
]
LabelMap = Annotated[
    Path | None, typer.Option("--label-map", help="Label map of a .jsonl file; default: the one in its folder.")
]
Source = Annotated[Path, typer.Argument(help="The file to read.", show_default=False)]
Output = Annotated[Path, typer.Option("--output", "-o", help="Where to write.", show_default=False)]


class GroundingKind(StrEnum):
    """Content of an MDETR document."""

    phrases = "phrases"
    expressions = "expressions"


def list_datasets(data_root: DataRoot, as_json: Json = False, verbose: Verbose = False) -> None:
    """List the data sets and which of their files are on this machine."""
    from ovd_bench.benchmarks.data.catalog.cards import CARDS
    from ovd_bench.benchmarks.data.catalog.registry import expected_counts, locate, located_members
    from ovd_bench.benchmarks.data.catalog.suites import SUITES

    rows: list[dict[str, Any]] = []
    for card in CARDS.values():
        found, counts = locate(card, data_root), expected_counts(card)
        ready = found.annotations is not None and found.images is not None
        rows.append(
            {
                "name": card.name,
                "title": card.title,
                "protocol": card.protocol,
                "images": counts.images,
                "classes": counts.classes,
                "boxes": counts.boxes,
                "ready": ready,
                "made_here": bool(card.world),
                "licence": card.licence,
            }
        )
    suites = [
        {
            "name": suite.name,
            "title": suite.title,
            "sets": list(suite.names),
            "sets_here": located_members(suite, data_root),
            "licence": suite.licence,
        }
        for suite in SUITES.values()
    ]
    if as_json:
        print_json({"data_root": str(data_root), "datasets": rows, "suites": suites})
        return
    table = Table(box=box.SIMPLE_HEAD)
    table.add_column("data set")
    table.add_column("here", no_wrap=True)
    for header in ("images", "classes"):
        table.add_column(header, justify="right")
    for row in rows:
        here = "yes" if row["ready"] else "at first use" if row["made_here"] else "no"
        numbers = [f"{row[key]:,}" if row[key] is not None else "" for key in ("images", "classes")]
        table.add_row(_named(row), here, *numbers)
    table.add_section()
    for suite in suites:
        there = f"{len(suite['sets_here'])} of {len(suite['sets'])}"
        table.add_row(_named(suite), there)
    out = console(as_json)
    out.print(table)
    say(out, f"'bench data get NAME' explains how to get a data set into {data_root}.")


def _named(row: dict[str, Any]) -> Text:
    """Name and title on two lines, so that narrow terminals have room for both."""
    return Text.assemble((str(row["name"]), "bold"), f"\n  {row['title']}")


def get(name: Name, data_root: DataRoot, as_json: Json = False, verbose: Verbose = False) -> None:
    """Print what to download and where to put it; make the data sets that can be made here.

    Nothing is downloaded or unpacked, because a person must read and accept the licences. 'shapes' is rendered,
    'lvis-minival' is made from LVIS v1 val, the class names of Objects365 are corrected.
    """
    from ovd_bench.benchmarks.data.catalog.convert import correct_objects365_names, derive_minival, facts_of
    from ovd_bench.benchmarks.data.catalog.registry import find_dataset, locate, render
    from ovd_bench.benchmarks.data.catalog.suites import SUITES
    from ovd_bench.benchmarks.data.files.annotations import read_ground_truth

    if name in SUITES:
        _get_suite(SUITES[name], data_root, as_json)
        return

    card, out = find_dataset(name), console(as_json)
    made: Facts | None = None
    if card.world:
        with counter("images rendered") as advance:
            render(card, data_root, advance)
    found = locate(card, data_root)
    target = data_root / card.annotations[0]
    if card.derived_from:
        origin = locate(find_dataset(card.derived_from), data_root).annotations
        if found.annotations is None and origin is not None:
            target.parent.mkdir(parents=True, exist_ok=True)
            with out.status(f"cutting {target.name} out of {origin}"):
                derive_minival(origin, target)
            found = locate(card, data_root)
    official = data_root / card.misspelt
    if card.misspelt and found.annotations is None and official.is_file():
        with out.status(f"correcting the names in {official}"):
            correct_objects365_names(official, target)
        found = locate(card, data_root)
    if found.annotations is not None and card.task != "grounding":
        made = facts_of(found.annotations, read_ground_truth(found.annotations))
    ready = found.annotations is not None and found.images is not None
    steps = _steps(card.downloads, data_root, ready)
    conversion = f"bench data convert {card.conversion.format(root=data_root)}" if card.conversion else ""
    if as_json:
        print_json(
            {
                "name": card.name,
                "ready": ready,
                "annotations": str(found.annotations or data_root / card.annotations[0]),
                "images": str(found.images or data_root / card.images[0]),
                "licence": card.licence,
                "downloads": steps,
                "conversion": conversion,
                "facts": _facts(made) if made else None,
                "notes": card.notes,
            }
        )
        return
    say(out, f"{card.name}: {card.title}")
    say(out, f"licence: {card.licence}")
    _say_steps(out, steps)
    if made:
        pairs(out, _facts(made))
    for note in card.notes:
        say(out, f"note: {note}")
    if ready:
        say(out, f"ready: 'bench data verify {card.name}' checks it, 'bench run -b {card.name}' uses it")
    elif conversion and found.annotations is None:
        say(out, f"then make {data_root / card.annotations[0]} of them: '{conversion}'")
    elif card.derived_from and found.annotations is None:
        say(out, f"then run 'bench data get {card.name}' again: it cuts {card.annotations[0]} out of the file")
    elif card.misspelt and found.annotations is None:
        say(out, f"then run 'bench data get {card.name}' again: it writes {card.annotations[0]} with correct names")
    else:
        say(out, f"not complete: run 'bench data get {card.name}' again when the files are in place")


def verify(
    spec: Spec,
    *,
    data_root: DataRoot,
    images: Images = None,
    match: Match = "path",
    decode: Annotated[
        bool, typer.Option("--decode", help="Decode every image instead of only checking that it exists.")
    ] = (False),
    label_map: LabelMap = None,
    as_json: Json = False,
    verbose: Verbose = False,
) -> None:
    """Check counts, checksums, boxes and images of a data set, or of all sets of a suite; exit code 1 if one is wrong.

    The images of a file of training records (.jsonl) are checked only with --images.
    """
    from ovd_bench.benchmarks.data.catalog.suites import find_suite
    from ovd_bench.benchmarks.data.files.queries import holds_queries
    from ovd_bench.benchmarks.data.odvg.verify import verify_odvg

    if spec.endswith(".jsonl") and not holds_queries(Path(spec)):
        name, file = Path(spec).stem, Path(spec)
        with counter("records and images read") as advance:
            report = verify_odvg(file, label_map=label_map, images=images, decode=decode, progress=advance)
    elif suite := find_suite(spec):
        _verify_suite(suite, data_root, images, match, decode, as_json)
        return
    else:
        name, report = _verified(spec, data_root, images, match, decode)
    if as_json:
        print_json({"name": name, "ok": not report.wrong, **asdict(report)})
    else:
        _say_report(console(as_json), report)
    if report.wrong:
        raise typer.Exit(1)


def _verified(spec: str, data_root: Path, images: Path | None, match: ImageMatch, decode: bool) -> tuple[str, Report]:
    """Name of a data set and what its check found."""
    from ovd_bench.benchmarks.data.catalog.card import Counts
    from ovd_bench.benchmarks.data.catalog.registry import expected_counts, open_benchmark
    from ovd_bench.benchmarks.data.catalog.suites import KNOWN
    from ovd_bench.benchmarks.data.catalog.verify import verify as check

    benchmark, card = open_benchmark(spec, data_root, images=images, match=match), KNOWN.get(spec)
    counts = expected_counts(card) if card else Counts()
    with counter("images read") as advance:
        return benchmark.name, check(benchmark, card, counts, decode=decode, progress=advance)


def _verify_suite(
    suite: Suite, data_root: Path, images: Path | None, match: ImageMatch, decode: bool, as_json: bool
) -> None:
    """Check every set; one that cannot be opened is wrong."""
    from ovd_bench.benchmarks.data.report import Report

    if images is not None:
        raise DataError(f"--images is of one data set, {suite.name} has {len(suite.members)}")
    out, documents, good = console(as_json), {}, True
    for member in suite.members:
        try:
            _, report = _verified(member.spec, data_root, None, match, decode)
        except DataError as error:
            report = Report(wrong=[str(error)])
        good = good and not report.wrong
        documents[member.name] = {"ok": not report.wrong, **asdict(report)}
        if not as_json:
            say(out, member.name, "bold")
            _say_report(out, report)
    if as_json:
        print_json({"name": suite.name, "ok": good, "sets": documents})
    if not good:
        raise typer.Exit(1)


def _say_report(out: Console, report: Report) -> None:
    pairs(out, dict(report.facts))
    for remark in report.remarks:
        say(out, f"note: {remark}")
    for wrong in report.wrong:
        say(out, f"wrong: {wrong}", "bold red")
    if not report.wrong:
        say(out, "usable, with the notes above" if report.remarks else "no problems found")


def show(
    spec: Spec,
    output: Annotated[Path, typer.Option("--output", "-o", help="The picture (.png, .jpg, .webp).")] = Path(
        "sheet.png"
    ),
    count: Annotated[int, typer.Option("-n", min=1, max=400, help="Number of images.")] = 24,
    class_name: Annotated[
        str, typer.Option("--class", metavar="NAME", help="Only images and boxes of this class.")
    ] = "",
    seed: Annotated[int, typer.Option(min=0, help="Seed of the random choice of images.")] = 0,
    *,
    data_root: DataRoot,
    images: Images = None,
    match: Match = "path",
    label_map: LabelMap = None,
    as_json: Json = False,
    verbose: Verbose = False,
) -> None:
    """Draw images of a data set with their boxes and class names into one picture.

    For training records (.jsonl), --images names the folder of the images; boxes of captions show their phrases.
    """
    from ovd_bench.benchmarks.data.catalog.registry import open_benchmark
    from ovd_bench.benchmarks.pictures.contact_sheet import FORMATS, write_contact_sheet
    from ovd_bench.benchmarks.pictures.odvg_sheet import write_odvg_contact_sheet

    check_file(output, FORMATS)
    kind = "records" if spec.endswith(".jsonl") else "images"
    if kind == "records":
        folder = images or data_root
        shown, passed_over = write_odvg_contact_sheet(
            Path(spec), folder, output, count, label_map=label_map, class_name=class_name, seed=seed
        )
    else:
        with counter("images rendered") as advance:
            benchmark = open_benchmark(spec, data_root, images=images, match=match, progress=advance)
        shown, passed_over = write_contact_sheet(benchmark, output, count, class_name=class_name, seed=seed)
    out = console(as_json)
    for line in passed_over:
        say(out, f"skipped: {line}")
    if as_json:
        key = "records" if kind == "records" else "image_ids"
        print_json({"picture": str(output), key: shown, "passed_over": passed_over})
    else:
        say(out, f"{len(shown)} {kind} in {output}")


def minival(source: Source, output: Output, as_json: Json = False, verbose: Verbose = False) -> None:
    """Make LVIS minival from lvis_v1_val.json: only the images of COCO val2017, otherwise unchanged."""
    from ovd_bench.benchmarks.data.catalog.convert import derive_minival

    check_file(output)
    _print_facts(derive_minival(source, output), as_json)


def file_names(source: Source, output: Output, as_json: Json = False, verbose: Verbose = False) -> None:
    """Add a file_name such as val2017/000000397133.jpg to every image of an LVIS v1 file, from its coco_url."""
    from ovd_bench.benchmarks.data.catalog.convert import insert_file_names

    check_file(output)
    _print_facts(insert_file_names(source, output), as_json)


def subset(
    source: Source,
    ids: Annotated[Path, typer.Option("--ids", help="Text file with one image id per line.", show_default=False)],
    output: Output,
    as_json: Json = False,
    verbose: Verbose = False,
) -> None:
    """Keep only some images of a COCO or LVIS annotation file, with their annotations."""
    from ovd_bench.benchmarks.data.catalog.convert import cut_images, read_ids

    check_file(output)
    _print_facts(cut_images(source, output, read_ids(ids)), as_json)


def objects365_names(source: Source, output: Output, as_json: Json = False, verbose: Verbose = False) -> None:
    """Correct the misspelt class names of an annotation file of Objects365; everything else is unchanged."""
    from ovd_bench.benchmarks.data.catalog.convert import correct_objects365_names

    check_file(output)
    _print_facts(correct_objects365_names(source, output), as_json)


def mdetr(
    source: Source,
    output: Output,
    kind: Annotated[
        GroundingKind, typer.Option(help="Phrases of captions (Flickr30k), or referring expressions (RefCOCO).")
    ] = GroundingKind.phrases,
    as_json: Json = False,
    verbose: Verbose = False,
) -> None:
    """Convert an MDETR document to the suite's grounding JSON Lines."""
    from ovd_bench.benchmarks.data.catalog.convert import grounding_lines

    check_file(output)
    count = grounding_lines(source, output, kind.value)
    if as_json:
        print_json({"path": str(output), "phrases": count})
    else:
        say(console(as_json), f"{count:,} phrases in {output}")


def register(app: typer.Typer) -> None:
    """Add the verbs."""
    data = typer.Typer(help="Data sets: list, get, verify, convert, show.", no_args_is_help=True)
    data.command("list", epilog="Example:\n\n  bench data list --data-root /data")(list_datasets)
    data.command(
        epilog="Examples:\n\n  bench data get lvis-minival\n\n  bench data get odinw13\n\n  bench data get shapes"
    )(get)
    data.command(
        epilog="Examples:\n\n  bench data verify lvis-minival --decode\n\n"
        "  bench data verify my_data/annotations/instances_val.json --images my_data/val\n\n"
        "  bench data verify coco_train.jsonl --images data/coco/train2017"
    )(verify)
    data.command(
        epilog="Examples:\n\n  bench data show shapes -n 12 -o sheet.png\n\n"
        "  bench data show lvis-minival --class zebra"
    )(show)
    convert = typer.Typer(help="Convert annotation files.", no_args_is_help=True)
    convert.command("lvis-minival")(minival)
    convert.command("file-names")(file_names)
    convert.command("subset")(subset)
    convert.command("mdetr")(mdetr)
    convert.command("objects365-names")(objects365_names)
    instances.register(convert)
    odvg.register(convert)
    queries.register(convert)
    data.add_typer(convert, name="convert")
    app.add_typer(data, name="data")


def _get_suite(suite: Suite, data_root: Path, as_json: bool) -> None:
    """What to download for a suite, and one line per data set that is not here."""
    from ovd_bench.benchmarks.data.catalog.registry import located_members
    from ovd_bench.benchmarks.data.catalog.suites import KNOWN

    here, out = located_members(suite, data_root), console(as_json)
    ready = len(here) == len(suite.members)
    steps = _steps(suite.downloads, data_root, ready)
    if not ready:  # the folder may be there with some of the sets
        steps = [step | {"state": "missing"} for step in steps]
    into = f"{suite.downloads[0].into}/"  # a set may be looked for in the folders of several suites
    missing = {}
    for name in suite.names:
        if name not in here:
            places = KNOWN[name].annotations
            missing[name] = str(data_root / next((place for place in places if place.startswith(into)), places[0]))
    if as_json:
        document = {"name": suite.name, "ready": ready, "licence": suite.licence, "downloads": steps}
        print_json(document | {"sets_here": here, "missing": missing, "notes": suite.notes})
        return
    say(out, f"{suite.name}: {suite.title}")
    say(out, f"licence: {suite.licence}")
    _say_steps(out, steps)
    say(out, f"{len(here)} of {len(suite.members)} sets are here")
    for name, place in missing.items():
        say(out, f"{name}: missing, looked for {place}", indent=2)
    for note in suite.notes:
        say(out, f"note: {note}")
    if ready:
        say(out, f"ready: 'bench run -b {suite.name}' uses it")
    else:
        say(out, f"not complete: run 'bench data get {suite.name}' again when the files are in place")


def _say_steps(out: Console, steps: list[dict[str, Any]]) -> None:
    for step in steps:
        say(out)
        say(out, f"{step['state']}: {', '.join(step['gives'])}")
        if step["state"] in ("missing", "optional"):
            archive = step["url"].endswith((".zip", ".gz"))
            say(out, f"from {step['url']} ({step['size']})", indent=2)
            if step["md5"]:
                say(out, f"md5 {step['md5']}", indent=2)
            say(out, f"{'unpack in' if archive else 'put into'} {step['into']}", indent=2)
    say(out)


def _steps(downloads: tuple[Download, ...], data_root: Path, ready: bool) -> list[dict[str, Any]]:
    """Downloads and their state: here, missing, optional, or not needed because their files were found elsewhere."""
    steps = []
    for download in downloads:
        here = all((data_root / place).exists() for place in download.gives)
        steps.append(
            {
                "state": "here" if here else "optional" if download.optional else "not needed" if ready else "missing",
                "gives": [str(data_root / place) for place in download.gives],
                "url": download.url,
                "size": download.size,
                "md5": download.md5,
                "into": str(data_root / download.into),
            }
        )
    return steps


def _facts(facts: Facts) -> dict[str, Any]:
    return {key: value for key, value in asdict(facts).items() if value is not None} | {"path": str(facts.path)}


def _print_facts(facts: Facts, as_json: bool) -> None:
    if as_json:
        print_json(_facts(facts))
    else:
        pairs(console(as_json), _facts(facts))
