"""Custom benchmarks: a COCO or LVIS annotation file, or a folder in one of the usual COCO layouts."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Container
from pathlib import Path

from ovd_bench.benchmarks.data.catalog.benchmark import Benchmark
from ovd_bench.benchmarks.data.files.annotations import read_ground_truth
from ovd_bench.benchmarks.data.files.queries import is_query_file
from ovd_bench.benchmarks.data.image_match import base_name_there, located_paths
from ovd_bench.benchmarks.data.images import annotated_names, image_file
from ovd_bench.benchmarks.data.match import ImageMatch
from ovd_bench.metrics.errors import DataError
from ovd_bench.metrics.types import GroundTruth

#: Roboflow's name for the annotations of a split, beside its images.
_BESIDE = "_annotations.coco.json"
_SPLITS = ("train", "valid", "val", "validation", "test")
#: Names of files and folders that say nothing about the data set; the folder above names it.
_GENERIC = (
    "_annotations.coco", "annotation", "annotations", "coco", "default", "ground_truth", "gt", "instances",
    "instances_default", "label", "labels", "result", "results", *(f"instances_{split}" for split in _SPLITS),
)  # fmt: skip
_ILLEGAL = re.compile(r"[^A-Za-z0-9._+-]+")
_MAX_NAME = 128
#: Number of images that are looked up when the image folder is guessed; the first ones may be missing.
_TRIES = 20


def open_own(
    path: Path,
    images: Path | None,
    protocol: str | None,
    *,
    match: ImageMatch = "path",
    name: str | None = None,
    taken: Container[str] = (),
) -> Benchmark:
    """A benchmark from a path.

    Layouts of folders: ``_annotations.coco.json`` beside the images (Roboflow), ``annotations/instances_SPLIT.json``
    with the images in ``SPLIT``, ``images/SPLIT`` or ``images`` (COCO, CVAT), or one JSON file beside ``images`` or
    ``data``. The images must exist, not only their folder. Their origin is unknown and not guessed.

    Args:
        path: annotation file, file of queries, or folder.
        images: folder of the images; None = found by the layout.
        protocol: kind of AP; None = ``queries`` for a file of queries, ``lvis`` for files with LVIS's two lists per
            image, else ``coco``.
        match: how images are found in their folder.
        name: of the benchmark; None = after the file, or after its folder if the file is called as many are.
        taken: names that are already in use.

    Raises:
        DataError: no annotation file or several; images not found; an annotation file that cannot be read; or ``name``
            is taken or no legal name of a folder.
    """
    annotations = _annotation_file(path) if path.is_dir() else path
    gt = read_ground_truth(annotations)
    if images is not None and not images.is_dir():
        raise DataError(f"{images}: no such folder of images")
    dataset, split = _names(annotations.resolve())
    if name is None:
        name = legal_name(f"{dataset}-{split}" if split else dataset)
        name = f"{name[: _MAX_NAME - 4]}-own" if name in taken else name
    elif name in taken:
        raise DataError(f"--name {name}: a data set of the catalogue has that name")
    elif legal_name(name) != name:
        raise DataError(f"--name {name!r:.150}: letters, digits and . _ + - are allowed, {_MAX_NAME} at most")
    return Benchmark(
        name=name,
        dataset=dataset,
        split=split or "all",
        annotations=annotations,
        images=images or _image_folder(annotations, gt, match),
        protocol=protocol or _usual_protocol(annotations, gt),
        match=match,
    )


def _usual_protocol(annotations: Path, gt: GroundTruth) -> str:
    if is_query_file(annotations):
        return "queries"
    return "lvis" if gt.federated else "coco"


def legal_name(text: str) -> str:
    """A folder name of the letters, digits and signs that result folders may have.

    A name that had to be changed ends in a hash of the original, so that different names stay different.
    """
    name = _ILLEGAL.sub("-", text).lstrip("._+-")
    if name and name == text and len(name) <= _MAX_NAME:
        return name
    digest = hashlib.sha256(text.encode(errors="surrogatepass")).hexdigest()[:8]
    return f"{name[: _MAX_NAME - 9]}-{digest}" if name else f"benchmark-{digest}"


def _annotation_file(folder: Path) -> Path:
    levels = ([folder / _BESIDE], [*folder.glob(f"*/{_BESIDE}")], [*folder.glob("annotations/instances_*.json")])
    for level in (*levels, [*folder.glob("annotations/*.json")], [*folder.glob("*.json")]):
        files = sorted(file for file in level if file.is_file())
        if len(files) == 1:
            return files[0]
        if files:
            shown = ", ".join(str(file) for file in files[:8]) + (", …" if len(files) > 8 else "")
            raise DataError(f"{folder}: has {len(files)} annotation files, name one of them: {shown}")
    raise DataError(
        f"{folder}: no annotations found; expected {_BESIDE}, annotations/instances_*.json or one .json file"
    )


def _names(annotations: Path) -> tuple[str, str]:
    """Data set and split, by the usual layouts; the split is empty if it is unknown."""
    parent = annotations.parent
    if parent.name == "annotations" and annotations.stem.startswith("instances_"):
        return parent.parent.name, annotations.stem.removeprefix("instances_")
    split = ""
    for name in (annotations.stem, *(folder.name for folder in annotations.parents)):
        kind = name.casefold()
        if not split and (last := kind.removeprefix("instances_")) in _SPLITS:
            split = last
        elif name and kind not in (*_GENERIC, *_SPLITS):
            return name, split
    return annotations.stem, ""


def _image_folder(annotations: Path, gt: GroundTruth, match: ImageMatch) -> Path:
    """The first of the usual folders that contains one of the first images.

    Raises:
        DataError: none does; says what helps.
    """
    parent = annotations.parent
    base = parent.parent if parent.name == "annotations" else parent
    split = annotations.stem.removeprefix("instances_")
    places = dict.fromkeys([base / split, base / "images" / split, base / "images", base / "data", base, parent])
    folders = [place for place in places if place.is_dir()]
    leaving: DataError | None = None
    for folder in folders:
        try:
            if any(image_file(folder, name).is_file() for name in located_paths(gt, folder, match)[:_TRIES]):
                return folder
        except DataError as error:
            if match == "basename":
                raise
            leaving = leaving or error
    names = annotated_names(gt)[:_TRIES]
    if match == "basename":
        helps = "give --images"
    elif near := [folder for folder in folders if base_name_there(folder, names)]:
        helps = f"files of these base names are in {near[0]}, give --match basename"
    else:
        helps = "give --images, and --match basename if the names have folders of another machine"
    if leaving is not None:
        raise DataError(f"{annotations}: {leaving}; {helps}")
    looked = ", ".join(str(place) for place in places)
    raise DataError(f"{annotations}: images not found, {names[0]!r:.100} was looked for in {looked}: {helps}")
