"""Readers of phrase-grounding files: the suite's own JSON Lines, and the JSON documents of MDETR.

**The suite's format.** Two text files in JSON Lines: one JSON object per line and phrase, boxes as
``[x, y, width, height]`` in absolute pixels, no other keys, no blank lines. Only one line at a time is in memory, so
files may be of any size.

Ground truth; ``boxes`` is empty for a phrase that is not visible, ``entity_types`` may be left out::

    {"phrase_id": 7, "image_id": 36979, "entity_types": ["people"], "boxes": [[12, 30.5, 80, 200]]}

Predictions; as many scores as boxes, in any order::

    {"phrase_id": 7, "boxes": [[10, 31, 84, 197], [0, 0, 20, 20]], "scores": [0.91, 0.07]}

**MDETR's documents** (``finetune_refcoco_val.json``, ``final_flickr_separateGT_val.json`` …) are one JSON object with
``images``, one entry per *caption*, and ``annotations``, whose ``tokens_positive`` lists the character spans of the
caption that name the box. Other keys are skipped without being parsed.

Both are parsed record by record with a limit on the size of one record, so that a malicious file needs little more
memory than its own size.
"""

from __future__ import annotations

import stat
from array import array
from collections.abc import Iterator, Mapping
from itertools import chain
from pathlib import Path
from typing import Annotated, Any, TypeVar

import numpy as np
from pydantic import BeforeValidator, ConfigDict, FailFast, Field, TypeAdapter, ValidationError
from pydantic.dataclasses import dataclass

from ovd_bench.benchmarks.data.files.json_elements import array_elements
from ovd_bench.metrics.errors import DataError
from ovd_bench.metrics.grounding import GroundingPredictions, GroundingTruth
from ovd_bench.metrics.types import MAX_COORDINATE, Ragged

#: Longest record: a phrase with about 25,000 boxes.
MAX_RECORD_BYTES = 4 * 2**20
#: Largest document of MDETR that is read.
MAX_DOCUMENT_BYTES = 2**30
#: Largest number of phrases times boxes in one caption of such a document.
MAX_CAPTION_PAIRS = 100_000

Id = Annotated[int, Field(ge=-(2**63), lt=2**63)]
Coordinate = Annotated[float, Field(gt=-MAX_COORDINATE, lt=MAX_COORDINATE)]
Size = Annotated[float, Field(ge=0, lt=MAX_COORDINATE)]
Span = tuple[Annotated[int, Field(ge=0)], Annotated[int, Field(ge=0)]]
PredictedBox = tuple[Coordinate, Coordinate, Coordinate, Coordinate]
TrueBox = tuple[Coordinate, Coordinate, Size, Size]


def _number(value: object) -> object:
    return int(value) if isinstance(value, str) and value.isascii() and value.isdigit() and len(value) < 10 else value


#: Width or height of an image; MDETR writes those of Flickr30k's images as texts.
Pixels = Annotated[int, BeforeValidator(_number), Field(gt=0, lt=2**31)]

# Every list stops at its first bad element (FailFast): a malicious file must not produce a million error records.


_OWN = ConfigDict(strict=True, extra="forbid", allow_inf_nan=False)
#: Documents of others: unknown keys are skipped.
FOREIGN = ConfigDict(strict=True, extra="ignore", allow_inf_nan=False)


# Records have slots: a hundred thousand of them must not need more memory than their file.
@dataclass(config=_OWN, slots=True, kw_only=True)
class _Line:
    phrase_id: Id


@dataclass(config=_OWN, slots=True, kw_only=True)
class _TruthLine(_Line):
    image_id: Id
    entity_types: Annotated[list[Annotated[str, Field(min_length=1)]], FailFast()] = Field(default_factory=list)
    boxes: Annotated[list[TrueBox], FailFast()]


@dataclass(config=_OWN, slots=True, kw_only=True)
class _PredictionLine(_Line):
    boxes: Annotated[list[PredictedBox], FailFast()]
    scores: Annotated[list[float], FailFast()]


