"""Charts and bars of a table, in percent."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from markupsafe import Markup

from ovd_bench.benchmarks.board.charts import (
    Line,
    category_axis,
    line_chart,
    linear_axis,
    log_axis,
    scatter_chart,
)
from ovd_bench.benchmarks.board.measured_speed import comparable
from ovd_bench.benchmarks.board.per_class import ClassRow
from ovd_bench.benchmarks.board.rows import BoardTable, Row
from ovd_bench.metrics.ladder import RUNGS

_GROUPS = (("APr", "rare"), ("APc", "common"), ("APf", "frequent"), ("unseen/APu", "unseen in training"))
_ERRORS = (
    ("cls", "wrong class"),
    ("loc", "bad box"),
    ("both", "both"),
    ("dupe", "duplicate"),
    ("bkg", "background"),
    ("miss", "missed"),
)
#: More runs than this are drawn as lines only.
_MOST_CLOUDS = 3


@dataclass(frozen=True)
class Chart:
    """A chart with its title and caption; without a picture the caption says why there is none."""

    title: str
    caption: str
    svg: Markup | None


@dataclass(frozen=True)
class Bar:
    """One horizontal bar.

    Attributes:
        series: number of the row, for its colour.
        name: name of the row.
        value: shown after the bar.
        width: width of the bar, percent of the panel.
        low, high: ends of the interval, percent of the panel; None without one.
    """

    series: int
    name: str
    value: str
    width: float
    low: float | None
    high: float | None


@dataclass(frozen=True)
class Panel:
    """Bars of one statistic."""

    title: str
    bars: tuple[Bar, ...]


@dataclass(frozen=True)
class Stack:
    """The errors of one row: kind, ΔAP50 as text and width in percent of the longest stack."""

    name: str
    parts: tuple[tuple[str, str, float], ...]
    total: str


def frequency_panels(rows: Sequence[Row]) -> list[Panel]:
    """AP of rare, common, frequent and unseen classes, all on one scale."""
    shown = [(key, title) for key, title in _GROUPS if any(row.value(key) is not None for row in rows)]
    ends = [
        end
        for key, _ in shown
        for row in rows
        if (value := row.value(key)) is not None
        for end in (value, *(row.metric(key).ci95 or ()))
    ]
    top = max([*ends, 1e-3])
    panels = []
    for key, title in shown:
        bars = []
        for series, row in enumerate(rows):
            value, interval = row.value(key), row.metric(key).ci95
            if value is None:
                bars.append(Bar(series, row.name, "–", 0.0, None, None))
                continue
            low, high = (max(end, 0.0) * 100 / top for end in interval) if interval else (None, None)
            bars.append(Bar(series, row.name, f"{100 * value:.1f}", 100 * value / top, low, high))
        panels.append(Panel(title, tuple(bars)))
    return panels


def error_stacks(rows: Sequence[Row]) -> list[Stack]:
    """Gain of AP50 by correcting each kind of error, of rows that have the decomposition."""
    found = []
    for row in rows:
        gains = [(title, row.value(f"tide/dAP_{kind}")) for kind, title in _ERRORS]
        if all(gain is not None for _, gain in gains):
            found.append((row.name, [(title, max(gain or 0.0, 0.0)) for title, gain in gains]))
    longest = max((sum(gain for _, gain in gains) for _, gains in found), default=0.0) or 1.0
    return [
        Stack(
            name,
            tuple((title, f"{100 * gain:.1f}", 100 * gain / longest) for title, gain in gains),
            f"{100 * sum(gain for _, gain in gains):.1f}",
        )
        for name, gains in found
    ]


def charts(table: BoardTable, classes: Sequence[Sequence[ClassRow]]) -> list[Chart]:
    """Ladder, AP against training images, speed against AP: those for which there are numbers, or a reason why not.

    Args:
        table: the rows.
        classes: per row its classes; empty where unknown.
    """
    made = (
        _ladder(table, "AP", "Granularity ladder", "AP, %"),
        _ladder(table, "NR", "Named recall", "found and named, %"),
        _training_images(table.rows, classes),
        _speed(table.rows),
    )
    return [chart for chart in made if chart is not None]


def _ladder(table: BoardTable, statistic: str, title: str, unit: str) -> Chart | None:
    rungs = [rung for rung in RUNGS if any(row.value(f"ladder/{statistic}_{rung}") is not None for row in table.rows)]
    lines = []
    for series, row in enumerate(table.rows):
        values = [(i, row.value(f"ladder/{statistic}_{rung}")) for i, rung in enumerate(rungs)]
        points = [(float(i), 100 * value) for i, value in values if value is not None]
        if points:
            lines.append(Line(series, row.name, points))
    if len(rungs) < 2:
        return None
    if statistic == "NR":
        caption = "Share of the objects whose best box (IoU 0.5) carries a label that is right at this granularity."
    else:
        caption = "AP with coarser labels: exact names, synonyms, basic level, supercategories, boxes alone."
        if table.protocol.name.startswith("lvis"):
            caption += " On federated data coarse rungs are close to recall: compare by named recall."
    values_shown = [y for line in lines for _, y in line.points]
    return Chart(title, caption, line_chart(title, category_axis(rungs), linear_axis(unit, values_shown), lines))


def _training_images(rows: Sequence[Row], classes: Sequence[Sequence[ClassRow]]) -> Chart | None:
    """A dot per class, and the mean over tenths of the classes by number of training images."""
    lines, dots = [], []
    for series, (row, members) in enumerate(zip(rows, classes, strict=True)):
        known = [
            (float(c.train_images), 100 * c.ap) for c in members if c.train_images is not None and c.ap is not None
        ]
        if known:
            dots.append(Line(series, row.name, known))
            lines.append(Line(series, row.name, _binned(known)))
    if not lines:
        return None
    title = "AP against training images"
    counts = [x for line in dots for x, _ in line.points]
    x = log_axis("training images of the class", counts, zero=0.0 in counts)
    caption = "Lines are means over tenths of the classes; classes without training images are a separate point."
    if len(dots) > _MOST_CLOUDS:
        dots = []
    else:
        caption = f"A dot is a class. {caption}"
    return Chart(title, caption, line_chart(title, x, linear_axis("AP of the class, %", [100.0]), lines, dots))


def _binned(points: Sequence[tuple[float, float]]) -> list[tuple[float, float]]:
    unseen = [y for x, y in points if x == 0]
    seen = np.array(sorted(point for point in points if point[0] > 0)).reshape(-1, 2)
    means = [(0.0, float(np.mean(unseen)))] if unseen else []
    parts = np.array_split(seen, min(10, len(seen))) if len(seen) else []
    return means + [(float(np.exp(np.log(part[:, 0]).mean())), float(part[:, 1].mean())) for part in parts]


def _speed(rows: Sequence[Row]) -> Chart | None:
    """AP against images per second, of rows whose speeds are comparable."""
    drawn = [
        (series, row, rate, ap)
        for series, row in enumerate(rows)
        if (rate := row.result.speed.images_per_second) and (ap := row.value("AP")) is not None
    ]
    if not drawn:
        return None
    title = "Speed and accuracy"
    found = comparable([row.name for _, row, _, _ in drawn], [row.result for _, row, _, _ in drawn])
    left_out = [f"Left out: {'; '.join(found.left_out)}."] if found.left_out else []
    if not found.rows:
        why = "Not drawn: it needs two rows measured alone with the same machine, device, threads and batch."
        return Chart(title, " ".join([why, *left_out]), None)
    points = []
    for series, row, rate, ap in (drawn[number] for number in found.rows):
        interval = row.metric("AP").ci95
        whisker = (100 * interval[0], 100 * interval[1]) if interval else None
        points.append((Line(series, row.name, [(rate, 100 * ap)]), whisker))
    x = log_axis("images per second", [line.points[0][0] for line, _ in points])
    highest = [whisker[1] if whisker else line.points[0][1] for line, whisker in points]
    caption = " ".join([f"Median of warm images, measured alone on {found.setup}.", *left_out])
    return Chart(title, caption, scatter_chart(title, x, linear_axis("AP, %", highest), points))
