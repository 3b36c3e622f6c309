"""Terminal tables of scores and comparisons."""

from __future__ import annotations

from rich import box
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from ovd_bench.benchmarks.data.text import printable
from ovd_bench.benchmarks.scoring.grounding import GroundingScore
from ovd_bench.benchmarks.scoring.score import Score
from ovd_bench.benchmarks.scoring.suite_mean import SuiteMean
from ovd_bench.benchmarks.store.schema import Metric
from ovd_bench.metrics.comparison import Comparison, Difference
from ovd_bench.metrics.ladder import RUNGS
from ovd_bench.metrics.protocol import AREA_NAMES, FREQUENCIES, Protocol

_MEANING = {
    "AP": "all classes, IoU 0.50:0.95",
    "AP50": "IoU 0.50",
    "AP75": "IoU 0.75",
    "APs": "small, area <= 32²",
    "APm": "medium",
    "APl": "large, area >= 96²",
    "APr": "rare classes",
    "APc": "common classes",
    "APf": "frequent classes",
}
_SIZES = ("APs", "APm", "APl")
_FREQUENCY = {"r": "rare", "c": "common", "f": "frequent"}
_COUNTED = ("cls", "loc", "both", "dupe", "bkg", "miss")
_ERRORS = {
    "cls": "classification",
    "loc": "localisation",
    "both": "both",
    "dupe": "duplicate",
    "bkg": "background",
    "miss": "missed",
    "fp": "all false positives",
    "fn": "all misses",
}
#: Figures of queries, as headings and as statistics.
_ASKED = {"R@1": "R@1_any", "R@5": "R@5_any", "R@10": "R@10_any", "mIoU": "mIoU", "FPR95": "fpr95", "AUROC": "auroc"}
_AREA_OF_RECALL = {"AR": "", "ARs": ", small", "ARm": ", medium", "ARl": ", large"}


def score_table(score: Score) -> RenderableType:
    """Official statistics in percent, extra statistics as they are, notes below."""
    parts: list[RenderableType] = [_official_table(score)]
    extras = {name: value for name, value in score.metrics.items() if name not in score.evaluation.metrics}
    ladder = {name: extras.pop(name) for name in list(extras) if name.startswith("ladder/")}
    errors = {name: extras.pop(name) for name in list(extras) if name.startswith("tide/")}
    shown = {f"queries/{name}" for name in _ASKED.values()}
    queries = {name: extras.pop(name) for name in list(extras) if "/".join(name.split("/")[:2]) in shown}
    if queries:
        parts.append(_queries_table(queries, score.half_width))
    if ladder:
        parts.append(_ladder_table(ladder))
    if errors:
        parts.append(_errors_table(errors))
    if extras:
        parts.append(_extras_table(extras, score.half_width))
    parts += [_remark(note) for note in score.notes]
    parts.append(Text(" · ".join(f"{stage} {seconds:.2f} s" for stage, seconds in score.seconds.items()), style="dim"))
    return Group(*parts)


def run_table(score: Score) -> RenderableType:
    """Official statistics, those of queries, and notes of a run; the rest is in its result file."""
    queries = {name: value for name, value in score.metrics.items() if name.startswith("queries/")}
    asked = [_queries_table(queries, score.half_width)] if queries else []
    return Group(_official_table(score), *asked, *(_remark(note) for note in score.notes))


def run_line(score: Score) -> Text:
    """AP of a run of a sweep, and AP by frequency, if defined; of queries what is asked of them."""
    asked = {heading: f"queries/{name}" for heading, name in _ASKED.items()}
    letters = {f"AP{letter}": f"AP{letter}" for letter in FREQUENCIES if f"AP{letter}" in score.metrics}
    shown = {"AP": "AP"} | (asked if "queries/R@1_any" in score.metrics else letters)
    numbers = []
    for short, name in shown.items():
        spread = f" ± {_percent(score.half_width[name])}" if name in score.half_width and short not in letters else ""
        numbers.append(f"{short} {_percent(score.metrics[name])}{spread}")
    return Text(" · ".join(numbers))


