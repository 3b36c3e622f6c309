"""Rewrites files that the official evaluators accept for the native readers, which are stricter.

The native readers accept strict JSON with integer ids. Exporters also write NaN into fields that are not used, ids and
names of another type, sizes that are null or -1, and one JSON object per line. The official evaluators accept such
files, and here they get the same number. Whatever could have another meaning remains an error.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from ovd_bench.metrics.errors import DataError

Json = dict[str, Any]
ImageIds = Callable[[], Mapping[str, int]]

#: Larger files are read only by the native readers: a parsed document takes about ten times its size in memory.
MAX_BYTES = 256 << 20

_IMAGE = ("id", "width", "height", "neg_category_ids", "not_exhaustive_category_ids", "file_name", "coco_url")
_ANNOTATION = ("id", "image_id", "category_id", "bbox", "area", "iscrowd", "ignore")
_CATEGORY = ("id", "name", "frequency", "image_count", "synset", "synonyms", "supercategory")
_RESULT = ("image_id", "category_id", "bbox", "score", "phrase")


@dataclass(frozen=True)
class Rewritten:
    """A file in the expected form.

    Attributes:
        path: path of the rewritten file, which is temporary.
        notes: one line for each kind of change.
        image_names: number -> id as the file gives it, if its image ids are not integers.
    """

    path: Path
    notes: tuple[str, ...]
    image_names: Mapping[int, str]


@contextmanager
def rewritten_annotations(path: Path) -> Iterator[Rewritten | None]:
    """Rewrites an annotation file; None if nothing was changed, so that the first error applies.

    Image ids that are texts become numbers: their own values if all are canonical integers, otherwise positions in the
    order of the texts, which is the order in which the official evaluators go through the images.
    """
    with _rewritten(path, _annotations) as rewritten:
        yield rewritten


@contextmanager
def rewritten_results(path: Path, image_ids: ImageIds | None) -> Iterator[Rewritten | None]:
    """Rewrites a results file; None if nothing was changed, so that the first error applies.

    Args:
        path: of the file.
        image_ids: returns text -> image id, for image ids that are texts; None = these are not known.

    Raises:
        DataError: a text that is the id of no image.
    """
    with _rewritten(path, lambda text: _results(text, image_ids)) as rewritten:
        yield rewritten


@contextmanager
def _rewritten(path: Path, rewrite: Callable[[str], _Made | None]) -> Iterator[Rewritten | None]:
    made = None
    if path.stat().st_size <= MAX_BYTES:
        try:
            made = rewrite(path.read_text(encoding="utf-8"))
        except DataError as error:
            raise DataError(f"{path}: {error}") from None
        except (ValueError, RecursionError, TypeError, KeyError, AttributeError):
            made = None  # not such a document: the native reader's message has the location
    if made is None or not made.notes:
        yield None
        return
    with TemporaryDirectory(prefix="ovd-bench-") as folder:
        file = Path(folder) / "rewritten.json"
        file.write_text(made.text, encoding="utf-8")
        yield Rewritten(file, tuple(made.notes), made.image_names)


@dataclass(frozen=True)
class _Made:
    text: str
    notes: list[str]
    image_names: Mapping[int, str]


def _annotations(text: str) -> _Made:
    constants: list[str] = []
    document = _loads(text, constants)
    images = [_only(_IMAGE, record) for record in document["images"]]
    annotations = [_only(_ANNOTATION, record) for record in document["annotations"]]
    categories = [_only(_CATEGORY, record) for record in document["categories"]]
    notes = [f"{len(constants):,} numbers are {_listed(constants)}, in fields that are not read"] if constants else []
    notes += _sizes(images)
    notes += _names(categories)
    names, note = _image_ids(images, annotations)
    notes += note
    notes += _annotation_ids(annotations)
    regular = {"images": images, "annotations": annotations, "categories": categories}
    return _Made(json.dumps(regular, allow_nan=False), notes, names)


def _results(text: str, image_ids: ImageIds | None) -> _Made:
    constants: list[str] = []
    notes = []
    if text.lstrip().startswith("["):
        records = _loads(text, constants)
    else:
        records = [_loads(line, constants) for line in text.splitlines() if line.strip()]
        notes.append("the file has a JSON object in each line (JSON Lines)")
    records = [_only(_RESULT, record) for record in records]
    if constants:
        notes.append(f"{len(constants):,} numbers are {_listed(constants)}, in fields that are not read")
    named, known = 0, None
    for number, record in enumerate(records):
        image = record["image_id"]
        if isinstance(image, str):
            if image_ids is None:
                raise ValueError(image)
            known = image_ids() if known is None else known
            if image not in known:
                problem = "no image of the annotations has this id (if it names a file: --match stem)"
                raise DataError(f"record {number}: image_id {image!r:.80}: {problem}")
            record["image_id"] = known[image]
            named += 1
    if named:
        notes.append(f"{named:,} detections name their image by a text")
    return _Made(json.dumps(records, allow_nan=False), notes, {})


def _loads(text: str, constants: list[str]) -> Any:
    def constant(name: str) -> float:
        constants.append(name)
        return float(name.replace("Infinity", "inf"))

    return json.loads(text, parse_constant=constant)


def _listed(constants: list[str]) -> str:
    return " or ".join(sorted(set(constants)))


def _only(fields: tuple[str, ...], record: Json) -> Json:
    return {field: record[field] for field in fields if field in record}


def _sizes(images: list[Json]) -> list[str]:
    odd = 0
    for image in images:
        unknown = [side for side in ("width", "height") if image.get(side, 0) in (None, -1)]
        odd += bool(unknown)
        image |= dict.fromkeys(unknown, 0)
    return [f"{odd:,} images have no size (null or -1): taken as unknown"] if odd else []


def _names(categories: list[Json]) -> list[str]:
    notes = []
    for field in ("name", "supercategory"):
        numbers = 0
        for category in categories:
            value = category.get(field)
            if isinstance(value, int | float) and not isinstance(value, bool):
                category[field] = str(value)
                numbers += 1
        if numbers:
            notes.append(f"{numbers:,} categories have a number as their {field}: read as text")
    return notes


def _image_ids(images: list[Json], annotations: list[Json]) -> tuple[dict[int, str], list[str]]:
    texts = [image["id"] for image in images]
    if not texts or not all(isinstance(text, str) for text in texts):
        return {}, []
    "".join(texts).encode()  # fails for half a surrogate pair: such a text cannot be kept
    numbers = _numbers(texts)
    if len(numbers) < len(texts):
        return {}, []  # a repeated id: the native reader refuses both forms
    for image in images:
        image["id"] = numbers[image["id"]]
    for annotation in annotations:
        if isinstance(annotation["image_id"], str):
            # An undeclared image gets an id that no declared image has; the reader leaves it out with a note.
            annotation["image_id"] = numbers.get(annotation["image_id"], -1 - len(numbers))
    return {number: text for text, number in numbers.items()}, [f"ids of the {len(texts):,} images are texts"]


def _annotation_ids(annotations: list[Json]) -> list[str]:
    texts = [annotation["id"] for annotation in annotations]
    if not texts or not all(isinstance(text, str) for text in texts):
        return []
    numbers = _numbers(texts)
    if len(numbers) < len(texts):
        return []
    first = 0 if all(_is_integer(text) for text in texts) else 1  # id 0 reads as unmatched in the official code
    for annotation in annotations:
        annotation["id"] = numbers[annotation["id"]] + first
    return [f"ids of the {len(texts):,} annotations are texts"]


def _numbers(texts: list[str]) -> dict[str, int]:
    if all(_is_integer(text) for text in texts):
        return {text: int(text) for text in texts}
    return {text: number for number, text in enumerate(sorted(set(texts)))}


def _is_integer(text: str) -> bool:
    return len(text) < 19 and text.isascii() and text.isdigit() and str(int(text)) == text
