"""Times the scoring engine against its peers: ``python -m ovd_bench.perf.scoring``.

Every run is a fresh process. The time is from the file on disk to the statistics, without imports and compilation; the
files are in the page cache. Contestants alternate, so that other load on the machine affects all of them; the table
gives median and minimum. Peak memory is that of the whole process, mapped files included. With "columns" the ground
truth may come from the annotation cache, as at the second score of a file; with "JSON" all evaluators parse it.
"""

from __future__ import annotations

import sys
from pathlib import Path
from statistics import median
from typing import Annotated

import typer
from platformdirs import user_cache_path
from rich.console import Console

from ovd_bench.perf.child import run_child
from ovd_bench.perf.datasets import synthetic_set
from ovd_bench.perf.machine import describe_machine
from ovd_bench.perf.peers import EVALUATORS, OURS, Evaluator
from ovd_bench.perf.race import Timing, race
from ovd_bench.perf.startup import time_of_first_number
from ovd_bench.perf.tables import MarkdownTable

_TINY = 20  # images of the warm-up


def speed_table(title: str, timings: list[Timing]) -> MarkdownTable:
    """Time and memory of each evaluator, and both as multiples of the suite's from columns and from JSON."""
    ours = {t.evaluator.form: t for t in timings if t.evaluator.library == OURS}
    ratios = (f"{unit} ÷ {form}" for form in ours for unit in ("s", "MB"))
    header = ("evaluator, input", "median s", "least s", "peak MB", *ratios)
    rows = []
    for t in timings:
        least = min(run.seconds for run in t.runs)
        cells = [t.evaluator.name, f"{t.seconds:.3f}", f"{least:.3f}", f"{t.peak_rss / 1e6:.0f}"]
        for own in ours.values():
            cells += [f"{t.seconds / own.seconds:.2f}", f"{t.peak_rss / own.peak_rss:.2f}"]
        rows.append(tuple(cells))
    return MarkdownTable(title, header, rows)


def agreement_table(title: str, timings: list[Timing]) -> MarkdownTable:
    """Largest difference of any statistic from the official evaluator, or from the suite's if that did not run."""
    reference = _reference(timings)
    header = (f"compared with {reference.evaluator.name}", "statistics that differ", "largest difference", "in")
    rows = []
    for t in timings:
        gaps = {name: _gap(t.metrics.get(name), value) for name, value in reference.metrics.items()}
        worst = max(gaps, key=lambda name: gaps[name])
        count = sum(gap > 0 for gap in gaps.values())
        rows.append((t.evaluator.name, f"{count} of {len(gaps)}", f"{gaps[worst]:.2g}", worst if count else "-"))
    return MarkdownTable(title, header, rows)


def growth_table(timings: list[Timing]) -> MarkdownTable:
    """Time and memory of the suite per image at each size: constant if they grow linearly."""
    header = ("input, images", "median s", "µs per image", "peak MB", "MB per 1,000 images more")
    rows = []
    own = [t for t in timings if t.evaluator.library == OURS]
    for form in dict.fromkeys(t.evaluator.form for t in own):
        series = sorted((t for t in own if t.evaluator.form == form), key=lambda t: t.images)
        for before, t in zip([None, *series], series, strict=False):
            slope = "-"
            if before is not None:
                slope = f"{(t.peak_rss - before.peak_rss) / 1e3 / (t.images - before.images):.1f}"
            cells = (f"{t.seconds:.3f}", f"{t.seconds / t.images * 1e6:.1f}", f"{t.peak_rss / 1e6:.0f}", slope)
            rows.append((f"{form}, {t.images:,}", *cells))
    return MarkdownTable(f"Growth of {OURS}, LVIS rules", header, rows)


