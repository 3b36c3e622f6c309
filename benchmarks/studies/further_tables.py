"""Tables of a report beside AP and its differences: other statistics, other questions, costs."""

from __future__ import annotations

from collections.abc import Sequence

from ovd_bench.benchmarks.studies.report import BEYOND, SEMANTIC, ArmReport, StudyReport
from ovd_bench.benchmarks.studies.statistics import Spread
from ovd_bench.benchmarks.studies.text_table import Sheet, number_text, spread_text

_HEADINGS = {
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


def beyond_ap(report: StudyReport) -> Sheet | None:
    """Presence, errors, calibration."""
    return _further(report, "Beyond AP", BEYOND, _BEYOND_NOTES)


def names(report: StudyReport) -> Sheet | None:
    """Semantic R-precision, beside what names that say nothing earn."""
    return _further(report, "Names of what was found", SEMANTIC, _SEMANTIC_NOTES)


def _further(report: StudyReport, title: str, names: Sequence[str], notes: tuple[str, ...]) -> Sheet | None:
    there = [name for name in names if any(name in arm.beyond for arm in report.arms)]
    if not there:
        return None
    rows = [(arm.name, *(spread_text(arm.beyond.get(name)) for name in there)) for arm in report.arms]
    head = ("arm", *(_HEADINGS[name] for name in there))
    return Sheet(title, head, tuple(rows), (_SPREADS, *notes), spare=tuple(reversed(head[1:])))


def cost(report: StudyReport) -> Sheet:
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
    return Sheet("Cost", head, tuple(_cost(arm) for arm in report.arms), notes)


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


def probes(report: StudyReport) -> Sheet:
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
    return Sheet("Asked otherwise", ("arm", *(one.name for one in asked)), tuple(rows), notes)


def _probe_cell(probe: tuple[Spread, Spread]) -> str:
    ap, apart = probe
    spread = spread_text(apart)
    return f"{100 * ap.mean:.1f} ({'' if spread.startswith('-') else '+'}{spread})"
