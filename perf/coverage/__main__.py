"""Measures the coverage of the suite's intervals where the truth is known: ``python -m ovd_bench.perf.coverage``."""

from __future__ import annotations

import sys
from functools import partial
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.progress import Progress

from ovd_bench.perf.coverage.candidates import CANDIDATES
from ovd_bench.perf.coverage.population import Ability, Group, Population
from ovd_bench.perf.coverage.simulate import Coverage, simulate
from ovd_bench.perf.tables import MarkdownTable

#: A; B, which is nearly as good; C, which is far better.
_DETECTORS = (Ability(0.3, 0.3, 2.0, 0.15), Ability(0.4, 0.35, 2.0, 0.15), Ability(1.8, 1.2, 3.0, 0.08))
#: Under COCO rules every pair of image and class counts, so there are fewer false alarms per pair.
_QUIETER = tuple(Ability(one.find, one.place, one.separate, 0.3 * one.alarms) for one in _DETECTORS)

POPULATIONS = {
    "LVIS rules, 300 images, 40 classes; rare ones in 1 to 2.5 images": (
        Population(300, (Group("r", 20, 1, 2.5), Group("c", 15, 3, 12), Group("f", 5, 15, 60)), _DETECTORS, True),
        ("AP", "APr", "APs"),
    ),
    "COCO rules, 200 images, 20 classes in 4 to 80 images": (
        Population(200, (Group("r", 8, 4, 10), Group("c", 8, 10, 30), Group("f", 4, 30, 80)), _QUIETER, False),
        ("AP", "AP50", "APs"),
    ),
    "LVIS rules, 300 images, 50 classes; rare ones in 3 to 8 images": (
        Population(300, (Group("r", 20, 3, 8), Group("c", 20, 8, 25), Group("f", 10, 25, 100)), _DETECTORS, True),
        ("AP", "APr", "APs"),
    ),
}

#: Size of the data set that represents the whole population, as a multiple of a data set.
_WHOLE = 100


def coverage_table(title: str, found: dict[tuple[str, str], Coverage]) -> MarkdownTable:
    """Percent of each candidate's intervals that contain the mean over data sets; further columns for the suite's."""
    header = (
        *("number", "mean", "sd", "sd found ÷ true", *CANDIDATES),
        *("suite: too high", "suite, of the population", "percentile excludes the number"),
    )
    rows = []
    for (name, which), one in found.items():
        cells = [f"{100 * one.truth:+.2f}" if "-" in which else f"{100 * one.truth:.2f}", f"{100 * one.sd:.2f}"]
        cells += [f"{one.sd_ratio:.2f}", *(f"{100 * one.share[candidate]:.1f}" for candidate in CANDIDATES)]
        cells += [f"{100 * value:.1f}" for value in (one.above["suite"], one.share_limit["suite"])]
        cells.append(f"{100 * one.outside['percentile']:.1f}")
        rows.append((f"{name} {which}", *cells))
    return MarkdownTable(title, header, rows)


def main(
    sets: Annotated[int, typer.Option(min=20, help="Data sets drawn from each population.")] = 1500,
    resamples: Annotated[int, typer.Option(min=50, help="Bootstrap resamples of each.")] = 300,
    seed: Annotated[int, typer.Option(help="Of everything.")] = 7,
    first: Annotated[int, typer.Option(min=0, help="Number of the first data set.")] = 1000,
    out: Annotated[Path | None, typer.Option(help="Markdown file to write.")] = None,
) -> None:
    """Draw data sets from populations with known truth and count how often each kind of interval contains it."""
    console = Console(width=None if sys.stdout.isatty() else 200)
    tables: list[MarkdownTable] = []
    for title, (population, names) in POPULATIONS.items():
        with Progress(console=console, transient=True) as progress:
            task = progress.add_task(title, total=sets)
            found = simulate(
                population,
                names,
                sets=sets,
                resamples=resamples,
                seed=seed,
                first=first,
                enlarge=_WHOLE,
                advance=partial(progress.advance, task),
            )
        tables.append(coverage_table(title, found))
        tables[-1].show(console)
        if out is not None:
            out.write_text("\n".join(table.markdown() for table in tables))


if __name__ == "__main__":
    typer.run(main)
