"""Files of queries as training records: one caption per image and text, with the boxes of its spans.

The format has no negatives: a query that is absent, or without boxes, becomes nothing. A training takes all other
words of a caption for negatives of every box, and every other place of the image for background.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

from pydantic import TypeAdapter

from ovd_bench.benchmarks.data.files.atomic import file_sha256
from ovd_bench.benchmarks.data.files.grounding import json_lines
from ovd_bench.benchmarks.data.files.queries import QueryLine, read_queries
from ovd_bench.benchmarks.data.odvg.conversion import DUPLICATE, Conversion, check_target
from ovd_bench.benchmarks.data.odvg.records import Grounding, OdvgRecord, write_odvg
from ovd_bench.benchmarks.data.odvg.spans import BoxXyxy, Span, regions_by_span
from ovd_bench.metrics.errors import DataError

ABSENT = "queries of something absent: the format has no negatives"
UNSCORED = "queries without boxes"
EMPTY = "captions without a box"

Progress = Callable[[int], None] | None
_ADAPTER = TypeAdapter(QueryLine)


def convert_queries(source: Path, target: Path, progress: Progress = None) -> Conversion:
    """Write every image and text that have a box, in the order of their first query.

    Args:
        source: file of queries.
        target: the ODVG file.
        progress: called with numbers of captions done.

    Raises:
        DataError: not a file of queries, or an image without a size; names file and line.
    """
    read_queries(source)  # refuses what single lines do not show, such as two sizes of an image
    check_target(source, target)
    report = Conversion(path=target, phrases=0)
    captions: dict[tuple[int, str], list[QueryLine]] = {}
    partial = 0
    for number, line in json_lines(source, _ADAPTER):
        if not line.width or not line.height:
            raise DataError(f"{source}: line {number}: width and height are missing: training records need them")
        partial += not line.exhaustive and bool(line.boxes)
        captions.setdefault((line.image_id, line.text), []).append(line)
    write_odvg(target, report.counted(source, _records(captions, report, progress)))
    if partial:
        report.notes.append(
            f"{partial:,} queries may have more boxes than the file gives: a training takes these for background"
        )
    report.sha256 = file_sha256(target)
    return report


def _records(
    captions: dict[tuple[int, str], list[QueryLine]], report: Conversion, progress: Progress
) -> Iterator[OdvgRecord]:
    for (_, text), lines in captions.items():
        regions, repeated = regions_by_span(text, list(_pairs(text, lines, report)))
        report.dropped[DUPLICATE] += repeated
        if progress is not None:
            progress(1)
        if not regions:
            report.left_out[EMPTY] += 1
            continue
        first = lines[0]
        grounding = Grounding(caption=text, regions=regions)
        yield OdvgRecord(filename=first.file_name, height=first.height, width=first.width, grounding=grounding)


def _pairs(text: str, lines: list[QueryLine], report: Conversion) -> Iterator[tuple[list[Span], BoxXyxy]]:
    for line in lines:
        if not line.boxes:
            report.left_out[ABSENT if line.present is False else UNSCORED] += 1
        spans = list(line.spans) or [(0, len(text))]
        for x, y, width, height in line.boxes:
            kept = report.clip((x, y, x + width, y + height), line.width, line.height)
            if kept is not None:
                yield spans, kept
