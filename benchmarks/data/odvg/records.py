"""ODVG: JSON lines for training on boxes with classes or with captions, in its two dialects.

One line is one image, with either ``detection`` (boxes with labels, 0-based positions in a label map file) or
``grounding`` (a caption, and boxes for phrases of it). The dialect of mmdetection gives character spans
(``tokens_positive``) and may give several boxes per phrase; the one of Open-GroundingDino gives one box and the phrase.
Both are read; the first is written.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, TypeAdapter, ValidationError, model_validator

from ovd_bench.benchmarks.data.files.atomic import atomic_write
from ovd_bench.benchmarks.data.files.documents import first_problem, read_document
from ovd_bench.benchmarks.data.text import printable
from ovd_bench.metrics.errors import DataError

#: A longer line is not an image record; the limit keeps a malicious file from filling the memory.
MAX_LINE_BYTES = 64 * 2**20
_MAX_LABEL_MAP_BYTES = 64 * 2**20

_Coordinate = Annotated[float, Field(allow_inf_nan=False, ge=-1e9, le=1e9)]
_Name = Annotated[str, Field(min_length=1)]


class _Record(BaseModel):
    # Files are validated strictly, but a JSON list must be accepted as a tuple.
    model_config = ConfigDict(frozen=True, strict=True, extra="ignore")


def _check_order(box: tuple[float, float, float, float]) -> None:
    x0, y0, x1, y1 = box
    if x1 < x0 or y1 < y0:
        raise ValueError(f"bbox {list(box)} is not x0, y0, x1, y1")


Box = Annotated[tuple[_Coordinate, _Coordinate, _Coordinate, _Coordinate], Field(strict=False)]
Span = Annotated[tuple[Annotated[int, Field(ge=0)], int], Field(strict=False)]


class Instance(_Record):
    """A box with a class.

    Attributes:
        bbox: x0, y0, x1, y1 in absolute pixels.
        label: 0-based position in the label map.
        category: name of the class, for readers.
    """

    bbox: Box
    label: Annotated[int, Field(ge=0, lt=2**31)]
    category: str | None = None

    @model_validator(mode="after")
    def _ordered(self) -> Instance:
        _check_order(self.bbox)
        return self


class Detection(_Record):
    """All annotated boxes of an image."""

    instances: Annotated[tuple[Instance, ...], Field(strict=False)]


def _as_list_of_boxes(value: object) -> object:
    flat = isinstance(value, list | tuple) and bool(value) and not isinstance(value[0], list | tuple)
    return [value] if flat else value


def _as_list_of_phrases(value: object) -> object:
    return [value] if isinstance(value, str) else value


class Region(_Record):
    """Boxes of one phrase of a caption.

    Attributes:
        bbox: one or more boxes, x0, y0, x1, y1 in absolute pixels.
        phrase: the phrase, or several that refer to the same boxes.
        tokens_positive: character spans, begin and end, in the caption; None in Open-GroundingDino's dialect.
    """

    bbox: Annotated[tuple[Box, ...], BeforeValidator(_as_list_of_boxes), Field(strict=False, min_length=1)]
    phrase: Annotated[tuple[_Name, ...], BeforeValidator(_as_list_of_phrases), Field(strict=False, min_length=1)]
    tokens_positive: Annotated[tuple[Span, ...], Field(strict=False, min_length=1)] | None = None

    @model_validator(mode="after")
    def _ordered(self) -> Region:
        for box in self.bbox:
            _check_order(box)
        return self


class Grounding(_Record):
    """A caption and the boxes of its phrases."""

    caption: _Name
    regions: Annotated[tuple[Region, ...], Field(strict=False)]

    @model_validator(mode="after")
    def _spans_inside(self) -> Grounding:
        for region in self.regions:
            for begin, end in region.tokens_positive or ():
                if not begin < end <= len(self.caption):
                    raise ValueError(
                        f"tokens_positive [{begin}, {end}] is not a span of a caption of {len(self.caption)} characters"
                    )
        return self


class OdvgRecord(_Record):
    """One line: an image with either detection or grounding annotations.

    Attributes:
        filename: path of the image relative to the image folder, not to be trusted.
        height, width: size of the image in pixels.
        detection, grounding: exactly one of them.
    """

    filename: _Name
    height: Annotated[int, Field(gt=0, lt=2**31)]
    width: Annotated[int, Field(gt=0, lt=2**31)]
    detection: Detection | None = None
    grounding: Grounding | None = None

    @model_validator(mode="after")
    def _one_kind(self) -> OdvgRecord:
        if (self.detection is None) == (self.grounding is None):
            raise ValueError("a record needs either 'detection' or 'grounding'")
        return self


_LABEL_MAP = TypeAdapter(dict[str, str], config=ConfigDict(strict=True))


def parse_record(line: bytes) -> OdvgRecord:
    """The record of one line.

    Raises:
        DataError: invalid record; field and problem, without file and line number.
    """
    try:
        return OdvgRecord.model_validate_json(line)
    except ValidationError as error:
        raise DataError(first_problem(error)) from None


def write_odvg(path: Path, records: Iterable[OdvgRecord]) -> int:
    """Write records in mmdetection's dialect atomically and return their number.

    Raises:
        DataError: a grounding region without character spans, which this dialect needs, or no such folder.
    """
    count = 0
    with atomic_write(path) as file:
        for record in records:
            count += 1
            file.write(_line(record, f"{path}: record {count}"))
    return count


def _line(record: OdvgRecord, where: str) -> bytes:
    row: dict[str, Any] = {"filename": record.filename, "height": record.height, "width": record.width}
    if record.detection is not None:
        row["detection"] = record.detection.model_dump(exclude_none=True)
    if record.grounding is not None:
        for region in record.grounding.regions:
            if region.tokens_positive is None:
                phrase = printable(region.phrase[0])
                raise DataError(
                    f"{where}: phrase '{phrase}' has no tokens_positive: find its span in the caption first"
                )
        row["grounding"] = {
            "caption": record.grounding.caption,
            "regions": [
                {
                    "bbox": region.bbox,
                    "phrase": region.phrase if len(region.phrase) > 1 else region.phrase[0],
                    "tokens_positive": region.tokens_positive,
                }
                for region in record.grounding.regions
            ],
        }
    return (json.dumps(row, ensure_ascii=False, separators=(",", ":")) + "\n").encode()


def write_label_map(path: Path, names: Sequence[str]) -> None:
    """Write the label map: one JSON object from label, as text, to class name.

    Raises:
        DataError: no such folder.
    """
    with atomic_write(path) as file:
        file.write(json.dumps({str(i): name for i, name in enumerate(names)}, ensure_ascii=False).encode())


def _other_label_map(content: bytes) -> str:
    """What a file that is no label map is instead, and what to do; empty if that is not known."""
    try:
        document = json.loads(content)
    except (ValueError, RecursionError):
        return ""
    if isinstance(document, list):
        return 'is a list: a label map is an object, {"0": "first name", "1": "second name"}'
    if isinstance(document, dict) and document and all(isinstance(value, int) for value in document.values()):
        return 'maps names to labels: the other way round is needed, {"0": "first name"}'
    return ""


def read_label_map(path: Path) -> tuple[str, ...]:
    """Class names in the order of their labels.

    Raises:
        DataError: no such file, not a label map, or labels that are not 0 … K-1.
    """
    content = read_document(path, _MAX_LABEL_MAP_BYTES, "label map")
    try:
        names: Mapping[str, str] = _LABEL_MAP.validate_json(content)
    except ValidationError as error:
        raise DataError(f"{path}: {_other_label_map(content) or first_problem(error)}") from None
    missing = next((i for i in range(len(names)) if str(i) not in names), None)
    if missing == 0 and all(str(i) in names for i in range(1, len(names) + 1)):
        raise DataError(f"{path}: labels run from 1 to {len(names)}: count from 0, here and in the records")
    if missing is not None or not names:
        raise DataError(f"{path}: label {missing or 0} is missing: labels are 0 … K-1 without a gap")
    return tuple(names[str(i)] for i in range(len(names)))