def bootstrap_table(directories: dict[int, Path], resamples: int, repeats: int) -> MarkdownTable:
    """Time of the bootstrap after scoring, for each size."""
    rows = []
    for images, directory in directories.items():
        runs = [run_child("ovd_bench.perf.resampling", str(directory), str(resamples)) for _ in range(repeats)]
        seconds = [run.seconds for run in runs]
        peak = median(run.peak_rss for run in runs) / 1e6
        rows.append((f"{images:,}", f"{median(seconds):.3f}", f"{min(seconds):.3f}", f"{peak:.0f}"))
    return MarkdownTable(f"Bootstrap, {resamples:,} resamples", ("images", "median s", "least s", "peak MB"), rows)


def _reference(timings: list[Timing]) -> Timing:
    return next((t for t in timings if t.evaluator.oracle), timings[0])


def _gap(a: float | None, b: float | None) -> float:
    """Absolute difference; infinite where only one of the two is defined."""
    if a is None or b is None:
        return 0.0 if a is b else float("inf")
    return abs(a - b)


def _selected(protocol: str, libraries: list[str]) -> list[Evaluator]:
    return [c for c in EVALUATORS if c.protocol == protocol and (not libraries or c.library in {OURS, *libraries})]


def main(
    sizes: Annotated[str, typer.Option(help="Images of the LVIS sets, comma-separated.")] = "1000,5000,20000",
    coco_images: Annotated[int, typer.Option(help="Images of the COCO set; 0 leaves it out.")] = 5000,
    repeats: Annotated[int, typer.Option(min=1, help="Runs per evaluator and set.")] = 5,
    resamples: Annotated[int, typer.Option(help="Resamples of the bootstrap; 0 leaves it out.")] = 1000,
    peers: Annotated[str, typer.Option(help="Only these libraries beside ours, comma-separated.")] = "",
    out: Annotated[Path | None, typer.Option(help="Markdown file to write.")] = None,
    work: Annotated[Path | None, typer.Option(help="Where the sets are kept. Default: the user's cache.")] = None,
) -> None:
    """Time scoring against other evaluators on synthetic sets, and check that its statistics are the official ones."""
    console = Console(width=None if sys.stdout.isatty() else 140)
    kept = work or user_cache_path("ovd-bench") / "perf"
    libraries = [name for name in peers.split(",") if name]
    known = dict.fromkeys(c.library for c in EVALUATORS if c.library != OURS)
    for name in libraries:
        if name not in known:
            raise typer.BadParameter(f"unknown library '{name}', known are {', '.join(known)}", param_hint="--peers")
    lines = describe_machine(libraries or list(known))
    tables: list[MarkdownTable] = []

    def add(table: MarkdownTable) -> None:
        tables.append(table)
        table.show(console)

    console.print(*lines, sep="\n")
    sets = {images: synthetic_set(kept, "lvis", images) for images in sorted(map(int, sizes.split(",")))}
    races = []
    for protocol, directories in (
        ("lvis", sets),
        ("coco", {coco_images: synthetic_set(kept, "coco", coco_images)} if coco_images else {}),
    ):
        tiny = synthetic_set(kept, protocol, _TINY)
        for images, directory in directories.items():
            races.append(race(_selected(protocol, libraries), directory, tiny, images, repeats))
            add(speed_table(f"{protocol.upper()} rules, {images:,} images", races[-1]))
            add(agreement_table(f"Statistics, {protocol.upper()} rules, {images:,} images", races[-1]))
    add(growth_table([t for timings in races for t in timings if t.evaluator.protocol == "lvis"]))
    if resamples:
        add(bootstrap_table(sets, resamples, repeats))
    add(time_of_first_number(synthetic_set(kept, "lvis", _TINY), repeats))
    if out is not None:
        how = str(__doc__).split("\n\n", 1)[1]
        head = ["# Speed of scoring", "", *(f"- {line}" for line in lines), "", how]
        out.write_text("\n".join([*head, *(table.markdown() for table in tables)]))
    wrong = [t for r in races for t in r if t.evaluator.library == OURS and t.metrics != _reference(r).metrics]
    if wrong:
        names = ", ".join(f"{t.evaluator.name} on {t.images} images" for t in wrong)
        console.print(f"not the official statistics: {names}")
        raise typer.Exit(1)


if __name__ == "__main__":
    typer.run(main)
