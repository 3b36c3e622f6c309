"""The columns of the board with headings and units, shared by all formats."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from ovd_bench.benchmarks.board.measured_speed import DOUBTED, OLD_WAY, speed_mark
from ovd_bench.benchmarks.board.rows import BoardTable, Row
from ovd_bench.benchmarks.store.schema import Contamination
from ovd_bench.metrics.departure import departure_text, is_protocol, protocol_named


@dataclass(frozen=True)
class Column:
    """One number per row.

    Attributes:
        key: in JSON and CSV, where numbers are raw.
        heading: text shown to readers.
        meaning: one line.
        raw: the number, None where undefined.
        show: formats the number for readers.
        optional: left out if no row has it.
        metric: name in ``result.json`` where the number is a metric, which may have an interval.
        mark: a sign behind the number that a note below the table explains; empty = none.
    """

    key: str
    heading: str
    meaning: str
    raw: Callable[[Row], float | None]
    show: Callable[[float], str]
    optional: bool = False
    metric: str = ""
    mark: Callable[[Row], str] = lambda row: ""

    def text(self, row: Row) -> str:
        """Text of a cell with its mark; a dash if undefined."""
        value = self.raw(row)
        return "–" if value is None else f"{self.show(value)} {self.mark(row)}".rstrip()


def percent(value: float) -> str:
    """A share in percent, two digits."""
    return f"{100 * value:.2f}"


def signed(value: float) -> str:
    """A difference of shares in percent, with its sign."""
    return f"{100 * value:+.2f}"


def gibibytes(value: float) -> str:
    """Bytes as GiB."""
    return f"{value / 2**30:.2f} GiB"


def count(value: float) -> str:
    """A number of parameters as M or B."""
    return f"{value / 1e9:.2f} B" if value >= 1e9 else f"{value / 1e6:.1f} M"


def _rate(value: float) -> str:
    return f"{value:.1f}" if value >= 1 else f"{value:.2g}"


def _metric(
    name: str, heading: str, meaning: str, show: Callable[[float], str] = percent, optional: bool = False
) -> Column:
    return Column(name, heading, meaning, lambda row: row.value(name), show, optional, name)


COLUMNS = (
    _metric("AP", "AP", "average precision, IoU 0.50:0.95, mean over classes"),
    _metric("AP50", "AP50", "average precision at IoU 0.50"),
    _metric("APr", "APr", "AP of rare classes (1 to 10 training images)", optional=True),
    _metric("APc", "APc", "AP of common classes (11 to 100 training images)", optional=True),
    _metric("APf", "APf", "AP of frequent classes (over 100 training images)", optional=True),
    _metric("unseen/APu", "APu", "AP of classes that no training image shows", optional=True),
    _metric(
        "ladder/semantic_gap", "gap", "semantic gap: AP with supercategories for labels minus AP", signed, optional=True
    ),
    _metric(
        "presence/auroc", "presence", "AUROC of 'is this class in the image', from its highest score", optional=True
    ),
    _metric(
        "queries/R@1_any", "R@1", "share of queries whose best box has IoU 0.5 with one of their boxes", optional=True
    ),
    _metric("queries/R@10_any", "R@10", "the same for the ten best boxes", optional=True),
    _metric("queries/mIoU", "mIoU", "mean IoU of the best box of a query, 0 without a box", optional=True),
    _metric(
        "queries/fpr95",
        "FPR95",
        "share of absent queries that score as high as 95 % of the present ones; lower is better",
        optional=True,
    ),
    Column(
        "images_per_second",
        "images/s",
        "during the run, from the median time of a warm image; loading and first calls, which compile, are not in it; "
        f"{DOUBTED} not measured alone, {OLD_WAY} made the old way: see the note below the table",
        lambda row: row.result.speed.images_per_second,
        _rate,
        mark=lambda row: speed_mark(row.result),
    ),
    Column(
        "peak_memory_bytes",
        "memory",
        "largest resident set of a worker process",
        lambda row: row.result.speed.peak_memory_bytes,
        gibibytes,
    ),
    Column(
        "peak_gpu_bytes",
        "GPU memory",
        "most GPU memory in use",
        lambda row: row.result.speed.peak_gpu_bytes,
        gibibytes,
        optional=True,
    ),
    Column("parameters", "parameters", "numbers in the weights", lambda row: row.result.detector.parameters, count),
)


def shown_columns(rows: Sequence[Row]) -> list[Column]:
    """Columns without the optional ones that no row has."""
    return [column for column in COLUMNS if not column.optional or any(column.raw(row) is not None for row in rows)]


def spread(row: Row) -> str:
    """Half of the 95 % interval of AP in percent, with its sign; empty without an interval."""
    metric = row.metric("AP")
    if metric.ci95 is None or metric.value is None:
        return ""
    return f"± {50 * (metric.ci95[1] - metric.ci95[0]):.2f}"


_LEVELS = {
    "test-images": "the test images, or some of them, were seen in training",
    "train-split": "trained on the training split of this benchmark: not zero-shot",
    "unknown": "overlap with its training data cannot be judged",
    "names": "names of the benchmark among the labels of the training data",
}


def contamination_notes(rows: Sequence[Row]) -> tuple[dict[str, list[int]], list[str]]:
    """Footnotes of the contamination flags: numbers per result id, and the texts in order of the numbers."""
    texts: list[str] = []
    numbers: dict[str, list[int]] = {}
    for row in rows:
        for entry in row.result.contamination:
            text = _contamination(entry)
            if text not in texts:
                texts.append(text)
            marks = numbers.setdefault(row.result.id, [])
            if texts.index(text) + 1 not in marks:
                marks.append(texts.index(text) + 1)
    return numbers, texts


def _contamination(entry: Contamination) -> str:
    parts = [f"{entry.dataset}: {_LEVELS[entry.level]}" if entry.dataset else _LEVELS[entry.level]]
    return " – ".join([*parts, entry.note] if entry.note else parts)


def table_facts(table: BoardTable) -> str:
    """The protocol of a table, in one line."""
    benchmark, protocol = table.benchmark, table.protocol
    size = "own image size" if protocol.image_size is None else f"image size {protocol.image_size}"
    versions = protocol.versions or {}
    judge = protocol.judge
    departure = departure_text(protocol_named(protocol.name)) if is_protocol(protocol.name) else ""
    return " · ".join(
        (
            *([f"departs from COCO: {departure}"] if departure else []),
            f"{benchmark.images:,} images",
            f"{benchmark.classes:,} classes",
            f"{benchmark.boxes:,} boxes",
            f"vocabulary {protocol.vocabulary}",
            *([f"captions {protocol.reading}"] if protocol.reading else []),
            f"prompts {protocol.plan.name}",
            f"top {protocol.top_k:,}" + (f", {protocol.chunk_top_k:,} per chunk" if protocol.chunk_top_k else ""),
            size,
            *(f"{name} {version}" for name, version in versions.items()),
            *([f"judge {judge.name} {judge.sha256[:8]}"] if judge else []),
            f"annotations {benchmark.annotations_sha256[:8]}",
            f"protocol {protocol.sha256[:8]}",
        )
    )


def difference(row: Row) -> tuple[str, str]:
    """Distance to the leader in percent, and the 95 % interval of the paired comparison; empty where there is none."""
    standing = row.standing
    if standing.delta is None or standing.basis == "best":
        return "", ""
    interval = "" if standing.ci95 is None else " … ".join(signed(end) for end in standing.ci95)
    return signed(standing.delta), interval
