"""The caption files of MDETR as ODVG.

GoldG is two of them, ``final_mixed_train_no_coco.json`` (GQA) and ``final_flickr_separateGT_train.json``. Each is one
JSON object of up to several GB, so it is mapped into memory and read twice: once for the positions of the records, once
caption by caption.
"""

from __future__ import annotations

import mmap
from array import array
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Annotated, TypeVar

import numpy as np
import numpy.typing as npt
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from ovd_bench.benchmarks.data.files.atomic import content_kind, file_sha256
from ovd_bench.benchmarks.data.files.documents import first_problem
from ovd_bench.benchmarks.data.files.grounding import MAX_RECORD_BYTES, Pixels
from ovd_bench.benchmarks.data.files.json_elements import array_elements
from ovd_bench.benchmarks.data.odvg.conversion import CROWD, DUPLICATE, Conversion, check_target
from ovd_bench.benchmarks.data.odvg.records import Grounding, OdvgRecord, write_odvg
from ovd_bench.benchmarks.data.odvg.spans import BoxXyxy, Span, regions_by_span
from ovd_bench.metrics.errors import DataError

NO_SPAN = "without a span in the caption"
SPAN_OUTSIDE = "span outside the caption"
NO_CAPTION = "of a caption that is not there"
EMPTY = "captions without a box"

Progress = Callable[[int], None] | None


_Id = Annotated[int, Field(ge=-(2**63), lt=2**63)]
_Coordinate = Annotated[float, Field(allow_inf_nan=False, ge=-1e9, le=1e9)]


class _Record(BaseModel):
    model_config = ConfigDict(frozen=True, strict=True, extra="ignore")


class _Caption(_Record):
    id: _Id
    file_name: Annotated[str, Field(min_length=1)]
    caption: Annotated[str, Field(min_length=1)]
    height: Pixels
    width: Pixels


class _Owned(_Record):
    image_id: _Id


class _Box(_Owned):
    bbox: Annotated[tuple[_Coordinate, _Coordinate, _Coordinate, _Coordinate], Field(strict=False)]  # x, y, w, h
    tokens_positive: Annotated[tuple[Annotated[tuple[int, int], Field(strict=False)], ...], Field(strict=False)]
    iscrowd: int = 0


_Model = TypeVar("_Model", bound=_Record)


def convert_goldg(source: Path, target: Path, progress: Progress = None) -> Conversion:
    """Write the captions of an MDETR document that have boxes, in the order of the file.

    Args:
        source: the JSON file.
        target: the ODVG file.
        progress: called with numbers of captions done.

    Raises:
        DataError: not such a document, a record with a missing or wrong field, or no such folder.
    """
    check_target(source, target)
    if content_kind(source) != "JSON":
        raise DataError(f"{source}: a file of MDETR is JSON")
    report = Conversion(path=target, phrases=0)
    with source.open("rb") as file:
        document = _Document(source, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ))
    write_odvg(target, report.counted(source, document.records(report, progress)))
    report.sha256 = file_sha256(target)
    return report


class _Document:
    """Positions of the records of a document: 32 bytes for each annotation, 16 for each caption."""

    def __init__(self, path: Path, data: mmap.mmap) -> None:
        self._path, self._data = path, data
        begins = {"images": array("q"), "annotations": array("q")}
        ends = {"images": array("q"), "annotations": array("q")}
        owners = array("q")
        for key, begin, end in array_elements(path, data, ("images", "annotations"), MAX_RECORD_BYTES):
            if key == "annotations":
                owners.append(self._parse(_Owned, key, len(begins[key]), begin, end).image_id)
            begins[key].append(begin)
            ends[key].append(end)
        self._captions = np.stack([_ints(begins["images"]), _ints(ends["images"])], axis=1)
        self._boxes = np.stack([_ints(begins["annotations"]), _ints(ends["annotations"])], axis=1)
        self._order = np.argsort(_ints(owners), kind="stable")
        self._owners = _ints(owners)[self._order]

    def records(self, report: Conversion, progress: Progress) -> Iterator[OdvgRecord]:
        """Records of the captions with boxes; the others are counted."""
        seen = set[int]()
        used = 0
        for number, (begin, end) in enumerate(self._captions.tolist()):
            caption = self._parse(_Caption, "images", number, begin, end)
            if caption.id in seen:
                raise DataError(f"{self._path}: images[{number}]: id: {caption.id} appears twice")
            seen.add(caption.id)
            first, last = (int(np.searchsorted(self._owners, caption.id, side)) for side in ("left", "right"))
            used += last - first
            boxes = self._usable(caption, self._order[first:last].tolist(), report)
            regions, duplicates = regions_by_span(caption.caption, boxes)
            report.dropped[DUPLICATE] += duplicates
            if progress is not None:
                progress(1)
            if not regions:
                report.left_out[EMPTY] += 1
                continue
            grounding = Grounding(caption=caption.caption, regions=regions)
            yield OdvgRecord(
                filename=caption.file_name, height=caption.height, width=caption.width, grounding=grounding
            )
        report.dropped[NO_CAPTION] += len(self._owners) - used

    def _usable(
        self, caption: _Caption, numbers: list[int], report: Conversion
    ) -> Iterator[tuple[tuple[Span, ...], BoxXyxy]]:
        for number in numbers:
            row = self._parse(_Box, "annotations", number, *self._boxes[number].tolist())
            x, y, w, h = row.bbox
            if row.iscrowd:
                report.dropped[CROWD] += 1
            elif not row.tokens_positive:
                report.dropped[NO_SPAN] += 1
            elif any(not 0 <= begin < end <= len(caption.caption) for begin, end in row.tokens_positive):
                report.dropped[SPAN_OUTSIDE] += 1
            elif (box := report.clip((x, y, x + w, y + h), caption.width, caption.height)) is not None:
                yield row.tokens_positive, box

    def _parse(self, model: type[_Model], key: str, number: int, begin: int, end: int) -> _Model:
        try:
            return model.model_validate_json(self._data[begin:end])
        except ValidationError as error:
            raise DataError(f"{self._path}: {key}[{number}]: {first_problem(error)}") from None


def _ints(values: array[int]) -> npt.NDArray[np.int64]:
    return np.frombuffer(values, np.int64) if values else np.empty(0, np.int64)