@dataclass(config=FOREIGN, slots=True, kw_only=True)
class Caption:
    """A caption of MDETR's documents."""

    id: Id
    caption: str
    dataset_name: str = ""
    original_id: Id | None = None  # name of the image id in RefCOCO files …
    original_img_id: Id | None = None  # … and in Flickr30k files

    def image(self) -> int:
        """Id of the image, which several captions share."""
        ids = (self.original_id, self.original_img_id, self.id)
        return next(i for i in ids if i is not None)


@dataclass(config=FOREIGN, slots=True, kw_only=True)
class EvaluationCaption(Caption):
    """The same with the phrases that are evaluated."""

    tokens_positive_eval: Annotated[list[Annotated[list[Span], Field(min_length=1), FailFast()]], FailFast()]


@dataclass(config=FOREIGN, slots=True, kw_only=True)
class _CaptionBox:
    image_id: Id
    bbox: TrueBox
    tokens_positive: Annotated[list[Span], FailFast()]


_Model = TypeVar("_Model")
_LineModel = TypeVar("_LineModel", bound=_Line)
_CaptionModel = TypeVar("_CaptionModel", bound=Caption)
_EvaluatedModel = TypeVar("_EvaluatedModel", bound=EvaluationCaption)


def read_truth(path: Path) -> GroundingTruth:
    """Ground truth in the suite's own format; lines may come in any order of ``phrase_id``.

    Raises:
        DataError: unreadable file, a line that is not such an object, a phrase twice, or no line at all.
    """
    lines = [line for _, line in _records(path, TypeAdapter(_TruthLine))]
    lines.sort(key=lambda line: line.phrase_id)
    return _truth(
        [line.phrase_id for line in lines],
        [line.image_id for line in lines],
        [line.boxes for line in lines],
        [line.entity_types for line in lines],
    )


def read_predictions(path: Path) -> GroundingPredictions:
    """Predictions in the suite's own format; rows keep the order of the file.

    Raises:
        DataError: unreadable file, a line that is not such an object, a phrase twice, or no line at all.
    """
    phrase_id, number_of_boxes, score, boxes = array("q"), array("q"), array("d"), array("d")
    for number, line in _records(path, TypeAdapter(_PredictionLine)):
        if len(line.boxes) != len(line.scores):
            raise DataError(
                f"{path}: line {number}: scores has {len(line.scores)} numbers, boxes has {len(line.boxes)}"
            )
        phrase_id.append(line.phrase_id)
        number_of_boxes.append(len(line.boxes))
        score.extend(line.scores)
        boxes.extend(chain.from_iterable(line.boxes))
    return GroundingPredictions(
        np.repeat(np.asarray(phrase_id), np.asarray(number_of_boxes)),
        np.asarray(score),
        np.asarray(boxes).reshape(-1, 4),
    )


def read_mdetr_expressions(path: Path) -> GroundingTruth:
    """Referring expressions (RefCOCO, RefCOCO+, RefCOCOg) in MDETR's format: every caption means exactly one box.

    ``phrase_id`` is the caption's ``images[].id``, ``image_id`` its ``original_id``, the entity type its
    ``dataset_name``, so that a combined file gives one row per data set.

    Raises:
        DataError: unreadable file, a document of another form, a caption id twice, or a caption whose number of boxes
            is not one.
    """
    rows = sorted(mdetr_expressions(path, TypeAdapter(Caption)), key=lambda row: row[0].id)
    return _truth(
        [caption.id for caption, _ in rows],
        [caption.image() for caption, _ in rows],
        [[box] for _, box in rows],
        [[caption.dataset_name] if caption.dataset_name else [] for caption, _ in rows],
    )


def mdetr_expressions(path: Path, adapter: TypeAdapter[_CaptionModel]) -> Iterator[tuple[_CaptionModel, TrueBox]]:
    """The expressions of such a document in the order of the file, each with its box.

    Args:
        path: the document.
        adapter: of the captions, which may have further fields.

    Raises:
        DataError: see ``read_mdetr_expressions``.
    """
    captions, boxes_of = _mdetr_document(path, adapter)
    for index, caption in enumerate(captions):
        if len(boxes_of[caption.id]) != 1:
            raise DataError(
                f"{path}: images[{index}]: id: caption {caption.id} has {len(boxes_of[caption.id])} annotations, "
                "a referring expression needs exactly one"
            )
        yield caption, boxes_of[caption.id][0].bbox


