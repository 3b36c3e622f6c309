"""Common parts of all converters: filtering of boxes, counts, and the report."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from ovd_bench.benchmarks.data.odvg.records import OdvgRecord
from ovd_bench.benchmarks.data.odvg.spans import ABSENT, BLANK, INSIDE, BoxXyxy
from ovd_bench.metrics.errors import DataError

#: Thinner boxes are dropped, as mmdetection's converters do.
MIN_SIDE = 1.0
#: Decimal places: hundredths of a pixel, as in COCO and LVIS.
DIGITS = 2

CROWD = "crowd"
IGNORED = "marked to be ignored"
OUTSIDE = "outside the image"
NO_AREA = "without area"
THIN = "thinner than a pixel inside the image"
DUPLICATE = "repeated"

#: Reasons that a wrong form of boxes or captions shows in; others, such as crowds, are left out on purpose.
_MISFITS = (OUTSIDE, NO_AREA, THIN, ABSENT, INSIDE, BLANK)
#: Share of the boxes that may be dropped for these reasons.
MAX_MISFITS = 0.5


@dataclass
class Conversion:
    """Result of a conversion.

    Attributes:
        path: the ODVG file.
        sha256: hash of the ODVG file.
        label_map: its label map; None for captions.
        records, boxes, phrases: written; a phrase may have several boxes.
        empty: records written that have no box.
        clipped: boxes kept that were clipped at the border of their image.
        dropped: annotations left out, by reason.
        left_out: images or captions left out, by reason.
        notes: one line each.
    """

    path: Path
    sha256: str = ""
    label_map: Path | None = None
    classes: int | None = None
    records: int = 0
    boxes: int = 0
    phrases: int | None = None
    empty: int = 0
    clipped: int = 0
    dropped: Counter[str] = field(default_factory=Counter)
    left_out: Counter[str] = field(default_factory=Counter)
    notes: list[str] = field(default_factory=list)

    def counted(self, source: Path, records: Iterable[OdvgRecord]) -> Iterator[OdvgRecord]:
        """Count the records that are written, and refuse a source most of whose boxes do not fit.

        Args:
            source: file or folder that the records come from.
            records: to write.

        Raises:
            DataError: more than half of the boxes were dropped because they, or their phrases, do not fit.
        """
        for record in records:
            self._count(record)
            yield record
        misfits = {reason: count for reason in _MISFITS if (count := self.dropped[reason])}
        lost, total = sum(misfits.values()), self.boxes + sum(misfits.values())
        if lost > MAX_MISFITS * total:
            reasons = ", ".join(f"{count:,} {reason}" for reason, count in misfits.items())
            raise DataError(
                f"{source}: {lost:,} of {total:,} boxes do not fit ({reasons}), more than {MAX_MISFITS:.0%}: "
                "nothing is written; correct their form, or the captions"
            )

    def _count(self, record: OdvgRecord) -> None:
        boxes = 0
        if record.detection is not None:
            boxes = len(record.detection.instances)
        elif record.grounding is not None:
            boxes = sum(len(region.bbox) for region in record.grounding.regions)
            self.phrases = (self.phrases or 0) + len(record.grounding.regions)
        self.records += 1
        self.boxes += boxes
        self.empty += boxes == 0

    def clip(self, box: BoxXyxy, width: int, height: int) -> BoxXyxy | None:
        """The part of a box inside its image, or None, which is counted, if no usable part is inside.

        mmdetection's converters drop the same boxes but do not clip the others; its training clips them.

        Args:
            box: x0, y0, x1, y1 in pixels.
            width: width of the image in pixels.
            height: height of the image in pixels.
        """
        x0, y0, x1, y1 = box
        if x1 <= x0 or y1 <= y0:
            self.dropped[NO_AREA] += 1
            return None
        if x1 <= 0 or y1 <= 0 or x0 >= width or y0 >= height:
            self.dropped[OUTSIDE] += 1
            return None
        inside = max(x0, 0.0), max(y0, 0.0), min(x1, float(width)), min(y1, float(height))
        if inside[2] - inside[0] < MIN_SIDE or inside[3] - inside[1] < MIN_SIDE:
            self.dropped[THIN] += 1
            return None
        kept = _rounded(inside)
        if inside != box and kept != _rounded(box):  # else only rounding of x + w exceeded the border
            self.clipped += 1
        return kept


def _rounded(box: BoxXyxy) -> BoxXyxy:
    x0, y0, x1, y1 = box
    return round(x0, DIGITS), round(y0, DIGITS), round(x1, DIGITS), round(y1, DIGITS)


def label_map_path(path: Path) -> Path:
    """Path of the label map of an ODVG file in the same folder: ``x.label_map.json`` for ``x.jsonl``."""
    return path.with_suffix(".label_map.json")


def check_target(source: Path, target: Path) -> None:
    """Refuse to overwrite the source.

    Raises:
        DataError: both paths are the same file.
    """
    if target.exists() and source.exists() and target.samefile(source):
        raise DataError(f"{target}: is the file that is read: choose another name for the output")
