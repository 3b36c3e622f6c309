"""SA-Co Gold and Silver: noun phrases that are asked of images, with the boxes of all instances.

Carion et al. 2025, "SAM 3: Segment Anything with Concepts"; facebookresearch/sam3 ``scripts/eval/gold/README.md`` and
``sam3/eval/cgf1_eval.py``. An entry of ``images`` is a pair of an image and a phrase (``text_input``); one without
annotations is absent. Boxes are ``[x, y, width, height]`` as shares of the image; they are those of the masks, which
are not read. They are written in pixels, rounded to hundredths.

Gold has three documents per subset, by three annotators, of the same pairs. Given together, each becomes a file of its
own, ``gold-a.jsonl``, ``gold-b.jsonl`` and ``gold-c.jsonl``, with the same queries in the same order. A pair that is
not annotated exhaustively (``is_instance_exhaustive``), in one of them, is left out of all, as in the official
evaluation. That takes the best of the annotators pair by pair; the figures of one file are those of one annotator.

Boxes of groups (``iscrowd``) are left out. The official evaluation takes a pair with nothing else as absent; here it is
not scored.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass as plain
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field, TypeAdapter
from pydantic.dataclasses import dataclass

from ovd_bench.benchmarks.data.files.grounding import FOREIGN, Id, Pixels, document_records
from ovd_bench.benchmarks.data.files.queries import QueryLine
from ovd_bench.benchmarks.data.queries.conversion import CROWD, Box, ImageNumbers, QueryConversion
from ovd_bench.metrics.errors import DataError

NOT_EXHAUSTIVE = "pairs that are not annotated exhaustively"
UNKNOWN = "boxes of pairs that are not there"

_Share = Annotated[float, Field(ge=-0.001, le=1.001)]
#: Decimal places: shares are stored with 24 bits, and masks begin and end at whole pixels.
_DIGITS = 2
_ANNOTATORS = "abc"


@dataclass(config=FOREIGN, slots=True, kw_only=True)
class _Pair:
    id: Id
    file_name: str
    text_input: str
    width: Pixels
    height: Pixels
    is_instance_exhaustive: Annotated[bool, Field(strict=False)]


@dataclass(config=FOREIGN, slots=True, kw_only=True)
class _Annotation:
    image_id: Id
    bbox: tuple[_Share, _Share, _Share, _Share]
    iscrowd: int = 0


@plain(frozen=True)
class _Document:
    """Pairs by id, and the boxes of those that are present."""

    path: Path
    pairs: dict[int, _Pair]
    boxes: dict[int, list[_Annotation]]

    @staticmethod
    def read(path: Path) -> _Document:
        pairs: dict[int, _Pair] = {}
        boxes: dict[int, list[_Annotation]] = {}
        adapters: dict[str, TypeAdapter[Any]] = {"images": TypeAdapter(_Pair), "annotations": TypeAdapter(_Annotation)}
        for key, record in document_records(path, adapters):
            if key == "annotations":
                boxes.setdefault(record.image_id, []).append(record)
            elif pairs.setdefault(record.id, record) is not record:
                raise DataError(f"{path}: images: id {record.id} appears twice")
        return _Document(path, pairs, boxes)

    def check_same_pairs(self, other: _Document) -> None:
        """Refuse a document of other pairs.

        Raises:
            DataError: names both and the first pair that differs.
        """
        for pair in {**self.pairs, **other.pairs}:
            one, two = self.pairs.get(pair), other.pairs.get(pair)
            if one is None or two is None or (one.file_name, one.text_input) != (two.file_name, two.text_input):
                raise DataError(f"{other.path}: pair {pair} is not that of {self.path}: give files of one subset")

    def lines(self, wanted: Sequence[int], report: QueryConversion) -> Iterator[QueryLine]:
        numbers = ImageNumbers()
        images = {number: numbers[self.pairs[number].file_name] for number in wanted}
        meant = {
            (image, self.pairs[number].text_input)
            for number, image in images.items()
            if any(not row.iscrowd for row in self.boxes.get(number, ()))
        }
        for number, image in images.items():
            pair, found = self.pairs[number], self.boxes.get(number)
            kept = [row for row in found or () if not row.iscrowd]
            report.left_out[CROWD] += len(found or ()) - len(kept)
            yield from report.line(
                f"{self.path}: pair {number}", meant=meant, image_id=image, file_name=pair.file_name,
                width=pair.width, height=pair.height, text=pair.text_input, present=False if found is None else None,
                boxes=report.usable(_pixels(row, pair) for row in kept),
            )  # fmt: skip


def convert_saco(sources: Sequence[Path], target: Path) -> list[QueryConversion]:
    """Write the pairs of one annotator, or the common pairs of several, a file for each.

    Args:
        sources: documents of the annotators a, b, c.
        target: the file of queries; of several, the letter is put before ``.jsonl``.

    Raises:
        DataError: a document of another form, or of other pairs.
    """
    if len(sources) > len(_ANNOTATORS):
        raise DataError(f"{sources[-1]}: is the annotator number {len(sources)}, there are {len(_ANNOTATORS)}")
    documents = [_Document.read(source) for source in sources]
    for other in documents[1:]:
        documents[0].check_same_pairs(other)
    wanted = [
        number for number in documents[0].pairs
        if all(document.pairs[number].is_instance_exhaustive for document in documents)
    ]  # fmt: skip
    reports = []
    for letter, document in zip(_ANNOTATORS, documents, strict=False):
        path = target if len(documents) == 1 else target.with_name(f"{target.stem}-{letter}{target.suffix}")
        report = QueryConversion(path)
        report.left_out[NOT_EXHAUSTIVE] = len(documents[0].pairs) - len(wanted)
        report.left_out[UNKNOWN] = sum(
            len(rows) for number, rows in document.boxes.items() if number not in document.pairs
        )
        reports.append(report.write(list(sources), document.lines(wanted, report)))
    return reports


def _pixels(row: _Annotation, pair: _Pair) -> Box:
    x, y, w, h = row.bbox
    width, height = pair.width, pair.height
    return round(x * width, _DIGITS), round(y * height, _DIGITS), round(w * width, _DIGITS), round(h * height, _DIGITS)
