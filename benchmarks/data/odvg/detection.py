"""COCO, LVIS and Objects365 as ODVG with a label map."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import numpy.typing as npt

from ovd_bench.benchmarks.data import class_names
from ovd_bench.benchmarks.data.files.annotations import parse_ground_truth
from ovd_bench.benchmarks.data.files.atomic import file_sha256
from ovd_bench.benchmarks.data.images import image_paths
from ovd_bench.benchmarks.data.odvg.conversion import (
    CROWD,
    DUPLICATE,
    IGNORED,
    Conversion,
    check_target,
    label_map_path,
)
from ovd_bench.benchmarks.data.odvg.objects365 import MISSING_V1, MISSING_V2, repaired_name, v2_file_name
from ovd_bench.benchmarks.data.odvg.records import Detection, Instance, OdvgRecord, write_label_map, write_odvg
from ovd_bench.benchmarks.data.text import printable
from ovd_bench.metrics.box_form import FORMS, other_form
from ovd_bench.metrics.errors import DataError
from ovd_bench.metrics.protocol import FREQUENCIES
from ovd_bench.metrics.types import GroundTruth

LEFT_OUT = "of a class left out"
MISSING = "known to be missing from the archives"

_ALL = "".join(FREQUENCIES)

#: Images whose boxes are Python objects at a time.
_CHUNK = 10_000

Progress = Callable[[int], None] | None


def convert_coco(source: Path, target: Path, progress: Progress = None) -> Conversion:
    """COCO instances, or any file in that format.

    Labels number the categories in order of their ids, so COCO's ids 1 … 90 become 0 … 79.

    Args:
        source: the JSON file.
        target: the ODVG file; the label map is written beside it.
        progress: called with numbers of images done.

    Raises:
        DataError: a file that ``read_ground_truth`` does not accept, an image without name or size, or no such folder.
    """
    gt = parse_ground_truth(source)
    return _convert(source, target, gt, image_paths(gt), list(gt.categories.names), progress)


def convert_lvis(source: Path, target: Path, *, keep: str = _ALL, progress: Progress = None) -> Conversion:
    """LVIS v1 or v0.5; v1 names images by their ``coco_url``, such as ``train2017/000000391895.jpg``.

    Args:
        source: the JSON file.
        target: the ODVG file; the label map is written beside it.
        keep: letters of the frequencies (r, c, f) that are kept. Boxes of all other classes are left out, and so are
            the classes themselves: a name in the label map would be sampled as a negative and learned as absent.
        progress: called with numbers of images done.

    Raises:
        DataError: as :func:`convert_coco`; other letters; or classes without frequency if some are left out.
    """
    gt = parse_ground_truth(source)
    letters = gt.categories.frequency
    if not keep or set(keep) - set(_ALL):
        raise DataError(f"frequencies '{printable(keep)}': letters out of {_ALL} are needed, such as cf")
    everything = set(keep) == set(_ALL)
    if not everything and not all(letters):
        raise DataError(f"{source}: not every class has a frequency, so the rare ones are not known")
    names = [
        name if everything or letter in keep else None
        for name, letter in zip(gt.categories.names, letters, strict=True)
    ]
    return _convert(source, target, gt, image_paths(gt), names, progress)


def convert_objects365(source: Path, target: Path, progress: Progress = None) -> Conversion:
    """Objects365 v1 or v2, distinguished by the names of the images.

    Misspelt class names are corrected, the prefixes ``images/v1/`` and ``images/v2/`` removed, and images that are
    known to be missing left out. Labels number the categories by id, because the lists of train and val of v1 are in
    different orders.

    Raises:
        DataError: as :func:`convert_coco`; or images of v1 and v2 in one file.
    """
    gt = parse_ground_truth(source)
    raw = image_paths(gt)
    cut = [v2_file_name(name) for name in raw]
    if any(cut) and not all(cut):
        odd = raw[cut.index(None)]
        raise DataError(f"{source}: image '{odd[:80]}' is not named as those of Objects365 v2, but others are")
    if all(cut):
        paths = [name if name not in MISSING_V2 else None for name in cut]
    else:
        ids = gt.image_ids.tolist()
        paths = [name if image not in MISSING_V1 else None for name, image in zip(raw, ids, strict=True)]
    names = [repaired_name(name) for name in gt.categories.names]
    changed = sum(new != old for new, old in zip(names, gt.categories.names, strict=True))
    report = _convert(source, target, gt, paths, list(names), progress)
    report.notes.append(f"Objects365 v{2 if all(cut) else 1}; {changed} class names were corrected")
    return report


def _convert(
    source: Path,
    target: Path,
    gt: GroundTruth,
    paths: list[str] | list[str | None],
    names: list[str | None] | list[str],
    progress: Progress,
) -> Conversion:
    """Write the ODVG file and the label map.

    Args:
        source: for messages; it must not be overwritten.
        target: the ODVG file.
        gt: the annotations.
        paths: paths of the images; None leaves an image out.
        names: names of the classes; None leaves a class out.
        progress: called with numbers of images done.
    """
    check_target(source, target)
    unsized = (gt.image_sizes <= 0).any(axis=1)
    if unsized.any():
        image = int(gt.image_ids[np.argmax(unsized)])
        raise DataError(f"{source}: image {image} has no width or height, ODVG needs both")
    form = other_form(gt.boxes_xywh, gt.image_sizes[gt.image_index])
    if form is not None:
        raise DataError(f"{source}: {FORMS[form]}: nothing is converted")
    kept = [name for name in names if name is not None]
    labels = np.cumsum([name is not None for name in names]) - 1
    labels[[name is None for name in names]] = -1
    report = Conversion(path=target, label_map=label_map_path(target), classes=len(kept), notes=list(gt.notes))
    report.notes += class_names.remarks(gt)
    write_label_map(label_map_path(target), kept)
    write_odvg(target, report.counted(source, _records(gt, paths, kept, labels, report, progress)))
    report.sha256 = file_sha256(target)
    return report


def _records(
    gt: GroundTruth,
    paths: list[str] | list[str | None],
    names: list[str],
    labels: npt.NDArray[np.int64],
    report: Conversion,
    progress: Progress,
) -> Iterator[OdvgRecord]:
    order = np.argsort(gt.image_index, kind="stable")
    ends = np.searchsorted(gt.image_index, np.arange(gt.num_images + 1), sorter=order)
    for first in range(0, gt.num_images, _CHUNK):
        last = min(first + _CHUNK, gt.num_images)
        rows = order[ends[first] : ends[last]]
        corners = np.concatenate([gt.boxes_xywh[rows, :2], gt.boxes_xywh[rows, :2] + gt.boxes_xywh[rows, 2:]], axis=1)
        columns = (corners, labels[gt.class_index[rows]], gt.iscrowd[rows], gt.ignore[rows])
        boxes = list(zip(*(column.tolist() for column in columns), strict=True))
        for image, (width, height) in enumerate(gt.image_sizes[first:last].tolist(), first):
            begin, end = (int(ends[i] - ends[first]) for i in (image, image + 1))
            path = paths[image]
            if path is None:
                report.left_out[MISSING] += 1
                continue
            instances = tuple(_instances(boxes[begin:end], width, height, names, report))
            yield OdvgRecord(filename=path, height=height, width=width, detection=Detection(instances=instances))
        if progress is not None:
            progress(last - first)


def _instances(
    boxes: list[tuple[list[float], int, bool, bool]], width: int, height: int, names: list[str], report: Conversion
) -> Iterator[Instance]:
    seen = set()
    for (x0, y0, x1, y1), label, crowd, ignore in boxes:
        if crowd or ignore or label < 0:
            report.dropped[CROWD if crowd else IGNORED if ignore else LEFT_OUT] += 1
        elif (box := report.clip((x0, y0, x1, y1), width, height)) is not None:
            if (label, box) in seen:
                report.dropped[DUPLICATE] += 1
                continue
            seen.add((label, box))
            yield Instance(bbox=box, label=label, category=names[label])
