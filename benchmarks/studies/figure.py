"""Pictures of a study: AP and differences with their intervals; answers to other questions, errors, costs."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from ovd_bench.benchmarks.data.files.atomic import atomic_write
from ovd_bench.benchmarks.studies.report import ArmReport, StudyReport
from ovd_bench.benchmarks.studies.tables import heading

_RESOLVED, _OPEN, _REFERENCE = "#2563eb", "#9ca3af", "#111827"
#: Metrics whose differences are drawn, each in its own panel.
_DRAWN = ("AP", "unseen/APu")
#: Kinds of errors, in colours that are distinguishable with colour blindness (Okabe and Ito).
_ERRORS = {
    "tide/dAP_cls": ("class", "#0072B2"),
    "tide/dAP_loc": ("place", "#E69F00"),
    "tide/dAP_bkg": ("ground", "#999999"),
    "tide/dAP_miss": ("missed", "#CC79A7"),
}
_MARKS = ("o", "s", "^", "D", "v", "P", "X", "*")


def write_figure(path: Path, report: StudyReport) -> None:
    """Write the picture as PNG; the same report gives the same bytes."""
    drawn = [metric for metric in _DRAWN if metric in report.metrics]
    figure = Figure(figsize=(4.2 * (1 + len(drawn)), 1.4 + 0.32 * len(report.arms)), layout="constrained")
    FigureCanvasAgg(figure)
    panels = figure.subplots(1, 1 + len(drawn), sharey=True, squeeze=False)[0]
    _values(panels[0], report)
    for panel, metric in zip(panels[1:], drawn, strict=True):
        _differences(panel, report, metric)
    places = np.arange(len(report.arms))
    panels[0].set_yticks(places, [arm.name for arm in report.arms], fontsize=8)
    panels[0].invert_yaxis()
    with atomic_write(path) as file:
        figure.savefig(file, format="png", dpi=120, metadata={"Software": None})


def write_further_figure(path: Path, report: StudyReport) -> bool:
    """Write a second picture as PNG, with results besides AP, if there are any.

    Returns:
        Whether it was written.
    """
    arms = report.arms
    drawn = [
        draw
        for draw, there in (
            (_probes, any(arm.probes for arm in arms)),
            (_errors, any(name in arm.beyond for arm in arms for name in _ERRORS)),
            (_costs, any(arm.speed and arm.speed.flops for arm in arms)),
        )
        if there
    ]
    if not drawn:
        return False
    figure = Figure(figsize=(4.6 * len(drawn), 3.6), layout="constrained")
    FigureCanvasAgg(figure)
    for draw, panel in zip(drawn, figure.subplots(1, len(drawn), squeeze=False)[0], strict=True):
        draw(panel, report)
        panel.tick_params(labelsize=8)
    with atomic_write(path) as file:
        figure.savefig(file, format="png", dpi=120, metadata={"Software": None})
    return True


def _probes(panel: Axes, report: StudyReport) -> None:
    """A line per arm with the AP of each probe; whiskers are one standard deviation over the seeds."""
    asked = [probe.name for probe in report.resolved.study.probes]
    for number, arm in enumerate(report.arms):
        spreads = [arm.spreads.get("AP"), *(arm.probes[name][0] if name in arm.probes else None for name in asked)]
        places = [place + 0.06 * number for place, spread in enumerate(spreads) if spread]
        means = [100 * spread.mean for spread in spreads if spread]
        whiskers = [100 * (spread.sd or 0.0) for spread in spreads if spread]
        panel.errorbar(places, means, whiskers, fmt=_mark(number), ms=5, linewidth=1, capsize=2, label=arm.name)
    panel.set_xticks(range(1 + len(asked)), ["as usual", *asked], rotation=30, ha="right")
    panel.set_ylim(bottom=0)
    panel.grid(axis="y", alpha=0.25)
    panel.legend(fontsize=7)
    panel.set_title("AP asked otherwise; whiskers: seed sd", fontsize=9)


def _errors(panel: Axes, report: StudyReport) -> None:
    places = np.arange(len(report.arms))
    for number, (name, (word, color)) in enumerate(_ERRORS.items()):
        values = [100 * arm.beyond[name].mean if name in arm.beyond else 0.0 for arm in report.arms]
        panel.bar(places + 0.2 * (number - 1.5), values, 0.18, color=color, label=word)
    panel.set_xticks(places, [arm.name for arm in report.arms], rotation=30, ha="right")
    panel.grid(axis="y", alpha=0.25)
    panel.legend(fontsize=7)
    panel.set_title("AP50 lost to each kind of error, points", fontsize=9)


def _costs(panel: Axes, report: StudyReport) -> None:
    for number, arm in enumerate(report.arms):
        if (flops := _gflop(arm)) is not None and (spread := arm.spreads.get("AP")) is not None:
            panel.plot(flops, 100 * spread.mean, _mark(number), ms=7, label=arm.name)
    panel.margins(0.1)
    panel.set_xlim(left=0)
    panel.set_ylim(bottom=0)
    panel.set_xlabel("GFLOP per image, text not in it", fontsize=8)
    panel.grid(alpha=0.25)
    panel.legend(fontsize=7, loc="lower right")
    panel.set_title(f"AP on {report.facts['benchmark']} and cost", fontsize=9)


def _gflop(arm: ArmReport) -> float | None:
    return arm.speed.flops.value / 1e9 if arm.speed and arm.speed.flops else None


def _mark(number: int) -> str:
    return _MARKS[number % len(_MARKS)]


def _values(panel: Axes, report: StudyReport) -> None:
    for place, arm in enumerate(report.arms):
        if (spread := arm.spreads.get("AP")) is not None:
            panel.plot([100 * value for value in spread.values], [place] * len(spread.values), "o", color=_OPEN, ms=4)
            panel.plot(100 * spread.mean, place, "|", color=_REFERENCE, ms=12, mew=2)
    panel.set_title(f"AP on {report.facts['benchmark']}: seeds and mean", fontsize=9)
    _finish(panel)


def _differences(panel: Axes, report: StudyReport, metric: str) -> None:
    for place, arm in enumerate(report.arms):
        if (effect := arm.effects.get(metric)) is None:
            continue
        color = _RESOLVED if effect.verdict == "resolved" else _OPEN
        panel.plot(100 * effect.delta, place, "o", color=color, ms=5)
        if effect.ci95 is not None:
            panel.plot([100 * end for end in effect.ci95], [place, place], color=color, linewidth=1.6)
    panel.axvline(0, color=_REFERENCE, linewidth=0.8)
    panel.set_title(f"{heading(metric)} minus {report.resolved.study.reference}; blue: resolved", fontsize=9)
    _finish(panel)


def _finish(panel: Axes) -> None:
    panel.grid(axis="x", alpha=0.25)
    panel.tick_params(axis="x", labelsize=8)
