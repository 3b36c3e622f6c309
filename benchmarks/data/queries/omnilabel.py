"""OmniLabel: category names and free-form descriptions that are asked of images, positive and negative ones.

Schulter et al. 2023, "OmniLabel: a challenging benchmark for language-based object detection"; official toolkit
samschulter/omnilabeltools (``README.md``, ``omnilabel.py``, ``eval.py``). A document has ``images``, ``descriptions``
with the images that each is asked of, and ``annotations``, whose boxes ``[x, y, width, height]`` list the descriptions
that mean them. A description that is asked and has no box is absent. The files of the test server have no annotations.

Kinds are the groups of the official evaluation: ``categ``; ``descr``, ``descr-pos`` for those with a box in the image,
and ``descr-s``, ``descr-m``, ``descr-l`` for those of up to 3, 4 to 8, and more words. ``metrics.query_ap`` has its AP.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any, TypeVar

from pydantic import FailFast, TypeAdapter
from pydantic.dataclasses import dataclass

from ovd_bench.benchmarks.data.files.grounding import FOREIGN, Id, TrueBox, document_records
from ovd_bench.benchmarks.data.files.queries import QueryLine
from ovd_bench.benchmarks.data.queries.conversion import CROWD, NOT_ASKED, QueryConversion
from ovd_bench.metrics.errors import DataError


@dataclass(config=FOREIGN, slots=True, kw_only=True)
class _Image:
    id: Id
    file_name: str


@dataclass(config=FOREIGN, slots=True, kw_only=True)
class _About:
    type: str


@dataclass(config=FOREIGN, slots=True, kw_only=True)
class _Description:
    id: Id
    text: str
    image_ids: Annotated[list[Id], FailFast()]
    anno_info: _About


@dataclass(config=FOREIGN, slots=True, kw_only=True)
class _Annotation:
    image_id: Id
    bbox: TrueBox
    description_ids: Annotated[list[Id], FailFast()]
    iscrowd: int = 0


_Record = TypeVar("_Record", _Image, _Description)


def convert_omnilabel(source: Path, target: Path) -> QueryConversion:
    """Write every description of every image that it is asked of, in the order of the descriptions.

    Raises:
        DataError: not such a document, or one without annotations.
    """
    report = QueryConversion(target)
    return report.write([source], _lines(source, report))


def _lines(source: Path, report: QueryConversion) -> Iterator[QueryLine]:
    images: dict[int, _Image] = {}
    descriptions: dict[int, _Description] = {}
    boxes: dict[tuple[int, int], list[TrueBox]] = {}
    adapters: dict[str, TypeAdapter[Any]] = {
        "images": TypeAdapter(_Image),
        "descriptions": TypeAdapter(_Description),
        "annotations": TypeAdapter(_Annotation),
    }
    for key, record in document_records(source, adapters):
        if key == "images":
            _put(f"{source}: {key}", images, record)
        elif key == "descriptions":
            _put(f"{source}: {key}", descriptions, record)
        else:
            for number in dict.fromkeys(record.description_ids):
                pair = boxes.setdefault((record.image_id, number), [])
                if record.iscrowd:
                    report.left_out[CROWD] += 1
                else:
                    pair.append(record.bbox)
    meant = {
        (image, descriptions[number].text)
        for (image, number), found in boxes.items()
        if found and number in descriptions
    }
    for description in descriptions.values():
        free = description.anno_info.type == "object_description"
        for image_id in dict.fromkeys(description.image_ids):
            if image_id not in images:
                raise DataError(f"{source}: descriptions: {description.id}: image {image_id} is not among images")
            found = boxes.pop((image_id, description.id), None)
            yield from report.line(
                f"{source}: description {description.id}",
                meant=meant,
                image_id=image_id,
                file_name=images[image_id].file_name,
                text=description.text,
                present=False if found is None else None,
                boxes=found or [],
                kinds=_kinds(description.text, found is not None) if free else ["categ"],
            )
    if boxes:
        report.left_out[NOT_ASKED] += sum(map(len, boxes.values()))


def _put(where: str, table: dict[int, _Record], record: _Record) -> None:
    if record.id in table:
        raise DataError(f"{where}: id {record.id} appears twice")
    table[record.id] = record


def _kinds(text: str, positive: bool) -> list[str]:
    words = len(text.split())
    length = "descr-s" if words <= 3 else "descr-m" if words <= 8 else "descr-l"
    return ["descr", *(["descr-pos"] if positive else []), length]