def read_mdetr_phrases(path: Path) -> GroundingTruth:
    """Phrases of captions (Flickr30k validation and test) in MDETR's format.

    The phrases are the captions' ``tokens_positive_eval``, numbered from 0 in the order of the file; that number is the
    ``phrase_id``. A phrase's boxes are the annotations of its caption whose ``tokens_positive`` hold all its spans. The
    format has no entity types; and since its writer joins boxes of IoU >= 0.95 within a caption, figures can differ in
    the last digits from those on the original files.

    Raises:
        DataError: unreadable file, a document of another form, a caption id twice, a caption without
            ``tokens_positive_eval``, a span outside its caption, or a caption of absurd size.
    """
    image_ids: list[int] = []
    boxes: list[list[TrueBox]] = []
    for caption, _, found in mdetr_phrases(path, TypeAdapter(EvaluationCaption)):
        image_ids.append(caption.image())
        boxes.append(found)
    if not boxes:
        raise DataError(f"{path}: no phrases")
    return _truth(list(range(len(boxes))), image_ids, boxes, [[] for _ in boxes])


def mdetr_phrases(
    path: Path, adapter: TypeAdapter[_EvaluatedModel]
) -> Iterator[tuple[_EvaluatedModel, list[tuple[int, int]], list[TrueBox]]]:
    """The phrases of such a document in the order of the file: caption, spans and boxes.

    Args:
        path: the document.
        adapter: of the captions, which may have further fields.

    Raises:
        DataError: see ``read_mdetr_phrases``; a document without phrases is none.
    """
    captions, boxes_of = _mdetr_document(path, adapter)
    for index, caption in enumerate(captions):
        if len(caption.tokens_positive_eval) * len(boxes_of[caption.id]) > MAX_CAPTION_PAIRS:
            raise DataError(f"{path}: images[{index}]: more than {MAX_CAPTION_PAIRS} pairs of phrase and box")
        for number, spans in enumerate(caption.tokens_positive_eval):
            if any(not start < end <= len(caption.caption) for start, end in spans):
                raise DataError(f"{path}: images[{index}]: tokens_positive_eval[{number}]: span outside the caption")
            wanted = set(spans)
            yield caption, spans, [box.bbox for box in boxes_of[caption.id] if wanted.issubset(box.tokens_positive)]


def _truth(
    phrase_ids: list[int],
    image_ids: list[int],
    boxes: list[list[tuple[float, float, float, float]]],
    types: list[list[str]],
) -> GroundingTruth:
    """Columns of phrases sorted by id; entity types are numbered in alphabetical order."""
    names = sorted(set(chain.from_iterable(types)))
    position = {name: i for i, name in enumerate(names)}
    offsets = np.zeros(len(boxes) + 1, np.int64)
    np.cumsum([len(row) for row in boxes], out=offsets[1:])
    return GroundingTruth(
        phrase_ids=np.array(phrase_ids, np.int64),
        image_id=np.array(image_ids, np.int64),
        box_offsets=offsets,
        boxes_xywh=np.array(list(chain.from_iterable(boxes)), np.float64).reshape(-1, 4),
        type_names=tuple(names),
        types=Ragged.from_lists([[position[name] for name in dict.fromkeys(row)] for row in types]),
    )


def json_lines(path: Path, adapter: TypeAdapter[_Model]) -> Iterator[tuple[int, _Model]]:
    """Line number (from 1) and validated object of every line of a file, one line at a time.

    Raises:
        DataError: unreadable file, a line that is too long or not such an object.
    """
    for number, line in _lines(path):
        yield number, _validate(f"{path}: line {number}", line, adapter)


