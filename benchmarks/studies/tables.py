"""The tables of a report, once for the terminal and once as Markdown."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from rich.console import Group, RenderableType
from rich.text import Text

from ovd_bench.benchmarks.data.text import printable
from ovd_bench.benchmarks.studies.controlled import PROOF, SeedManifest
from ovd_bench.benchmarks.studies.report import BEYOND, SEMANTIC, ArmReport, StudyReport
from ovd_bench.benchmarks.studies.resolve import Differences
from ovd_bench.benchmarks.studies.statistics import FAMILY_ERROR, RULE, Effect, Spread
from ovd_bench.benchmarks.studies.text_table import TextTable, escaped, number_text, spread_text

#: What people read for the name of a metric.
HEADINGS = {"unseen/APu": "APu"} | {f"ladder/AP_{rung}": f"AP {rung}" for rung in ("syn", "basic", "super", "loc")}
_BEYOND_HEADINGS = {
    "srp/SRP": "SRP",
    "srp/SRP1": "right name",
    "srp/SRP_loc": "found",
    "srp/near_miss_share": "near miss",
    "srp/random_label": "random names",
    "srp/permuted_label": "permuted names",
    "srp/generic_label": "best single name",
    "presence/auroc": "presence AUROC",
    "presence/fpr95": "FPR95",
    "tide/dAP_cls": "dAP class",
    "tide/dAP_loc": "dAP place",
    "tide/dAP_bkg": "dAP ground",
    "tide/dAP_miss": "dAP missed",
    "calibration/oLRP": "oLRP",
    "calibration/la_ece": "LaECE",
}
_SPREADS = "percent; mean and spread over the seeds as above; differences are not judged"
_BEYOND_NOTES = (
    "presence AUROC, FPR95: is a class in the image at all? · dAP: what AP50 would gain without this kind of error · "
    "oLRP, LaECE: lower is better (docs/metrics.md)",
)
_SEMANTIC_NOTES = (
    "of all objects: found at all; found and rightly named; SRP: a wrong name counts by its nearness in meaning, "
    "chance taken off; near miss: mean nearness of the wrong names (docs/metrics.md)",
    "random, permuted, best single name: SRP of the same boxes with names that say nothing; an arm that is not far "
    "above all three has learned no names",
    "a judge that is the text encoder of the arms as well flatters all of them alike",
)


def tables(report: StudyReport, *, every: bool) -> list[TextTable]:
    """All tables of a report.

    Args:
        report: of a study.
        every: also those that a terminal is too narrow for: every difference in a row of its own, and the arms.
    """
    found = [_means(report), _differences(report)]
    if beyond := _beyond_ap(report):
        found.append(beyond)
    if semantic := _names(report):
        found.append(semantic)
    if any(arm.probes for arm in report.arms):
        found.append(_probes(report))
    if report.resolved.study.published:
        found.append(_published(report))
    if any(arm.speed for arm in report.arms):
        found.append(_costs(report))
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
    lines += [f"* {escaped(remark)}" for remark in report.remarks]
    for table in tables(report, every=True):
        lines += table.as_markdown()
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
    for table in tables(report, every=False):
        parts += table.fitting(width).as_rich()
    return Group(*parts)


def heading(metric: str) -> str:
    """What people read for a metric."""
    return HEADINGS.get(metric, metric)


def difference_text(differences: Differences) -> str:
    """What an arm's configuration has otherwise than the reference's."""
    return "; ".join(f"{key} {_plain(ours)} instead of {_plain(theirs)}" for key, (ours, theirs) in differences.items())


def _means(report: StudyReport) -> TextTable:
    rows = [(arm.name, *(spread_text(arm.spreads.get(metric)) for metric in report.metrics)) for arm in report.arms]
    notes = (
        "percent; mean over the seeds, ± their standard deviation (n - 1), of two seeds ± half their distance, so that "
        "both can be read off",
        "APu: classes without any training image; AP syn … loc: labels merged by synonym, basic level, supercategory, "
        "and not at all told apart (docs/metrics.md)",
    )
    head = ("arm", *map(heading, report.metrics))
    spare = (*(heading(f"ladder/AP_{rung}") for rung in ("syn", "basic", "super", "loc")), "APc", "APf")
    return TextTable("Means over seeds", head, tuple(rows), notes, spare=spare)


def _differences(report: StudyReport) -> TextTable:
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
    return TextTable(f"Differences to {reference}, points", head, tuple(rows), _method(report), spare=spare)


def _all_differences(report: StudyReport) -> TextTable:
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
    return TextTable(f"All differences to {report.resolved.study.reference}, points", head, tuple(rows), notes, words=2)


def _published(report: StudyReport) -> TextTable:
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
    return TextTable("Beside the published numbers", head, tuple(rows), notes)


def _beyond_ap(report: StudyReport) -> TextTable | None:
    """Presence, errors, calibration."""
    return _further(report, "Beyond AP", BEYOND, _BEYOND_NOTES)


def _names(report: StudyReport) -> TextTable | None:
    """Semantic R-precision, beside what names that say nothing earn."""
    return _further(report, "Names of what was found", SEMANTIC, _SEMANTIC_NOTES)


def _further(report: StudyReport, title: str, names: Sequence[str], notes: tuple[str, ...]) -> TextTable | None:
    there = [name for name in names if any(name in arm.beyond for arm in report.arms)]
    if not there:
        return None
    rows = [(arm.name, *(spread_text(arm.beyond.get(name)) for name in there)) for arm in report.arms]
    head = ("arm", *(_BEYOND_HEADINGS[name] for name in there))
    return TextTable(title, head, tuple(rows), (_SPREADS, *notes), spare=tuple(reversed(head[1:])))


def _costs(report: StudyReport) -> TextTable:
    """Sizes and speed."""
    measured = {arm.name: arm.speed for arm in report.arms if arm.speed}
    counted = sorted(f"{name}: {speed.flops.counted}" for name, speed in measured.items() if speed.flops)
    quiet = all(speed.machine.exclusive for speed in measured.values())
    notes = (
        "learned numbers: those in the weights file, a packaged text encoder is not among them",
        "GFLOP, ms (median), peak memory: of one image at a time with the benchmark's vocabulary, first seed; a "
        "multiply-add is two, text is not in it",
        *counted,
        *(() if quiet else ("the machine was not quiet, or it cannot be told: times are upper bounds",)),
    )
    head = ("arm", "learned numbers", "GFLOP", "ms", "images/s", "peak MiB", "core-minutes of training")
    return TextTable("Cost", head, tuple(_cost(arm) for arm in report.arms), notes)


def _cost(arm: ArmReport) -> tuple[str, ...]:
    first = arm.speed.batches[0] if arm.speed else None
    flops = arm.speed.flops if arm.speed else None
    time = first.timing if first else None
    peak = first.peak_memory_bytes if first else None
    return (
        arm.name,
        number_text(arm.learned, 0),
        number_text(flops.value / 1e9 if flops else None, 2),
        number_text(time.p50_ms if time else None),
        number_text(time.images_per_second if time else None),
        number_text(None if peak is None else peak / 2**20, 0),
        number_text(arm.core_minutes),
    )


def _probes(report: StudyReport) -> TextTable:
    """AP of the trained models asked otherwise."""
    asked = report.resolved.study.probes
    rows = [
        (arm.name, *(_probe_cell(arm.probes[one.name]) if one.name in arm.probes else "–" for one in asked))
        for arm in report.arms
    ]
    notes = (
        "AP of the same weights asked otherwise, and its difference to AP as usual, points ± spread over the seeds; "
        "differences between arms are not judged",
        *(f"{one.name}: {one.about}" for one in asked),
    )
    return TextTable("Asked otherwise", ("arm", *(one.name for one in asked)), tuple(rows), notes)


def _probe_cell(probe: tuple[Spread, Spread]) -> str:
    ap, apart = probe
    spread = spread_text(apart)
    return f"{100 * ap.mean:.1f} ({'' if spread.startswith('-') else '+'}{spread})"


def _manifest(items: Sequence[SeedManifest]) -> TextTable:
    rows = [
        (str(one.seed), what, str(one.reference[key])[:16], "NO" if key in one.problems else "yes")
        for one in items
        for key, what in PROOF.items()
    ]
    head = ("seed", "what", "value", "the same in all arms")
    return TextTable("Manifest", head, tuple(rows), ("as each training wrote it into its weights",), words=2)


def _arms(report: StudyReport) -> TextTable:
    rows = []
    for arm in report.arms:
        differs = "the reference" if not arm.arm.differences else difference_text(arm.arm.differences)
        rows.append(
            (arm.name, arm.arm.arm.about, differs, number_text(arm.parameters, 0), number_text(arm.core_minutes))
        )
    head = ("arm", "what", "configuration", "parameters", "core-minutes")
    return TextTable("What the arms are", head, tuple(rows), words=3)


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
