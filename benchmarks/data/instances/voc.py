"""Pascal VOC: ``Annotations/*.xml`` and ``ImageSets/Main/SPLIT.txt``, or a folder of such XML files.

Pixels are counted from 1 and both corners belong to the box, as in VOC's own evaluation: ``x = xmin - 1`` and
``width = xmax - xmin + 1``. A difficult object is ignored there: a detection of it is neither right nor wrong. COCO's
rules know this for crowds only, so it is written as a crowd, which several detections may match, and of which a
detection must cover only its own area.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from ovd_bench.benchmarks.data.files.documents import read_document
from ovd_bench.benchmarks.data.files.xml_documents import Element, integer, read_xml
from ovd_bench.benchmarks.data.instances.writing import Box, Instances
from ovd_bench.benchmarks.data.text import printable
from ovd_bench.metrics.errors import DataError

#: The classes of the challenges of 2007 to 2012.
NAMES = (
    "aeroplane", "bicycle", "bird", "boat", "bottle", "bus", "car", "cat", "chair", "cow", "diningtable", "dog",
    "horse", "motorbike", "person", "pottedplant", "sheep", "sofa", "train", "tvmonitor",
)  # fmt: skip

NO_AREA = "without area"

_MAX_SPLIT_BYTES = 64 << 20


@dataclass(frozen=True)
class _Object:
    """Box as x, y, width, height."""

    name: str
    box: Box
    difficult: bool


@dataclass(frozen=True)
class _Image:
    file: str
    width: int
    height: int
    objects: tuple[_Object, ...]


def read_voc(folder: Path, split: str | None, progress: Callable[[int], None] | None = None) -> Instances:
    """The objects of a split.

    If all names are VOC's, all 20 classes are declared, otherwise those that occur, in alphabetical order.

    Args:
        folder: with ``Annotations``, or of XML files.
        split: such as ``test``: name of a file in ``ImageSets/Main``; None = all XML files.
        progress: called with numbers of images read.

    Raises:
        DataError: a file is missing or not in this format; names file and field.
    """
    annotations = folder / "Annotations" if (folder / "Annotations").is_dir() else folder
    names = _listed(folder, split) if split is not None else sorted(path.stem for path in annotations.glob("*.xml"))
    if not names:
        raise DataError(f"{annotations}: has no .xml file: give the folder that has 'Annotations' in it")
    images = []
    for name in names:
        images.append(_image(annotations / f"{name}.xml"))
        if progress is not None:
            progress(1)
    found = {one.name for image in images for one in image.objects}
    classes = NAMES if found <= set(NAMES) else tuple(sorted(found))
    numbers = {name: number for number, name in enumerate(classes, 1)}
    made = Instances({number: name for name, number in numbers.items()})
    for image in images:
        made.add_image(image.file, image.width, image.height)
        for one in image.objects:
            if one.box[2] <= 0 or one.box[3] <= 0:
                made.dropped[NO_AREA] += 1
            else:
                made.add_box(numbers[one.name], one.box, ignored=one.difficult)
    return made


def _listed(folder: Path, split: str) -> list[str]:
    path = folder / "ImageSets" / "Main" / f"{split}.txt"
    if not split or Path(split).name != split or "\x00" in split:
        raise DataError(f"--split {split!r:.60}: is not the name of a split")
    try:
        lines = read_document(path, _MAX_SPLIT_BYTES, "list of images").decode().splitlines()
    except UnicodeDecodeError:
        raise DataError(f"{path}: is not UTF-8") from None
    names = [line.split()[0] for line in lines if line.strip()]  # lists per class have a 1 or -1 after the name
    for name in names:
        if "/" in name or "\x00" in name or name.startswith("."):
            raise DataError(f"{path}: {name!r:.60} is not the name of an image")
    if not names:
        raise DataError(f"{path}: names no image")
    if len(set(names)) < len(names):
        raise DataError(f"{path}: names an image twice")
    return names


def _image(path: Path) -> _Image:
    root = read_xml(path, "annotation of Pascal VOC")
    if root.tag != "annotation":
        raise DataError(f"{path}: is not an annotation of Pascal VOC: its root is '{printable(root.tag[:40])}'")
    width, height = (integer(path, root, f"size/{name}", low=1) for name in ("width", "height"))
    file = (root.findtext("filename") or "").strip() or f"{path.stem}.jpg"
    return _Image(file, width, height, tuple(_object(path, item) for item in root.findall("object")))


def _object(path: Path, item: Element) -> _Object:
    name = " ".join((item.findtext("name") or "").split())
    if not name:
        raise DataError(f"{path}: object: field 'name' is missing")
    x0, y0, x1, y1 = (_number(path, item, f"bndbox/{side}") for side in ("xmin", "ymin", "xmax", "ymax"))
    difficult = item.find("difficult") is not None and integer(path, item, "difficult") != 0
    return _Object(name, (x0 - 1, y0 - 1, x1 - x0 + 1, y1 - y0 + 1), difficult)


def _number(path: Path, parent: Element, name: str) -> float:
    """A coordinate; some of VOC 2011 and later have decimals."""
    text = (parent.findtext(name) or "").strip()
    try:
        value = float(text[:40])
    except ValueError:
        value = math.nan
    if not abs(value) < 1e9:  # NaN is not, either
        raise DataError(f"{path}: field '{name}' is '{printable(text[:20])}', a number is needed")
    return value
