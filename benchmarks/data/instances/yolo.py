"""YOLO data sets of Ultralytics and others: ``data.yaml``, images, and a text file of labels per image.

A line of labels is ``class cx cy w h`` in fractions of the image, or ``class x1 y1 x2 y2 x3 y3 …``, a polygon, of which
the enclosing box is taken. The labels of ``images/a/b.jpg`` are ``labels/a/b.txt``. An image without that file has no
objects. Category ids are class numbers plus 1, as in Ultralytics' own results files.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from ovd_bench.benchmarks.data.files.documents import first_problem, read_document, read_yaml
from ovd_bench.benchmarks.data.images import image_size
from ovd_bench.benchmarks.data.instances.writing import Box, Instances
from ovd_bench.benchmarks.data.text import printable
from ovd_bench.metrics.errors import DataError

NO_AREA = "without area"
REPEATED = "repeated"

_SUFFIXES = frozenset({".avif", ".bmp", ".jpeg", ".jpg", ".jp2", ".mpo", ".png", ".ppm", ".tif", ".tiff", ".webp"})
_MAX_YAML_BYTES = 4 << 20
_MAX_LABELS_BYTES = 16 << 20
_MAX_LIST_BYTES = 256 << 20
#: Fractions may be outside 0 … 1 by rounding.
_SLACK = 0.01

_Text = Annotated[str, Field(min_length=1, max_length=4096, pattern=r"^[^\x00]+$")]
_ClassName = str | int | float


class _DataYaml(BaseModel):
    """What is used of ``data.yaml``; other keys are for trainings."""

    model_config = ConfigDict(strict=True, extra="ignore")

    path: str = ""
    names: list[_ClassName] | dict[int, _ClassName]
    train: _Text | list[_Text] | None = None
    val: _Text | list[_Text] | None = None
    test: _Text | list[_Text] | None = None


def read_yolo(source: Path, split: str, progress: Callable[[int], None] | None = None) -> Instances:
    """The objects of a split. Images are named relative to the folder of ``data.yaml``.

    Args:
        source: the folder with ``data.yaml``, or this file.
        split: ``train``, ``val`` or ``test``.
        progress: called with numbers of images read.

    Raises:
        DataError: a file is missing or not in this format; names file and line.
    """
    file = source / "data.yaml" if source.is_dir() else source
    content = _read(file)
    names = _class_names(file, content)
    root = file.parent.resolve()
    images = _images(file, root, content, split)
    made = Instances({number + 1: name for number, name in names.items()})
    labels = 0
    for image in images:
        width, height = image_size(image)
        made.add_image(image.relative_to(root).as_posix(), width, height)
        text = _labels_of(root, image)
        if text.is_file():
            labels += 1
            _add_boxes(made, text, names, width, height)
        if progress is not None:
            progress(1)
    if not labels:
        raise DataError(
            f"{file}: none of the {len(images):,} images of '{split}' has labels, such as {_labels_of(root, images[0])}"
        )
    return made


def _read(file: Path) -> _DataYaml:
    document: Any = read_yaml(file, _MAX_YAML_BYTES, "description of a YOLO data set")
    if isinstance(document, dict) and isinstance(document.get("val"), type(None)) and "valid" in document:
        document = document | {"val": document["valid"]}
    try:
        return _DataYaml.model_validate(document)
    except ValidationError as error:
        raise DataError(f"{file}: {first_problem(error)}") from None


def _class_names(file: Path, content: _DataYaml) -> dict[int, str]:
    """Names by class number; a number as a name, which YAML allows, is its text."""
    pairs = content.names.items() if isinstance(content.names, dict) else enumerate(content.names)
    names = {number: str(name).strip() for number, name in pairs}
    if not names:
        raise DataError(f"{file}: names: has no class")
    for number, name in names.items():
        if not 0 <= number < 2**31 - 1:
            raise DataError(f"{file}: names: {number} is not a class number")
        if not name:
            raise DataError(f"{file}: names: the name of class {number} is empty")
    return dict(sorted(names.items()))


def _images(file: Path, root: Path, content: _DataYaml, split: str) -> list[Path]:
    given = {"train": content.train, "val": content.val, "test": content.test}.get(split)
    if given is None:
        raise DataError(f"{file}: has no split '{split}'")
    found: dict[Path, None] = {}
    for place in [given] if isinstance(given, str) else given:
        there = _place(file, root, content.path, place)
        if there.is_dir():
            paths = sorted(path for path in there.rglob("*") if path.suffix.casefold() in _SUFFIXES)
        else:
            paths = list(_listed(there, root))
        found |= dict.fromkeys(paths)
    if not found:
        raise DataError(f"{file}: '{split}' has no images")
    for path in found:
        if not path.resolve().is_relative_to(root):
            raise DataError(f"{file}: image {path} leaves the folder {root}")
    return list(found)


def _place(file: Path, root: Path, path: str, place: str) -> Path:
    """Where a split lies: with ``path`` before it or without, and without the ``../`` that Roboflow's files have."""
    plain = place
    while plain.startswith("../"):
        plain = plain[3:]
    for candidate in (root / path.replace("\x00", "") / place, root / place, root / plain):
        there = candidate.resolve()
        if there.is_relative_to(root) and there.exists():
            return there
    raise DataError(f"{file}: {place!r:.100} is not in its folder: put data.yaml beside the images")


