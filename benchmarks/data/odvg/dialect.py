"""Conversion of Open-GroundingDino's ODVG with phrases into mmdetection's ODVG with spans."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

from ovd_bench.benchmarks.data.files.atomic import file_sha256
from ovd_bench.benchmarks.data.odvg.conversion import DUPLICATE, Conversion, check_target
from ovd_bench.benchmarks.data.odvg.index import OdvgFile
from ovd_bench.benchmarks.data.odvg.records import Grounding, OdvgRecord, write_odvg
from ovd_bench.benchmarks.data.odvg.spans import regions_by_span, with_spans

Progress = Callable[[int], None] | None


def convert_dialect(source: Path, target: Path, progress: Progress = None) -> Conversion:
    """Rewrite a file with spans: boxes of one phrase are grouped, and phrases are the words at their spans.

    Args:
        source: an ODVG file in either dialect, or in both.
        target: the ODVG file to write.
        progress: called with numbers of records done.

    Raises:
        DataError: a file that :meth:`OdvgFile.open` does not accept, such as one with a phrase that is not in its
            caption; or no such folder.
    """
    check_target(source, target)
    report = Conversion(path=target)
    file = OdvgFile.open(source)
    write_odvg(target, map(report.count, _records(file, report, progress)))
    report.sha256 = file_sha256(target)
    return report


def _records(file: OdvgFile, report: Conversion, progress: Progress) -> Iterator[OdvgRecord]:
    found = 0
    for record in file:
        if record.grounding is not None:
            found += sum(region.tokens_positive is None for region in record.grounding.regions)
            record = _gathered(with_spans(record), report)
        yield record
        if progress is not None:
            progress(1)
    report.notes.append(f"{found:,} regions had no spans: they were found in the captions")


def _gathered(record: OdvgRecord, report: Conversion) -> OdvgRecord:
    if record.grounding is None:
        return record
    caption = record.grounding.caption
    boxes = ((region.tokens_positive or (), box) for region in record.grounding.regions for box in region.bbox)
    regions, duplicates = regions_by_span(caption, boxes)
    report.dropped[DUPLICATE] += duplicates
    return record.model_copy(update={"grounding": Grounding(caption=caption, regions=regions)})
