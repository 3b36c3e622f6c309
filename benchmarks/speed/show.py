"""Tables of a speed report."""

from __future__ import annotations

from rich import box
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from ovd_bench.benchmarks.data.text import printable
from ovd_bench.benchmarks.speed.record import FailedDetector, Measured, SpeedReport, Workload


def report_table(report: SpeedReport) -> RenderableType:
    """Two tables, and below them reasons to doubt the numbers."""
    measured = [one for one in report.detectors if isinstance(one, Measured)]
    parts: list[RenderableType] = []
    if measured:
        parts += [_times(report, measured), _sizes(measured)]
    counted = {one.flops.counted for one in measured if one.flops is not None}
    parts += [_remark(f"GFLOP: of one image; a multiply-add counts as two; {words}") for words in sorted(counted)]
    for one in measured:
        parts += _remarks(one)
    parts += [_warning(f"{one.detector}: {one.problem}") for one in report.detectors if isinstance(one, FailedDetector)]
    return Group(*parts)


def _times(report: SpeedReport, measured: list[Measured]) -> Table:
    calls = f"{report.iterations} calls after {report.warm_up} to warm up"
    table = _table(f"Time of an image · {_workload(report.workload)} · {calls}")
    on_gpu = any(one.memory.peak_gpu_bytes is not None for one in measured)
    gpu = ["GPU\nMiB"] if on_gpu else []
    for heading in ("batch", "p50\nms", "p95\nms", "sd\nms", "img/s", "peak\nMiB", *gpu, "alone"):
        table.add_column(heading, justify="right", no_wrap=True)
    for one in measured:
        for row, batch in enumerate(one.batches):
            time = batch.timing
            numbers = ["–"] * 4
            if time is not None:
                numbers = [*map(_ms, (time.p50_ms, time.p95_ms, time.sd_ms)), f"{time.images_per_second:.2f}"]
            numbers += [_mebi(batch.peak_memory_bytes), *([_mebi(batch.peak_gpu_bytes)] if on_gpu else [])]
            name = printable(one.detector.name) if row == 0 else ""
            table.add_row(name, str(batch.batch), *numbers, _alone(one) if row == 0 else "")
    return table


def _sizes(measured: list[Measured]) -> Table:
    table = _table("Start in seconds, each step timed once · size")
    for heading in ("load", "text", "1st\nimage", "sum", "param.\nM", "GFLOP"):
        table.add_column(heading, justify="right", no_wrap=True)
    table.add_column("on", min_width=8)
    for one in measured:
        start = one.start
        seconds = (start.load_seconds, start.vocabulary_seconds, start.first_detection_seconds, start.total_seconds)
        parameters = one.detector.parameters
        table.add_row(
            printable(one.detector.name),
            *(f"{value:.2f}" for value in seconds),
            "–" if parameters is None else f"{parameters / 1e6:,.2f}",
            "–" if one.flops is None else f"{one.flops.value / 1e9:,.2f}",
            _device(one),
        )
    return table


def _remarks(one: Measured) -> list[RenderableType]:
    name = one.detector.name
    lines: list[RenderableType] = []
    if one.machine.exclusive is not True:
        sure = "not measured alone" if one.machine.exclusive is False else "perhaps not measured alone"
        lines.append(_warning(f"{name}: {sure}; do not quote its times"))
        lines += [_warning(f"  {reason}") for reason in one.machine.reasons]
    lines += [_warning(f"{name}: batch of {batch.batch}: {batch.problem}") for batch in one.batches if batch.problem]
    lines += [_remark(f"{name}: {note}") for note in one.notes]
    if one.flops is not None and one.flops.not_counted:
        left_out = ", ".join(operator.removeprefix("aten.") for operator in one.flops.not_counted)
        lines.append(_remark(f"{name}: not in its GFLOP: elementwise work, {left_out}"))
    return lines


def _table(title: str) -> Table:
    table = Table(
        title=printable(title), box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0), title_justify="left", title_style="bold"
    )
    table.add_column("detector", no_wrap=True)
    return table


def _workload(work: Workload) -> str:
    width, height = work.sizes[0]
    same = all(size == work.sizes[0] for size in work.sizes)
    size = f"{width} × {height}" if same else "different sizes"
    images = f"{work.source}, {work.images} images of {size}" if work.images > 1 else f"{work.source} image {size}"
    return f"{images} · {work.classes:,} classes · plan {work.plan}"


def _device(one: Measured) -> str:
    threads = "" if one.threads is None or one.device != "cpu" else f" × {one.threads}"
    return printable(f"{one.device}{threads} {one.dtype}")


def _alone(one: Measured) -> Text:
    words = {True: ("yes", "green"), False: ("NO", "bold red"), None: ("?", "yellow")}
    return Text(*words[one.machine.exclusive])


def _ms(value: float | None) -> str:
    return "–" if value is None else f"{value:,.{1 if value < 1000 else 0}f}"


def _mebi(value: int | None) -> str:
    return "–" if value is None else f"{value / 2**20:,.0f}"


def _warning(line: str) -> Text:
    return Text(_indented(line), style="yellow")


def _remark(line: str) -> Text:
    return Text(_indented(line), style="dim")


def _indented(line: str) -> str:
    """Printable text; leading blanks are kept."""
    return " " * (len(line) - len(line.lstrip())) + printable(line)