def _records(path: Path, adapter: TypeAdapter[_LineModel]) -> Iterator[tuple[int, _LineModel]]:
    """The same with each ``phrase_id`` at most once, and at least one line."""
    first_line: dict[int, int] = {}
    for number, record in json_lines(path, adapter):
        first = first_line.setdefault(record.phrase_id, number)
        if first != number:
            raise DataError(f"{path}: line {number}: phrase_id: {record.phrase_id} is on line {first} already")
        yield number, record
    if not first_line:
        raise DataError(f"{path}: the file is empty, one JSON object per line is needed")


def _lines(path: Path) -> Iterator[tuple[int, bytes]]:
    try:
        if path.exists() and not path.is_file() and not path.is_dir():  # reading a pipe or a device may never end
            raise DataError(f"{path}: is not a regular file")
        with path.open("rb") as file:
            number = 0
            while line := file.readline(MAX_RECORD_BYTES + 1):
                number += 1
                if len(line) > MAX_RECORD_BYTES:
                    raise DataError(f"{path}: line {number}: longer than {MAX_RECORD_BYTES} bytes, one record per line")
                yield number, line
    except OSError as error:
        raise DataError(f"{path}: cannot be read: {error.strerror}") from error


def _mdetr_document(
    path: Path, caption_adapter: TypeAdapter[_CaptionModel]
) -> tuple[list[_CaptionModel], dict[int, list[_CaptionBox]]]:
    """Captions in the order of the file, and the annotations of each caption id."""
    captions: list[_CaptionModel] = []
    boxes: list[_CaptionBox] = []
    for key, record in document_records(path, {"images": caption_adapter, "annotations": TypeAdapter(_CaptionBox)}):
        (captions if key == "images" else boxes).append(record)
    boxes_of: dict[int, list[_CaptionBox]] = {}
    for index, caption in enumerate(captions):
        if caption.id in boxes_of:
            raise DataError(f"{path}: images[{index}]: id: {caption.id} appears twice")
        boxes_of[caption.id] = []
    for index, box in enumerate(boxes):
        if box.image_id not in boxes_of:
            raise DataError(f"{path}: annotations[{index}]: image_id: {box.image_id} is not among images")
        boxes_of[box.image_id].append(box)
    if not captions:
        raise DataError(f"{path}: images: the list is empty")
    return captions, boxes_of


def document_records(path: Path, adapters: Mapping[str, TypeAdapter[Any]]) -> Iterator[tuple[str, Any]]:
    """Key and validated record of every element of the arrays of a JSON object, in the order of the file.

    Args:
        path: the document.
        adapters: of the elements by the key of their array; each key must occur once, others are skipped.

    Raises:
        DataError: unreadable file, or a document of another form.
    """
    try:
        status = path.stat()
        if not stat.S_ISREG(status.st_mode) and not stat.S_ISDIR(status.st_mode):  # a device may never end
            raise DataError(f"{path}: is not a regular file")
        if status.st_size > MAX_DOCUMENT_BYTES:
            raise DataError(f"{path}: larger than {MAX_DOCUMENT_BYTES} bytes, convert it to JSON Lines")
        data = path.read_bytes()
    except OSError as error:
        raise DataError(f"{path}: cannot be read: {error.strerror}") from error
    count = dict.fromkeys(adapters, 0)
    for key, begin, end in array_elements(path, data, tuple(adapters), MAX_RECORD_BYTES):
        yield key, _validate(f"{path}: {key}[{count[key]}]", data[begin:end], adapters[key])
        count[key] += 1


def _validate(where: str, data: bytes, adapter: TypeAdapter[_Model]) -> _Model:
    """The object, or an error of one line that names location, field and problem."""
    try:
        return adapter.validate_json(data)
    except ValidationError as error:
        first = error.errors(include_url=False, include_context=False, include_input=False)[0]
        # an unknown key comes from the file and must not break the line
        names = (f"[{part}]" if isinstance(part, int) else "." + repr(part[:40])[1:-1] for part in first["loc"])
        field = "".join(names).lstrip(".")
        message = "unknown key" if first["type"] == "unexpected_keyword_argument" else first["msg"]
        raise DataError(": ".join(filter(None, (where, field, message)))) from error
