"""A picture of a study: AP of every training, and differences to the reference with their intervals."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from benchmarks.io.files import atomic_write
from benchmarks.studies.report import StudyReport
from benchmarks.studies.tables import heading

_RESOLVED, _OPEN, _REFERENCE = "#2563eb", "#9ca3af", "#111827"
#: Metrics whose differences are drawn, each with its own panel.
_DRAWN = ("AP", "unseen/APu")


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
