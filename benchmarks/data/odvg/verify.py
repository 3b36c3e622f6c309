"""Verification of an ODVG file for training: labels, boxes, images."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable
from pathlib import Path

import numpy as np

from ovd_bench.benchmarks.data.images import ImageError, image_file, read_image
from ovd_bench.benchmarks.data.odvg.conversion import label_map_path
from ovd_bench.benchmarks.data.odvg.index import OdvgFile
from ovd_bench.benchmarks.data.odvg.records import OdvgRecord, read_label_map
from ovd_bench.benchmarks.data.odvg.spans import BoxXyxy
from ovd_bench.benchmarks.data.report import Report
from ovd_bench.metrics.errors import DataError

#: Number of examples in a finding.
_SHOWN = 3
#: Boxes may extend over the border by rounding.
_SLACK = 1.0

_OUTSIDE = "boxes lie outside their image"
_OVER = "boxes reach over the border of their image by more than a pixel"
_NO_AREA = "boxes have no area"
_TWICE = "boxes occur twice, with the same class or phrase"
_NO_SPANS = "regions have no spans: 'data convert ogd-odvg' writes them"
_OTHER_NAME = "boxes have a category that is not the name of their label in the label map"

Findings = dict[str, list[str]]


def find_label_map(path: Path) -> Path | None:
    """The label map in the folder of an ODVG file: ``x.label_map.json`` or ``label_map.json``."""
    return next((p for p in (label_map_path(path), path.parent / "label_map.json") if p.is_file()), None)


def verify_odvg(
    path: Path,
    *,
    label_map: Path | None = None,
    images: Path | None = None,
    decode: bool = False,
    progress: Callable[[int], None] | None = None,
) -> Report:
    """Check all records of a file.

    Args:
        path: the ODVG file.
        label_map: its label map; None = the one in the same folder.
        images: folder of its images; None = images are not checked.
        decode: also decode all images, not only check that they exist.
        progress: called with numbers of checked records, then of checked images.

    Raises:
        DataError: a line is not a record, or the label map is not a label map.
    """
    file = OdvgFile.open(path)
    detection = int((~file.is_grounding).sum())
    report = Report({"file": str(path), "sha256": file.sha256, "records": len(file)})
    report.facts |= {"with classes": detection, "with captions": len(file) - detection, "boxes": int(file.boxes.sum())}
    if empty := int((file.boxes == 0).sum()):
        report.facts["without boxes"] = empty
    names = _check_labels(report, file, label_map or find_label_map(path)) if detection else ()
    sizes, repeated, findings, phrases = dict[str, tuple[int, int]](), Counter[str](), Findings(), 0
    for number, record in enumerate(file):
        where = f"record {number} ({record.filename})"
        for finding in _findings(record, names):
            findings.setdefault(finding, []).append(where)
        repeated[record.filename] += record.detection is not None
        phrases += len(record.grounding.regions) if record.grounding is not None else 0
        size = sizes.setdefault(record.filename, (record.width, record.height))
        if size != (record.width, record.height):
            report.wrong.append(f"{where}: width and height are not those of an earlier record of the image")
        if progress is not None:
            progress(1)
    if detection < len(file):
        report.facts["phrases"] = phrases
    for finding, places in findings.items():
        target = report.wrong if finding in (_OUTSIDE, _OTHER_NAME) else report.remarks
        target.append(f"{len(places):,} {finding}: {_some(places)}")
    if twice := [name for name, count in repeated.items() if count > 1]:
        report.remarks.append(f"{len(twice):,} images have several records with classes: {_some(twice)}")
    report.facts["images"] = len(sizes)
    if images is not None:
        _check_images(report, images, sizes, decode, progress)
    return report


def _check_labels(report: Report, file: OdvgFile, label_map: Path | None) -> tuple[str, ...]:
    used = np.unique(file.labels.values)
    report.facts["classes with boxes"] = len(used)
    if label_map is None:
        report.wrong.append("there is no label map in the folder of the file: give it with --label-map")
        return ()
    names = read_label_map(label_map)
    report.facts |= {"label map": str(label_map), "classes": len(names)}
    beyond = used[used >= len(names)].tolist()
    if beyond:
        report.wrong.append(f"{len(beyond):,} labels are not in the label map: {_some(beyond)}")
    if unused := len(names) - len(used) + len(beyond):
        report.remarks.append(f"{unused:,} classes of the label map have no box")
    doubled = [name for name, count in Counter(names).items() if count > 1]
    if doubled:
        report.remarks.append(f"{len(doubled):,} names belong to several labels: {_some(doubled)}")
    return names


def _findings(record: OdvgRecord, names: tuple[str, ...]) -> Iterable[str]:
    """Findings of a record, one for every box or region."""
    rows: list[tuple[object, BoxXyxy]] = []
    if record.detection is not None:
        for instance in record.detection.instances:
            rows.append((instance.label, instance.bbox))
            if instance.category is not None and instance.label < len(names):
                yield from [_OTHER_NAME] * (instance.category != names[instance.label])
    elif record.grounding is not None:
        for region in record.grounding.regions:
            yield from [_NO_SPANS] * (region.tokens_positive is None)
            rows += [((region.phrase, region.tokens_positive), box) for box in region.bbox]
    yield from [_TWICE] * (len(rows) - len(set(rows)))
    for _, (x0, y0, x1, y1) in rows:
        if x0 >= record.width or y0 >= record.height or x1 <= 0 or y1 <= 0:
            yield _OUTSIDE
        elif min(x0, y0) < -_SLACK or x1 > record.width + _SLACK or y1 > record.height + _SLACK:
            yield _OVER
        if x1 == x0 or y1 == y0:
            yield _NO_AREA


def _check_images(
    report: Report,
    folder: Path,
    sizes: dict[str, tuple[int, int]],
    decode: bool,
    progress: Callable[[int], None] | None,
) -> None:
    lawless, missing, present = [], [], dict[str, Path]()
    for name in sizes:
        try:
            path = image_file(folder, name)
        except DataError:
            lawless.append(name)
            continue
        if path.is_file():
            present[name] = path
        else:
            missing.append(name)
    report.facts["image files"] = len(present)
    if lawless:
        report.wrong.append(f"{len(lawless):,} image paths leave the folder of the images: {_some(lawless)}")
    if missing:
        report.wrong.append(f"{len(missing):,} image files are missing: {_some(missing)}")
    if not decode:
        return
    failed: Findings = {}
    for number, (name, path) in enumerate(present.items()):
        try:
            read_image(number, path, sizes[name])
        except ImageError as error:
            failed.setdefault(error.reason, []).append(name)
        if progress is not None:
            progress(1)
    report.facts["images read"] = len(present) - sum(map(len, failed.values()))
    for reason, files in failed.items():
        report.wrong.append(f"{len(files):,} images cannot be used: {reason}: {_some(files)}")


def _some(things: Iterable[object]) -> str:
    shown = [str(thing) for thing in things]
    return ", ".join(shown[:_SHOWN]) + (" …" if len(shown) > _SHOWN else "")