def suite_table(detector: str, mean: SuiteMean) -> RenderableType:
    """AP on every set of a suite in percent, and the mean if all sets are there."""
    title = Text(printable(f"{mean.suite.name} · {detector} · {mean.extent}"))
    if mean.partial:
        title.append(" · partial runs", "yellow")
    table = Table(title=title, box=box.SIMPLE_HEAD, title_justify="left", title_style="bold")
    table.add_column("set")
    table.add_column("AP", justify="right")
    table.add_column("± 95 %", justify="right")
    for name in mean.suite.names:
        table.add_row(Text(name), *_with_spread(mean.metric(name)))
    table.add_section()
    table.add_row(Text("mean"), *_with_spread(mean.mean), style="bold")
    if mean.complete:
        return table
    return Group(table, _remark(f"no mean: {mean.extent} have AP; the same command resumes the others"))


def _with_spread(metric: Metric) -> tuple[str, str]:
    half = None if metric.ci95 is None else (metric.ci95[1] - metric.ci95[0]) / 2
    return "–" if metric.value is None else _percent(metric.value), "" if half is None else _percent(half)


def _official_table(score: Score) -> Table:
    gt = score.gt
    title = f"{score.request.protocol} · {gt.num_images:,} images · {gt.num_classes:,} classes"
    table = Table(title=title, box=box.SIMPLE_HEAD, title_justify="left", title_style="bold")
    table.add_column("statistic")
    table.add_column("value", justify="right")
    half = score.half_width
    if half:
        table.add_column("± 95 %", justify="right")
    table.add_column("meaning", style="dim")
    for name in score.evaluation.metrics:
        value = score.metrics[name]
        row = [name, _percent(value)]
        if half:
            row.append(_percent(half[name]) if name in half else "")
        table.add_row(*row, _meaning(name, score.evaluation.protocol), style="bold" if name == "AP" else None)
    return table


def _queries_table(queries: dict[str, float | None], half: dict[str, float]) -> Table:
    """One row for all queries, with intervals, and one per kind; in percent, a dash where a kind has no such query."""
    table = Table(title="queries", box=box.SIMPLE_HEAD, title_justify="left", title_style="bold")
    table.add_column("kind")
    for heading in _ASKED:
        table.add_column(heading, justify="right")

    def cell(name: str) -> str:
        value = queries.get(name)
        spread = f" ± {_percent(half[name])}" if name in half and name.count("/") == 1 else ""
        return "–" if value is None else f"{_percent(value)}{spread}"

    kinds = dict.fromkeys(name.split("/", 2)[2] for name in queries if name.count("/") > 1)
    for kind in ("", *kinds):
        suffix = f"/{kind}" if kind else ""
        cells = [cell(f"queries/{name}{suffix}") for name in _ASKED.values()]
        table.add_row(Text(printable(kind or "all")), *cells, style=None if kind else "bold")
    return table


def _ladder_table(ladder: dict[str, float | None]) -> Table:
    """One row per statistic, one column per rung; other statistics below."""
    table = Table(title="granularity ladder", box=box.SIMPLE_HEAD, title_justify="left", title_style="bold")
    table.add_column("")
    for rung in RUNGS:
        table.add_column(rung, justify="right")
    rows: dict[str, dict[str, float | None]] = {}
    for name, value in ladder.items():
        statistic, _, rung = name.removeprefix("ladder/").rpartition("_")
        if rung in RUNGS and statistic:
            rows.setdefault(statistic, {})[rung] = value
    for statistic, values in rows.items():
        show = _plain if statistic in ("clusters", "exhaustive") else _percent
        table.add_row(statistic, *(show(values.get(rung)) for rung in RUNGS))
    gains = ", ".join(f"{key} {_signed(ladder[f'ladder/{key}'])}" for key in ("semantic_gap", "naming_loss"))
    table.caption = (
        f"{gains} (AP super and loc minus exact); NR = named recall; exhaustive = share of pairs with misses"
    )
    table.caption_justify = "left"
    return table


def _errors_table(errors: dict[str, float | None]) -> Table:
    """One row per kind of error: AP50 gained by correcting it, and its frequency, overall and per class frequency."""
    groups = {"all": "", **{_FREQUENCY[letter]: f"_{letter}" for letter in FREQUENCIES}}
    groups = {name: suffix for name, suffix in groups.items() if f"tide/AP50{suffix}" in errors}
    table = Table(title="error decomposition, IoU 0.50", box=box.SIMPLE_HEAD, title_justify="left", title_style="bold")
    table.add_column("ΔAP50 if corrected")
    for name in groups:
        table.add_column(name, justify="right")
    table.add_column("count", justify="right")
    table.add_row("AP50 now", *(_percent(errors[f"tide/AP50{suffix}"]) for suffix in groups.values()), "")
    for kind, meaning in _ERRORS.items():
        gains = (_signed(errors[f"tide/dAP_{kind}{suffix}"]) for suffix in groups.values())
        table.add_row(meaning, *gains, _plain(errors.get(f"tide/count_{kind}")) if kind in _COUNTED else "")
    return table


