"""RefCOCO, RefCOCO+ and RefCOCOg: referring expressions, each of which means exactly one box.

Two forms are read. ``finetune_refcoco_val.json`` and the like are documents of MDETR, made of ``refs(unc).p`` and
``refs(umd).p`` by ashkamath/mdetr ``scripts/fine-tuning/refexp_coco_format.py``: one caption per expression, boxes
``[x, y, width, height]`` in pixels. ``refcoco_val.jsonl`` and the like are lines of Qwen-VL and InternVL, ``{"image",
"sent", "bbox", "width", "height"}``, whose boxes are corners ``[x1, y1, x2, y2]`` in pixels of the image: both
evaluators (QwenLM/Qwen-VL ``eval_mm/evaluate_grounding.py``, OpenGVLab/InternVL
``internvl_chat/eval/refcoco/evaluate_grounding.py``) scale a prediction by width and height before they compare it.
Another frame is refused, not guessed. The authors' own ``refs(…).p`` are pickles without boxes: they are not read.

The kind of a query is its data set and split, ``refcoco+/testA``, so that one file may have all eight.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from pathlib import Path

from pydantic import TypeAdapter
from pydantic.dataclasses import dataclass

from ovd_bench.benchmarks.data.files.grounding import (
    FOREIGN,
    Caption,
    Coordinate,
    Pixels,
    json_lines,
    mdetr_expressions,
)
from ovd_bench.benchmarks.data.files.queries import QueryLine, is_query_file
from ovd_bench.benchmarks.data.queries.conversion import Box, ImageNumbers, QueryConversion
from ovd_bench.metrics.errors import DataError

_NAME = re.compile(r"(?<![A-Za-z])(refcocog|refcoco\+|refcoco)_(train|val|testA|testB|test)(?![A-Za-z])")
#: Pixels by which a box may reach over the border: COCO's do by a fraction of one.
_SLACK = 2.0


@dataclass(config=FOREIGN, slots=True, kw_only=True)
class _Expression(Caption):
    file_name: str
    width: Pixels
    height: Pixels


@dataclass(config=FOREIGN, slots=True, kw_only=True)
class _Line:
    image: str
    sent: str
    bbox: tuple[Coordinate, Coordinate, Coordinate, Coordinate]
    width: Pixels
    height: Pixels

    def box(self) -> Box:
        """As x, y, width, height.

        Raises:
            DataError: the box is not two corners in pixels.
        """
        x0, y0, x1, y1 = self.bbox
        inside = min(x0, y0) >= -_SLACK and x1 <= self.width + _SLACK and y1 <= self.height + _SLACK
        if not inside or x0 >= x1 or y0 >= y1 or max(self.bbox) <= 1:
            raise DataError(
                f"bbox: {list(self.bbox)} is no box in {self.width} x {self.height}: x1, y1, x2, y2 in pixels of the "
                "image are needed"
            )
        return x0, y0, x1 - x0, y1 - y0


def convert_refcoco(sources: Sequence[Path], target: Path, *, kind: str = "") -> QueryConversion:
    """Write the expressions of files of one form, in their order.

    Args:
        sources: documents of MDETR (.json), or lines (.jsonl).
        target: the file of queries.
        kind: of all queries; empty = after the names of the files.

    Raises:
        DataError: a file of another form, or files of both.
    """
    if len({is_query_file(source) for source in sources}) > 1:
        raise DataError(f"{sources[0]}: has another form than others: give files of one form, .json or .jsonl")
    report = QueryConversion(target)
    return report.write(sources, _lines(sources, kind, report))


def _lines(sources: Sequence[Path], kind: str, report: QueryConversion) -> Iterator[QueryLine]:
    numbers = ImageNumbers()
    for source in sources:
        found = _NAME.search(source.stem)
        data_set, split = found.groups() if found else ("", "")
        if is_query_file(source):
            kinds = [kind] if kind else _kinds(data_set, split)
            for number, line in json_lines(source, TypeAdapter(_Line)):
                where = f"{source}: line {number}"
                try:
                    box = line.box()
                except DataError as error:
                    raise DataError(f"{where}: {error}") from None
                yield from report.line(
                    where, image_id=numbers[line.image], file_name=line.image, width=line.width, height=line.height,
                    text=line.sent, kinds=kinds, boxes=[box],
                )  # fmt: skip
        else:
            for caption, box in mdetr_expressions(source, TypeAdapter(_Expression)):
                yield from report.line(
                    f"{source}: caption {caption.id}", image_id=caption.image(), file_name=caption.file_name,
                    width=caption.width, height=caption.height, text=caption.caption, boxes=[box],
                    kinds=[kind] if kind else _kinds(caption.dataset_name or data_set, split),
                )  # fmt: skip


def _kinds(data_set: str, split: str) -> list[str]:
    name = "/".join(filter(None, (data_set, split)))
    return [name] if name else []
