"""Conversion of Open-GroundingDino's ODVG with phrases into mmdetection's ODVG with spans."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

from ovd_bench.benchmarks.data.files.atomic import file_sha256
from ovd_bench.benchmarks.data.odvg.conversion import DUPLICATE, Conversion, check_target
from ovd_bench.benchmarks.data.odvg.records import MAX_LINE_BYTES, Grounding, OdvgRecord, parse_record, write_odvg
from ovd_bench.benchmarks.data.odvg.spans import placed, regions_by_span, with_joined_phrases
from ovd_bench.metrics.errors import DataError

Progress = Callable[[int], None] | None


def convert_dialect(source: Path, target: Path, progress: Progress = None, *, join_phrases: bool = False) -> Conversion:
    """Rewrite a file with spans: boxes of one phrase are grouped, and phrases are the words at their spans.

    Regions whose phrases are not in their caption are dropped and counted by kind.

    Args:
        source: an ODVG file in either dialect, or in both.
        target: the ODVG file to write.
        progress: called with numbers of records done.
        join_phrases: make a caption of the phrases, as Open-GroundingDino's own reader does.

    Raises:
        DataError: a line is no record, names the line; most boxes would be dropped; or no such folder.
    """
    check_target(source, target)
    report = Conversion(path=target)
    write_odvg(target, report.counted(source, _records(source, join_phrases, report, progress)))
    report.sha256 = file_sha256(target)
    return report


def _records(source: Path, join_phrases: bool, report: Conversion, progress: Progress) -> Iterator[OdvgRecord]:
    found = captions = 0
    for record in _read(source):
        if record.grounding is not None:
            captions += 1
            found += sum(region.tokens_positive is None for region in record.grounding.regions)
            record, misfits = with_joined_phrases(record) if join_phrases else placed(record)
            for region, kind in misfits:
                found -= 1
                report.dropped[kind] += len(region.bbox)
            record = _gathered(record, report)
        yield record
        if progress is not None:
            progress(1)
    if join_phrases:
        report.notes.append(f"{captions:,} captions were replaced by their phrases")
    else:
        report.notes.append(f"{found:,} regions had no spans: they were found in the captions")


def _read(source: Path) -> Iterator[OdvgRecord]:
    """The records of a file.

    Raises:
        DataError: it cannot be read, holds no record, or a line is no record.
    """
    records = 0
    try:
        with source.open("rb") as file:
            for number, line in enumerate(iter(lambda: file.readline(MAX_LINE_BYTES + 1), b""), 1):
                if not line.strip():
                    continue
                try:
                    record = parse_record(line)
                except DataError as error:
                    raise DataError(f"{source}: line {number}: {error}") from None
                records += 1
                yield record
    except OSError as error:
        raise DataError(f"{source}: cannot be read: {error.strerror}") from error
    if not records:
        raise DataError(f"{source}: holds no record")


def _gathered(record: OdvgRecord, report: Conversion) -> OdvgRecord:
    if record.grounding is None:
        return record
    caption = record.grounding.caption
    boxes = ((region.tokens_positive or (), box) for region in record.grounding.regions for box in region.bbox)
    regions, duplicates = regions_by_span(caption, boxes)
    report.dropped[DUPLICATE] += duplicates
    return record.model_copy(update={"grounding": Grounding(caption=caption, regions=regions)})
