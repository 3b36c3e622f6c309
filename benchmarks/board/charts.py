"""Charts as inline SVG. Colours are classes ``s0`` … of the page's style sheet, so that they follow light and dark.

Every text goes through ``Markup.format``, which escapes it.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from markupsafe import Markup

#: Number of colours and markers before they repeat.
SERIES = 8

_WIDTH, _HEIGHT = 400, 280
_LEFT, _RIGHT, _TOP, _BOTTOM = 46, 20, 12, 44
_DASHES = ("", "6 3", "2 3", "8 3 2 3")

Point = tuple[float, float]


@dataclass(frozen=True)
class Line:
    """One series of a chart.

    Attributes:
        series: number that determines colour and marker.
        name: shown on hovering and to screen readers.
        points: x, y in the units of the axes.
    """

    series: int
    name: str
    points: Sequence[Point]


@dataclass(frozen=True)
class Axis:
    """One axis.

    Attributes:
        title: with its unit.
        low, high: ends.
        ticks: values and their labels.
        log: logarithmic.
    """

    title: str
    low: float
    high: float
    ticks: Sequence[tuple[float, str]]
    log: bool = False

    def place(self, value: float) -> float:
        """Position between 0 and 1; values outside are clipped."""
        low, high, at = (math.log10(v) if self.log else v for v in (self.low, self.high, max(value, self.low)))
        return min((at - low) / (high - low), 1.0)


def linear_axis(title: str, values: Sequence[float], *, lowest: float = 0.0) -> Axis:
    """From ``lowest`` to a round number beyond the largest value, with three to six ticks."""
    top = max([*values, lowest + 1e-9])
    rough = (top - lowest) / 4
    power = 10 ** math.floor(math.log10(rough))
    step = next(power * factor for factor in (1, 2, 2.5, 5, 10) if power * factor >= rough * (1 - 1e-9))
    steps = max(1, math.ceil((top - lowest) / step - 1e-9))
    ticks = [(lowest + i * step, f"{lowest + i * step:g}") for i in range(steps + 1)]
    return Axis(title, lowest, ticks[-1][0], ticks)


def log_axis(title: str, values: Sequence[float], *, zero: bool = False) -> Axis:
    """Between round numbers (1, 2, 5 times a power of ten) around the positive values; ticks at powers of ten if many.

    Args:
        title: title of the axis.
        values: values to show.
        zero: show values of 0 at the left end, labelled 0.
    """
    positive = [value for value in values if value > 0] or [1.0]
    first, last = math.floor(math.log10(min(positive))) - 1, math.ceil(math.log10(max(positive))) + 1
    rounds = [factor * 10.0**power for power in range(first, last + 1) for factor in (1, 2, 5)]
    low = max(number for number in rounds if number <= min(positive) * (1 + 1e-9))
    high = min(number for number in rounds if number >= max(positive) * (1 - 1e-9) and number > low)
    ticks = [(number, _plain(number)) for number in rounds if low <= number <= high]
    if len(ticks) > 6:
        powers = [10.0**power for power in range(first, last + 1)]
        ticks = [(number, _plain(number)) for number in powers if low <= number <= high]
    if zero:
        low /= 3
        ticks.insert(0, (low, "0"))
    return Axis(title, low, high, ticks, log=True)


def category_axis(names: Sequence[str]) -> Axis:
    """Evenly spaced names at 0, 1, 2 and so on."""
    return Axis("", -0.25, len(names) - 0.75, [(float(i), name) for i, name in enumerate(names)])


def line_chart(title: str, x: Axis, y: Axis, lines: Sequence[Line], dots: Sequence[Line] = ()) -> Markup:
    """Lines with markers; ``dots`` are drawn faintly behind them as points only."""
    parts = [_frame(title, x, y)]
    for cloud in dots:
        path = " ".join(f"M{_x(x, px):.1f} {_y(y, py):.1f}h0" for px, py in cloud.points)
        parts.append(_tag('<path class="dots {s}" d="{d}"/>', s=_series(cloud.series), d=path))
    for line in lines:
        points = [(_x(x, px), _y(y, py)) for px, py in line.points]
        path = " ".join(f"{'L' if i else 'M'}{px:.1f} {py:.1f}" for i, (px, py) in enumerate(points))
        dash = _DASHES[line.series // SERIES % len(_DASHES)]
        parts.append(
            _tag(
                '<g class="{s}"><title>{name}</title><path class="line" stroke-dasharray="{dash}" d="{d}"/>{marks}</g>',
                s=_series(line.series),
                name=line.name,
                dash=dash or "none",
                d=path,
                marks=Markup("").join(marker(line.series, px, py) for px, py in points),
            )
        )
    return _svg(title, parts)


def scatter_chart(title: str, x: Axis, y: Axis, points: Sequence[tuple[Line, tuple[float, float] | None]]) -> Markup:
    """One named point per series with a vertical interval where there is one."""
    parts = [_frame(title, x, y)]
    centres = [(_x(x, line.points[0][0]), _y(y, line.points[0][1])) for line, _ in points]
    taken = [(px - 5, py - 5, px + 5, py + 5) for px, py in centres]
    for (line, interval), (px, py) in zip(points, centres, strict=True):
        whisker = Markup("")
        if interval is not None:
            low, high = (_y(y, value) for value in interval)
            whisker = _tag('<path class="line" d="M{x:.1f} {a:.1f}V{b:.1f}"/>', x=px, a=low, b=high)
        short = line.name if len(line.name) <= 24 else line.name[:23] + "…"
        left, base = _free_place(px, py, 6.8 * len(short), taken)
        parts.append(
            _tag(
                '<g class="{s}"><title>{name}</title>{whisker}{mark}'
                '<text class="name" x="{x:.1f}" y="{y:.1f}">{short}</text></g>',
                s=_series(line.series),
                name=line.name,
                whisker=whisker,
                mark=marker(line.series, px, py),
                x=left,
                y=base,
                short=short,
            )
        )
    return _svg(title, parts)


def _free_place(x: float, y: float, width: float, taken: list[tuple[float, float, float, float]]) -> Point:
    """Left end of the base line of a point's label, placed where it overlaps least; marks the area as used."""
    height = 13.0
    places = [(x + dx if dx > 0 else x + dx - width, y + dy) for dy in (-6, 14, -19, 27, 4) for dx in (8, -8)]
    inside = [(min(max(left, _LEFT + 2), _WIDTH - width - 2), base) for left, base in places]

    def covered(place: Point) -> float:
        left, base = place
        return sum(
            max(0.0, min(left + width, r) - max(left, a)) * max(0.0, min(base, d) - max(base - height, b))
            for a, b, r, d in taken
        )

    left, base = min(inside, key=covered)
    taken.append((left, base - height, left + width, base))
    return left, base


