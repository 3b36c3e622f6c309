"""The tables of a report, once for the terminal and once as Markdown."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from rich import box
from rich.console import Group, RenderableType
from rich.table import Table as RichTable
from rich.text import Text

from benchmarks.studies.controlled import PROOF, Manifest
from benchmarks.studies.report import BEYOND, ArmReport, StudyReport
from benchmarks.studies.resolve import Differences
from benchmarks.studies.statistics import RULE, Effect, Spread
from benchmarks.text import printable

#: What people read for the name of a metric.
HEADINGS = {"unseen/APu": "APu"} | {f"ladder/AP_{rung}": f"AP {rung}" for rung in ("syn", "basic", "super", "loc")}
BEYOND_HEADINGS = {
    "srp/SRP": "SRP",
    "presence/auroc": "presence AUROC",
    "presence/fpr95": "FPR95",
    "tide/dAP_cls": "dAP class",
    "tide/dAP_loc": "dAP place",
    "tide/dAP_bkg": "dAP ground",
    "tide/dAP_miss": "dAP missed",
    "calibration/oLRP": "oLRP",
    "calibration/la_ece": "LaECE",
}
_FEW = 2
#: Blanks beside every column of a terminal's table.
_BLANKS = 3


@dataclass(frozen=True)
class Sheet:
    """A table.

    Attributes:
        title: above it.
        head: of the columns.
        rows: of cells.
        notes: below it.
        words: how many of the columns, from the left, are words and not numbers.
        spare: columns that give way where a terminal is narrow, in this order.
    """

    title: str
    head: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    notes: tuple[str, ...] = ()
    words: int = 1
    spare: tuple[str, ...] = ()

    def fitting(self, width: int) -> Sheet:
        """The table without spare columns that do not fit; a note says which."""
        kept = list(range(len(self.head)))
        widths = [_BLANKS + max(map(len, column)) for column in zip(self.head, *self.rows, strict=True)]
        for name in self.spare:
            if sum(widths[n] for n in kept) <= width:
                break
            kept = [n for n in kept if self.head[n] != name]
        if not (dropped := [name for n, name in enumerate(self.head) if n not in kept]):
            return self
        return replace(
            self,
            head=tuple(self.head[n] for n in kept),
            rows=tuple(tuple(row[n] for n in kept) for row in self.rows),
            notes=(*self.notes, f"not shown for want of width: {', '.join(dropped)}"),
        )


def sheets(report: StudyReport, *, every: bool) -> list[Sheet]:
    """All tables of a report.

    Args:
        report: of a study.
        every: also those that a terminal is too narrow for: every difference in a row of its own, and the arms.
    """
    found = [_means(report), _differences(report)]
    if any(arm.beyond for arm in report.arms):
        found.append(_beyond(report))
    if any(arm.probes for arm in report.arms):
        found.append(_probes(report))
    if report.resolved.study.published:
        found.append(_published(report))
    if report.manifests:
        found.append(_manifest(report.manifests))
    return [*found, _all_differences(report), _arms(report)] if every else found


def facts_line(report: StudyReport) -> str:
    """What the numbers depend on."""
    facts, study = report.facts, report.resolved.study
    return " · ".join(
        (
            f"{facts['benchmark']}: {facts['images']:,} images, {facts['classes']:,} classes, {facts['boxes']:,} boxes",
            f"protocol {facts['protocol']} ({facts['protocol_sha256'][:8]})",
            f"annotations {facts['annotations_sha256'][:8]}",
            f"base {report.resolved.bases}",
            *(("controlled",) if report.controlled else ()),
            f"seeds {', '.join(map(str, study.seeds))}",
            f"{facts['finished']} of {facts['cells']} cells",
            f"{facts['resamples']:,} resamples of the images",
        )
    )


def markdown(report: StudyReport, figure: str = "") -> str:
    """The report as a Markdown file.

    Args:
        report: of a study.
        figure: file name of a picture to show.
    """
    study = report.resolved.study
    lines = [f"# {study.name}", "", study.question, "", facts_line(report), ""]
    lines += [f"* {_escaped(remark)}" for remark in report.remarks]
    for sheet in sheets(report, every=True):
        lines += [
            "",
            f"## {sheet.title}",
            "",
            _row(sheet.head),
            _row(["---" if n < sheet.words else "---:" for n in range(len(sheet.head))]),
        ]
        lines += [_row([_escaped(cell) for cell in row]) for row in sheet.rows]
        lines += ["", *(f"{_escaped(note)}  " for note in sheet.notes)]
    if figure:
        lines += ["", f"![differences to {study.reference}]({figure})"]
    return "\n".join(lines).rstrip() + "\n"


def terminal(report: StudyReport, width: int) -> RenderableType:
    """The report for a terminal of so many columns."""
    study = report.resolved.study
    parts: list[RenderableType] = [
        Text(printable(f"{study.name}: {study.question}"), style="bold"),
        Text(printable(facts_line(report)), style="dim"),
    ]
    parts += [Text(printable(remark), style="yellow") for remark in report.remarks]
    for sheet in (whole.fitting(width) for whole in sheets(report, every=False)):
        table = RichTable(title=sheet.title, box=box.SIMPLE_HEAD, title_justify="left", title_style="bold")
        for number, heading in enumerate(sheet.head):
            words = number < sheet.words
            table.add_column(heading, justify="left" if words else "right", overflow="fold", no_wrap=number == 0)
        for row in sheet.rows:
            table.add_row(*(Text(printable(cell)) for cell in row))
        parts += [table, *(Text(printable(note), style="dim") for note in sheet.notes)]
    return Group(*parts)


def heading(metric: str) -> str:
    """What people read for a metric."""
    return HEADINGS.get(metric, metric)


def difference_text(differences: Differences) -> str:
    """What an arm's configuration has otherwise than the reference's."""
    return "; ".join(f"{key} {_plain(ours)} instead of {_plain(theirs)}" for key, (ours, theirs) in differences.items())


def _means(report: StudyReport) -> Sheet:
    rows = [(arm.name, *(_spread(arm.spreads.get(metric)) for metric in report.metrics)) for arm in report.arms]
    notes = (
        "percent; mean over the seeds, ± their standard deviation (n - 1), of two seeds ± half their distance, so that "
        "both can be read off",
        "APu: classes without any training image; AP syn … loc: labels merged by synonym, basic level, supercategory, "
        "and not at all told apart (docs/metrics.md)",
    )
    head = ("arm", *map(heading, report.metrics))
    spare = (*(heading(f"ladder/AP_{rung}") for rung in ("syn", "basic", "super", "loc")), "APc", "APf")
    return Sheet("Means over seeds", head, tuple(rows), notes, spare=spare)


def _differences(report: StudyReport) -> Sheet:
    rows = []
    for arm in _others(report):
        if (ap := arm.effects.get("AP")) is None:
            rows.append((arm.name, *["–"] * 6))
            continue
        others = [
            f"{heading(name)} {_signed(one.delta)}"
            for name, one in arm.effects.items()
            if name != "AP" and one.verdict == "resolved"
        ]
        numbers = (_signed(ap.delta), _interval(ap), _points(ap.seeds_sd), _agreeing(ap))
        rows.append((arm.name, *numbers, ap.verdict, ", ".join(others) or "none"))
    head = ("arm", "AP", "95 %", "seed sd", "pairings", "verdict", "other metrics resolved")
    reference = report.resolved.study.reference
    spare = ("other metrics resolved", "seed sd", "pairings")
    return Sheet(f"Differences to {reference}, points", head, tuple(rows), _method(report), spare=spare)


def _all_differences(report: StudyReport) -> Sheet:
    rows = [
        (
            arm.name,
            heading(metric),
            *(_signed(one.delta), _interval(one), _points(one.images_sd), _points(one.seeds_sd)),
            _agreeing(one),
            one.verdict,
        )
        for arm in _others(report)
        for metric, one in arm.effects.items()
    ]
    head = ("arm", "metric", "difference", "95 %", "image sd", "seed sd", "pairings", "verdict")
    notes = ("image sd: of the difference, over resamples of the images",)
    return Sheet(f"All differences to {report.resolved.study.reference}, points", head, tuple(rows), notes, words=2)


def _beyond(report: StudyReport) -> Sheet:
    there = [name for name in BEYOND if any(name in arm.beyond for arm in report.arms)]
    rows = [(arm.name, *(_spread(arm.beyond.get(name)) for name in there)) for arm in report.arms]
    notes = (
        "percent; mean and spread over the seeds as above; differences are not judged",
        "presence AUROC, FPR95: is a class in the image at all? · dAP: what AP50 would gain without this kind of "
        "error · oLRP, LaECE: lower is better (docs/metrics.md)",
    )
    head = ("arm", *(BEYOND_HEADINGS.get(name, name) for name in there))
    return Sheet("Beyond AP", head, tuple(rows), notes, spare=tuple(reversed(head[1:])))


def _probes(report: StudyReport) -> Sheet:
    probes = report.resolved.study.probes
    rows = [
        (arm.name, *(_probe_cell(arm.probes[one.name]) if one.name in arm.probes else "–" for one in probes))
        for arm in report.arms
    ]
    notes = (
        "AP of the same weights asked otherwise, and its difference to AP as usual, points ± spread over the seeds; "
        "differences between arms are not judged",
        *(f"{one.name}: {one.about}" for one in probes),
    )
    return Sheet("Asked otherwise", ("arm", *(one.name for one in probes)), tuple(rows), notes)


def _probe_cell(probe: tuple[Spread, Spread]) -> str:
    ap, apart = probe
    spread = _spread(apart)
    return f"{100 * ap.mean:.1f} ({'' if spread.startswith('-') else '+'}{spread})"


def _published(report: StudyReport) -> Sheet:
    study = report.resolved.study
    assert study.published is not None
    reference = study.arm(study.reference).published
    settings = list(dict.fromkeys(key for arm in study.arms for key in arm.published))
    rows = []
    for report_arm in report.arms:
        published = report_arm.arm.arm.published
        cells = []
        for key in settings:
            base = None if report_arm.name == study.reference else reference.get(key)
            value = published.get(key)
            apart = "" if value is None or base is None else f" ({value - base:+.1f})"
            cells.append("–" if value is None else f"{value:.1f}{apart}")
        effect = report_arm.effects.get("AP")
        ours = "reference" if report_arm.name == study.reference else "–"
        if effect is not None:
            ours = f"{_signed(effect.delta)}, {effect.verdict}"
        rows.append((report_arm.name, *cells, ours))
    notes = (
        f"published columns: measured elsewhere, on other data: {study.published.source}; {study.published.about}; "
        "in brackets the difference to the reference's published number",
    )
    head = ("arm", *(f"{key}, published" for key in settings), f"AP here, {report.facts['benchmark']}")
    return Sheet("Beside the published numbers", head, tuple(rows), notes)


def _manifest(items: Sequence[Manifest]) -> Sheet:
    rows = [
        (str(one.seed), what, str(one.reference[key])[:16], "NO" if key in one.problems else "yes")
        for one in items
        for key, what in PROOF.items()
    ]
    head = ("seed", "what", "value", "the same in all arms")
    return Sheet("Manifest", head, tuple(rows), ("as each training wrote it into its weights",), words=2)


def _arms(report: StudyReport) -> Sheet:
    rows = []
    for arm in report.arms:
        differs = "the reference" if not arm.arm.differences else difference_text(arm.arm.differences)
        rows.append((arm.name, arm.arm.arm.about, differs, _count(arm), _minutes(arm)))
    head = ("arm", "what", "configuration", "parameters", "core-minutes")
    return Sheet("What the arms are", head, tuple(rows), words=3)


def _others(report: StudyReport) -> Iterator[ArmReport]:
    yield from (arm for arm in report.arms if arm.name != report.resolved.study.reference)


def _method(report: StudyReport) -> tuple[str, ...]:
    count = sum(len(arm.effects) for arm in report.arms)
    return (
        "interval: paired bootstrap over the images and pooled variance of the seeds together, Student's t with "
        "Satterthwaite's degrees of freedom (docs/studies.md)",
        "seed sd: of one training, pooled over all arms, or over the two compared where that is more",
        "pairings: of a seed of the arm with a seed of the reference: how many of them the images alone tell apart, on "
        "the side of the mean",
        RULE,
        f"{count} differences are judged; the intervals are not widened for their number",
    )


def _agreeing(effect: Effect) -> str:
    clear = sum((low > 0 and effect.delta > 0) or (high < 0 and effect.delta < 0) for low, high in effect.pairings)
    return f"{clear} of {len(effect.pairings)}"


def _spread(spread: Spread | None) -> str:
    if spread is None:
        return "–"
    mean = f"{100 * spread.mean:.1f}"
    if len(spread.values) == _FEW:
        return f"{mean} ± {50 * (max(spread.values) - min(spread.values)):.1f}"
    return mean if spread.sd is None else f"{mean} ± {100 * spread.sd:.1f}"


def _interval(effect: Effect) -> str:
    return "–" if effect.ci95 is None else " … ".join(_signed(end) for end in effect.ci95)


def _signed(value: float) -> str:
    return f"{100 * value:+.1f}"


def _points(value: float | None) -> str:
    return "–" if value is None else f"{100 * value:.1f}"


def _count(arm: ArmReport) -> str:
    return "–" if arm.parameters is None else f"{arm.parameters:,}"


def _minutes(arm: ArmReport) -> str:
    return "–" if arm.core_minutes is None else f"{arm.core_minutes:.1f}"


def _plain(value: object) -> str:
    """A value as YAML has it, more or less."""
    return "none" if value is None else str(value).lower() if isinstance(value, bool) else str(value)


def _row(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _escaped(cell: str) -> str:
    return printable(cell).replace("|", "\\|").replace("<", "&lt;")