def _extras_table(extras: dict[str, float | None], half: dict[str, float]) -> Table:
    table = Table(box=box.SIMPLE_HEAD, title_justify="left")
    table.add_column("further statistic")
    table.add_column("value", justify="right")
    spread = any(name in half for name in extras)
    if spread:
        table.add_column("± 95 %", justify="right")
    previous = None
    for name, value in extras.items():
        family = name.split("/")[0]
        if previous not in (None, family):
            table.add_section()
        previous = family
        cells = [name, _plain(value)]
        if spread:
            cells.append(_plain(half[name]) if name in half else "")
        table.add_row(*cells)
    return table


def comparison_table(comparison: Comparison, protocol: str, names: tuple[str, str]) -> RenderableType:
    """Both runs in percent, paired difference with interval and probability, classes won and lost."""
    resamples, seed = comparison.resamples, comparison.seed
    title = f"{protocol} · {resamples:,} paired resamples of the images, seed {seed}"
    table = Table(title=title, box=box.SIMPLE_HEAD, title_justify="left", title_style="bold")
    table.add_column("statistic", overflow="fold")
    for column in ("A", "B", "B - A", "95 % interval", "P(B > A)"):
        table.add_column(column, justify="right")
    for name, difference in comparison.differences.items():
        table.add_row(name, *_difference(difference))
    classes = comparison.classes
    summary = (
        f"classes: B ahead in {classes.wins:,} ({classes.sure_wins:,} surely), behind in {classes.losses:,} "
        f"({classes.sure_losses:,} surely), equal in {classes.ties:,}; surely = P of 0.975 or more"
    )
    return Group(Text(f"A = {names[0]}\nB = {names[1]}"), table, Text(summary))


def _difference(difference: Difference) -> list[str]:
    interval = difference.ci95
    if interval is None:
        return [_percent(difference.a), _percent(difference.b), _signed(difference.delta), "", ""]
    sure = interval[0] > 0 or interval[1] < 0
    style = "bold" if sure else "dim"
    return [
        _percent(difference.a),
        _percent(difference.b),
        f"[{style}]{_signed(difference.delta)}[/{style}]",
        f"[{style}]{_signed(interval[0])} … {_signed(interval[1])}[/{style}]",
        f"[{style}]{difference.p_greater:.3f}[/{style}]",
    ]


def _meaning(name: str, protocol: Protocol) -> str:
    if name == "AP" and protocol.iou:
        return f"all classes, IoU {', '.join(f'{one:g}' for one in protocol.iou)}"
    if name in _SIZES and protocol.areas:
        low, high = protocol.areas[_SIZES.index(name) + 1]
        return f"{AREA_NAMES[_SIZES.index(name) + 1]}, area {low:g} to {high:g}"
    if name in _MEANING:
        return _MEANING[name]
    kind, limit = name.split("@")
    if protocol.class_cap:
        most = f"{protocol.class_cap:,} detections per class"
    else:
        most = f"{limit} detections per image" + ("" if protocol.federated else " and class")
    return f"recall, {most}{_AREA_OF_RECALL[kind]}"


def _remark(note: str) -> Text:
    return Text(printable(note), style="yellow" if note.startswith("warning") else "dim")


def _percent(value: float | None) -> str:
    return "undefined" if value is None else f"{100 * value:.2f}"


def _signed(value: float | None) -> str:
    return "undefined" if value is None else f"{100 * value:+.2f}"


def _plain(value: float | None) -> str:
    if value is None:
        return "undefined"
    return f"{value:,.0f}" if isinstance(value, int) or (value == int(value) and abs(value) > 1) else f"{value:.4f}"


def grounding_table(score: GroundingScore) -> RenderableType:
    """Recall@k under both rules, all phrases first, then per entity type."""
    result = score.result
    title = f"{score.protocol} · {int(result.scored.sum()):,} of {len(result.phrase_ids):,} phrases have boxes"
    table = Table(title=title, box=box.SIMPLE_HEAD, title_justify="left", title_style="bold")
    table.add_column("statistic")
    table.add_column("value", justify="right")
    for name, value in result.metrics.items():
        table.add_row(Text(printable(name.removeprefix("grounding/"))), _percent(value))
    return Group(table, *(_remark(note) for note in result.notes))