def interval_bar(value: float, interval: tuple[float, float] | None, low: float, high: float, series: int) -> Markup:
    """A dot with whiskers on the scale ``low`` … ``high``, for a table cell."""
    width, height = 100, 16

    def at(number: float) -> float:
        return 4 + (width - 8) * min(max((number - low) / ((high - low) or 1), 0), 1)

    whisker = Markup("")
    if interval is not None:
        whisker = _tag(
            '<path class="line" d="M{a:.1f} 8H{b:.1f}M{a:.1f} 4v8M{b:.1f} 4v8"/>', a=at(interval[0]), b=at(interval[1])
        )
    return _tag(
        '<svg class="whisker" viewBox="0 0 {w} {h}" width="{w}" height="{h}" aria-hidden="true">'
        '<path class="rule" d="M4 8H{end}"/><g class="{s}">{whisker}{mark}</g></svg>',
        w=width,
        h=height,
        end=width - 4,
        s=_series(series),
        whisker=whisker,
        mark=marker(series, at(value), 8),
    )


def marker(series: int, x: float, y: float) -> Markup:
    """Circle, square, triangle or diamond, so that series differ by more than colour."""
    shapes = (
        "M{x:.1f} {y:.1f}m-4 0a4 4 0 1 0 8 0a4 4 0 1 0 -8 0z",
        "M{x:.1f} {y:.1f}m-3.6 -3.6h7.2v7.2h-7.2z",
        "M{x:.1f} {y:.1f}m0 -4.8l4.6 8h-9.2z",
        "M{x:.1f} {y:.1f}m0 -5l5 5l-5 5l-5 -5z",
    )
    return _tag('<path class="mark" d="{d}"/>', d=shapes[series % len(shapes)].format(x=x, y=y))


def _series(number: int) -> str:
    return f"s{number % SERIES}"


def _x(axis: Axis, value: float) -> float:
    return _LEFT + axis.place(value) * (_WIDTH - _LEFT - _RIGHT)


def _y(axis: Axis, value: float) -> float:
    return _HEIGHT - _BOTTOM - axis.place(value) * (_HEIGHT - _TOP - _BOTTOM)


def _frame(title: str, x: Axis, y: Axis) -> Markup:
    bottom = _HEIGHT - _BOTTOM
    parts = [_tag("<title>{t}</title>", t=title)]
    for value, label in y.ticks:
        at = _y(y, value)
        parts.append(
            _tag(
                '<path class="rule" d="M{l} {y:.1f}H{r}"/><text x="{x}" y="{b:.1f}" text-anchor="end">{t}</text>',
                l=_LEFT,
                r=_WIDTH - _RIGHT,
                x=_LEFT - 6,
                y=at,
                b=at + 4,
                t=label,
            )
        )
    for value, label in x.ticks:
        at = _x(x, value)
        parts.append(
            _tag(
                '<path class="rule" d="M{x:.1f} {b}v4"/><text x="{x:.1f}" y="{t}" text-anchor="middle">{label}</text>',
                x=at,
                b=bottom,
                t=bottom + 18,
                label=label,
            )
        )
    middle = (_LEFT + _WIDTH - _RIGHT) / 2
    parts.append(_tag('<text x="{x}" y="{y}" text-anchor="middle">{t}</text>', x=middle, y=_HEIGHT - 8, t=x.title))
    parts.append(
        _tag(
            '<text transform="translate(13 {y}) rotate(-90)" text-anchor="middle">{t}</text>',
            y=(_TOP + bottom) / 2,
            t=y.title,
        )
    )
    return Markup("").join(parts)


def _svg(title: str, parts: Sequence[Markup]) -> Markup:
    return _tag(
        '<svg class="chart" viewBox="0 0 {w} {h}" role="img" aria-label="{t}">{body}</svg>',
        w=_WIDTH,
        h=_HEIGHT,
        t=title,
        body=Markup("").join(parts),
    )


def _plain(value: float) -> str:
    return f"{value:,.0f}" if value >= 1 else f"{value:g}"


def _tag(template: str, **values: object) -> Markup:
    return Markup(template).format(**values)