def _listed(file: Path, root: Path) -> Iterator[Path]:
    """Images of a text file with one path per line, relative to the file if it begins with ``./``, else to the root."""
    try:
        lines = read_document(file, _MAX_LIST_BYTES, "list of images").decode().splitlines()
    except UnicodeDecodeError:
        raise DataError(f"{file}: is not UTF-8, a list of images is needed") from None
    for number, line in enumerate(lines, 1):
        if line := line.strip():
            path = file.parent / line if line.startswith("./") else root / line
            if "\x00" in line or not path.resolve().is_relative_to(root):
                raise DataError(f"{file}: line {number}: {line!r:.100} leaves the folder {root}")
            yield path.resolve()


def _labels_of(root: Path, image: Path) -> Path:
    """The last folder ``images`` of the path becomes ``labels``; without such a folder they lie beside the image."""
    parts = list(image.relative_to(root).with_suffix(".txt").parts)
    for place in reversed(range(len(parts) - 1)):
        if parts[place] == "images":
            parts[place] = "labels"
            break
    return root.joinpath(*parts)


def _add_boxes(made: Instances, file: Path, names: dict[int, str], width: int, height: int) -> None:
    try:
        lines = read_document(file, _MAX_LABELS_BYTES, "file of labels").decode().splitlines()
    except UnicodeDecodeError:
        raise DataError(f"{file}: is not UTF-8") from None
    seen = set[tuple[int, Box]]()
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        try:
            label, (x, y, w, h) = _parse(line, names)
        except DataError as error:
            raise DataError(f"{file}: line {number}: {error}") from None
        box = (x * width, y * height, w * width, h * height)
        if w <= 0 or h <= 0:
            made.dropped[NO_AREA] += 1
        elif (label, box) in seen:
            made.dropped[REPEATED] += 1
        else:
            seen.add((label, box))
            made.add_box(label + 1, box)


def _parse(line: str, names: dict[int, str]) -> tuple[int, Box]:
    """Class number, and x, y, width, height as fractions of the image."""
    words = line.split()
    try:
        label, *values = (float(word[:40]) for word in words)
    except ValueError:
        raise DataError(f"'{printable(line[:60])}' has something that is no number") from None
    if label not in names:
        raise DataError(f"class {printable(words[0][:20])} is not among the names of data.yaml")
    if len(values) == 4:
        corners = (values[0] - values[2] / 2, values[1] - values[3] / 2, *values[2:])
        ends = values
    elif len(values) >= 6 and len(values) % 2 == 0:
        left, top = min(values[::2]), min(values[1::2])
        corners = (left, top, max(values[::2]) - left, max(values[1::2]) - top)
        ends = values
    else:
        raise DataError(f"{len(values)} numbers after the class: 4 for a box, or x and y of at least 3 points")
    if not all(math.isfinite(value) and -_SLACK <= value <= 1 + _SLACK for value in ends):
        raise DataError("a coordinate is not a fraction of the image, from 0 to 1")
    x, y, w, h = corners
    return int(label), (x, y, w, h)
