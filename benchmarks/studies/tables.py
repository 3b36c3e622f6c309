"""The tables of a report, once for the terminal and once as Markdown."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from rich import box
from rich.console import Group, RenderableType
from rich.table import Table as RichTable
from rich.text import Text

from ovd_bench.benchmarks.data.text import printable
from ovd_bench.benchmarks.studies.controlled import PROOF, Manifest
from ovd_bench.benchmarks.studies.further_tables import beyond_ap, cost, names, probes
from ovd_bench.benchmarks.studies.report import ArmReport, StudyReport
from ovd_bench.benchmarks.studies.resolve import Differences
from ovd_bench.benchmarks.studies.statistics import FAMILY_ERROR, RULE, Effect
from ovd_bench.benchmarks.studies.text_table import Sheet, number_text, spread_text

#: What people read for the name of a metric.
HEADINGS = {"unseen/APu": "APu"} | {f"ladder/AP_{rung}": f"AP {rung}" for rung in ("syn", "basic", "super", "loc")}


def sheets(report: StudyReport, *, every: bool) -> list[Sheet]:
    """All tables of a report.

    Args:
        report: of a study.
        every: also those that a terminal is too narrow for: every difference in a row of its own, and the arms.
    """
    found = [_means(report), _differences(report)]
    if beyond := beyond_ap(report):
        found.append(beyond)
    if semantic := names(report):
        found.append(semantic)
    if any(arm.probes for arm in report.arms):
        found.append(probes(report))
    if report.resolved.study.published:
        found.append(_published(report))
    if any(arm.speed for arm in report.arms):
        found.append(cost(report))
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


def markdown(report: StudyReport, pictures: Mapping[str, str] | None = None) -> str:
    """The report as a Markdown file.

    Args:
        report: of a study.
        pictures: file names of those to show, and what is on them.
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
    for name, about in (pictures or {}).items():
        lines += ["", f"![{about}]({name})"]
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
    rows = [(arm.name, *(spread_text(arm.spreads.get(metric)) for metric in report.metrics)) for arm in report.arms]
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
            rows.append((arm.name, *["–"] * 7))
            continue
        others = [
            f"{heading(name)} {_signed(one.delta)}{'*' if one.verdict_holm == 'resolved' else ''}"
            for name, one in arm.effects.items()
            if name != "AP" and one.verdict == "resolved"
        ]
        numbers = (_signed(ap.delta), _interval(ap), _points(ap.seeds_sd), _agreeing(ap))
        rows.append((arm.name, *numbers, ap.verdict, ap.verdict_holm, ", ".join(others) or "none"))
    head = ("arm", "AP", "95 %", "seed sd", "pairings", "verdict", "after Holm", "other metrics resolved")
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
            _probability(one.p_holm),
            one.verdict_holm,
        )
        for arm in _others(report)
        for metric, one in arm.effects.items()
    ]
    numbers = ("difference", "95 %", "image sd", "seed sd")
    head = ("arm", "metric", *numbers, "pairings", "verdict", "p (Holm)", "after Holm")
    notes = ("image sd: of the difference, over sets of images of this size",)
    return Sheet(f"All differences to {report.resolved.study.reference}, points", head, tuple(rows), notes, words=2)


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
        rows.append(
            (arm.name, arm.arm.arm.about, differs, number_text(arm.parameters, 0), number_text(arm.core_minutes))
        )
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
        f"after Holm: {count} differences are judged; still resolved when the chance of one false claim among all of "
        f"them is held at {FAMILY_ERROR:.0%} (Holm 1979); a * behind other metrics says the same; intervals are raw",
    )


def _agreeing(effect: Effect) -> str:
    known = [one for one in effect.pairings if one is not None]
    clear = sum((low > 0 and effect.delta > 0) or (high < 0 and effect.delta < 0) for low, high in known)
    return f"{clear} of {len(effect.pairings)}"


def _interval(effect: Effect) -> str:
    return "–" if effect.ci95 is None else " … ".join(_signed(end) for end in effect.ci95)


def _signed(value: float) -> str:
    return f"{100 * value:+.1f}"


def _probability(value: float | None) -> str:
    return "–" if value is None else f"{value:.3f}" if value >= 0.001 else "< 0.001"


def _points(value: float | None) -> str:
    return "–" if value is None else f"{100 * value:.1f}"


def _plain(value: object) -> str:
    """A value as YAML has it, more or less."""
    return "none" if value is None else str(value).lower() if isinstance(value, bool) else str(value)


def _row(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _escaped(cell: str) -> str:
    return printable(cell).replace("|", "\\|").replace("<", "&lt;")
