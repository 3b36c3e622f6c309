"""D³, the Description Detection Dataset: descriptions that are asked of images, most of them absent.

Xie et al. 2023, "Described object detection"; official toolkit shikras/d-cube (``ddd-dataset``), ``doc.md`` and
``d_cube/d3.py``. ``d3_json`` has COCO documents whose categories are the descriptions
(``d3_full_annotations.json``; ``d3_pres_…`` and ``d3_abs_…`` are parts of it). ``d3_pkl`` has the tables
``sentences.pkl``, ``images.pkl`` and ``groups.pkl``, which say what a description is about and which images and
descriptions belong to one group (scenario); ``annotations.pkl`` is not needed. A table may also be a ``.json`` file.

* ``intra``: an image is asked the descriptions of its group, about four. This is the usual setting.
* ``inter``: all descriptions are asked of all images, 422 of each.

Kinds are ``pres`` or ``abs`` (``is_negative``: the description is about the absence of something) and the length in
words as the official script sorts it: ``short`` up to 3, ``mid`` up to 6, ``long`` up to 9, ``very-long``. FULL is all.

Only what is asked counts. The official script scores a document as it is, so boxes of descriptions that were not asked
are misses in it; here they are left out, and counted.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Annotated, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, FailFast, Field, ValidationError
from pydantic_core import from_json

from ovd_bench.benchmarks.data.files.annotations import read_ground_truth
from ovd_bench.benchmarks.data.files.documents import first_problem, read_document
from ovd_bench.benchmarks.data.files.grounding import Id
from ovd_bench.benchmarks.data.files.queries import QueryLine
from ovd_bench.benchmarks.data.queries.conversion import CROWD, NOT_ASKED, QueryConversion
from ovd_bench.benchmarks.data.queries.plain_pickle import MAX_BYTES, read_plain_pickle
from ovd_bench.benchmarks.data.text import printable
from ovd_bench.metrics.errors import DataError
from ovd_bench.metrics.types import GroundTruth

Scenario = Literal["intra", "inter"]
Progress = Callable[[int], None] | None


class _Row(BaseModel):
    model_config = ConfigDict(strict=True, extra="ignore")

    id: Id


class _Sentence(_Row):
    is_negative: Annotated[bool, Field(strict=False)]


class _Image(_Row):
    group_id: Id


class _Group(_Row):
    inner_sent_id: Annotated[list[Id], FailFast()]


class _Sentences(BaseModel):
    rows: Annotated[list[_Sentence], FailFast()]


class _Images(BaseModel):
    rows: Annotated[list[_Image], FailFast()]


class _Groups(BaseModel):
    rows: Annotated[list[_Group], FailFast()]


_Table = TypeVar("_Table", _Sentences, _Images, _Groups)


def convert_d3(
    source: Path, tables: Path, target: Path, *, scenario: Scenario = "intra", progress: Progress = None
) -> QueryConversion:
    """Write every description that is asked of an image.

    Args:
        source: one of the documents in ``d3_json``.
        tables: the folder ``d3_pkl``.
        target: the file of queries.
        scenario: see the module's docstring.
        progress: called with numbers of images done.

    Raises:
        DataError: files missing, not in this format, or not of one another.
    """
    report = QueryConversion(target)
    gt = read_ground_truth(source)
    report.notes += gt.notes
    return report.write([source], _lines(gt, source, tables, scenario, report, progress))


def _lines(
    gt: GroundTruth, source: Path, tables: Path, scenario: Scenario, report: QueryConversion, progress: Progress
) -> Iterator[QueryLine]:
    ids, names = gt.categories.ids.tolist(), gt.categories.names
    place = {number: row for row, number in enumerate(ids)}
    negative = {row.id: row.is_negative for row in _table(tables, "sentences", _Sentences).rows}
    if missing := [number for number in ids if number not in negative]:
        raise DataError(f"{tables}: sentences has no description {missing[0]} of {source}")
    kinds = [["abs" if negative[number] else "pres", _length(name)] for number, name in zip(ids, names, strict=True)]
    asked_of = _intra(gt, tables, place) if scenario == "intra" else [list(range(len(ids)))] * gt.num_images
    boxes: dict[tuple[int, int], list[list[float]]] = {}
    for image, description, box, crowd in zip(
        gt.image_index.tolist(), gt.class_index.tolist(), gt.boxes_xywh.tolist(), gt.iscrowd.tolist(), strict=True
    ):
        pair = boxes.setdefault((image, description), [])
        if crowd:
            report.left_out[CROWD] += 1
        else:
            pair.append(box)
    meant = {(int(gt.image_ids[image]), names[description]) for (image, description), found in boxes.items() if found}
    for image, (image_id, (width, height)) in enumerate(
        zip(gt.image_ids.tolist(), gt.image_sizes.tolist(), strict=True)
    ):
        file_name = "" if gt.image_files is None else gt.image_files[image]
        for description in asked_of[image]:
            found = boxes.pop((image, description), None)
            yield from report.line(
                f"{source}: image {image_id}",
                meant=meant,
                image_id=image_id,
                file_name=file_name,
                width=width,
                height=height,
                text=names[description],
                kinds=kinds[description],
                present=False if found is None else None,
                boxes=report.usable(found or ()),
            )
        if progress is not None:
            progress(1)
    if boxes:
        report.left_out[NOT_ASKED] += sum(map(len, boxes.values()))


def _intra(gt: GroundTruth, tables: Path, place: dict[int, int]) -> list[list[int]]:
    """Positions of the descriptions that each image is asked."""
    group_of = {row.id: row.group_id for row in _table(tables, "images", _Images).rows}
    inner = {row.id: row.inner_sent_id for row in _table(tables, "groups", _Groups).rows}
    asked = []
    for image in gt.image_ids.tolist():
        if image not in group_of:
            raise DataError(f"{tables}: images has no image {image}")
        if group_of[image] not in inner:
            raise DataError(f"{tables}: groups has no group {group_of[image]}")
        asked.append(sorted({place[number] for number in inner[group_of[image]] if number in place}))
    return asked


def _length(description: str) -> str:
    words = len(description.split(" "))
    return "short" if words <= 3 else "mid" if words <= 6 else "long" if words <= 9 else "very-long"


def _table(folder: Path, name: str, model: type[_Table]) -> _Table:
    """Rows of a table, a list or a dictionary by id, from ``NAME.json`` or else ``NAME.pkl``."""
    path = folder / f"{name}.json"
    if path.is_file():
        try:
            value = from_json(read_document(path, MAX_BYTES, "table of D³"))
        except ValueError as error:
            raise DataError(f"{path}: is not JSON: {printable(str(error)[:80])}") from None
    else:
        path = path.with_suffix(".pkl")
        value = read_plain_pickle(path)
    try:
        return model(rows=list(value.values()) if isinstance(value, dict) else value)
    except ValidationError as error:
        raise DataError(f"{path}: {first_problem(error)}") from None
