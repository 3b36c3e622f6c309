"""Verification of a data set on this machine."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable
from pathlib import Path

import numpy as np

from ovd_bench.benchmarks.data import class_names
from ovd_bench.benchmarks.data.catalog.benchmark import Benchmark, vocabulary_of
from ovd_bench.benchmarks.data.catalog.card import Counts, DatasetCard
from ovd_bench.benchmarks.data.files.annotations import read_ground_truth
from ovd_bench.benchmarks.data.files.atomic import file_sha256
from ovd_bench.benchmarks.data.files.queries import is_query_file
from ovd_bench.benchmarks.data.image_match import base_name_there, located_paths
from ovd_bench.benchmarks.data.images import ImageError, annotated_names, image_file, read_image
from ovd_bench.benchmarks.data.report import Report
from ovd_bench.detectors.prompts import default_plan
from ovd_bench.metrics.box_form import FORMS, other_form
from ovd_bench.metrics.errors import DataError
from ovd_bench.metrics.types import GroundTruth

#: Number of examples in a finding.
_SHOWN = 3
#: Boxes may extend over the border by rounding.
_SLACK = 1.0


def verify(
    benchmark: Benchmark,
    card: DatasetCard | None,
    expected: Counts,
    *,
    decode: bool = False,
    progress: Callable[[int], None] | None = None,
) -> Report:
    """Compare a data set with its card, and its images with its annotations.

    Args:
        benchmark: the data set on this machine.
        card: its card; None for custom data.
        expected: counts that it should have.
        decode: also decode all images, not only check that they exist.
        progress: called with numbers of checked images.

    Raises:
        DataError: the annotation file cannot be read.
    """
    report = Report()
    report.facts = {"annotations": str(benchmark.annotations), "images in": str(benchmark.images)}
    sha256 = file_sha256(benchmark.annotations)
    report.facts["sha256"] = sha256
    if card is not None and card.sha256 and sha256 != card.sha256:
        report.wrong.append(f"annotations: sha256 is {sha256}, the official file has {card.sha256}")
    if card is not None and card.task == "grounding":
        _verify_grounding(report, benchmark, card, expected)
        return report
    gt = read_ground_truth(benchmark.annotations)
    _compare(report, "images", gt.num_images, expected.images)
    _compare(report, "classes", gt.num_classes, expected.classes)
    _compare(report, "boxes", len(gt.ann_ids), expected.boxes)
    report.remarks += gt.notes
    if not is_query_file(benchmark.annotations):
        _check_names(report, gt)
    _check_boxes(report, gt)
    _check_duplicates(report, gt)
    _check_images(report, benchmark, gt, decode, progress)
    return report


def _verify_grounding(report: Report, benchmark: Benchmark, card: DatasetCard, expected: Counts) -> None:
    if not card.image_name:
        report.remarks.append("made to train on: its content is not checked, only that it is there")
        return
    from ovd_bench.benchmarks.data.files.grounding import read_mdetr_phrases

    truth = read_mdetr_phrases(benchmark.annotations)
    images = np.unique(truth.image_id).tolist()
    _compare(report, "images", len(images), expected.images)
    report.facts["phrases"] = len(truth.phrase_ids)
    report.facts["boxes"] = len(truth.boxes_xywh)
    names = [card.image_name.format(id=image) for image in images]
    _check_presence(report, {name: image_file(benchmark.images, name) for name in names})


def _compare(report: Report, what: str, found: int, expected: int | None) -> None:
    report.facts[what] = found
    if expected is not None and found != expected:
        report.wrong.append(f"annotations: {found:,} {what}, the official file has {expected:,}")


def _check_names(report: Report, gt: GroundTruth) -> None:
    if nameless := class_names.empty(gt.categories):
        report.wrong.append(f"{len(nameless):,} categories have an empty name: ids {_some(nameless)}")
    if same := class_names.alike(gt.categories.names):
        report.wrong.append(same)
    if root := class_names.roots(gt):
        report.remarks.append(f"classes without boxes that are the supercategory of others: {_some(root)}")
    if not nameless and not same:
        cleaned = default_plan(vocabulary_of(gt.categories)).clean
        if prompts := class_names.alike(gt.categories.names, cleaned):
            report.remarks.append(f"as prompts, {prompts}")


def _check_boxes(report: Report, gt: GroundTruth) -> None:
    form = other_form(gt.boxes_xywh, gt.image_sizes[gt.image_index])
    if form is not None:
        report.wrong.append(FORMS[form])
    if (gt.ann_ids == 0).any():
        report.remarks.append(
            "an annotation has id 0: the official evaluators take what is matched to it for unmatched; count from 1"
        )
    x, y, w, h = gt.boxes_xywh.T
    empty = (w <= 0) | (h <= 0)
    width, height = gt.image_sizes[gt.image_index].T
    known = (width > 0) & (height > 0)
    right, bottom = width + _SLACK, height + _SLACK
    over = known & ((x < -_SLACK) | (y < -_SLACK) | (x + w > right) | (y + h > bottom))
    outside = known & ((x >= width) | (y >= height) | (x + w <= 0) | (y + h <= 0))
    ids = gt.ann_ids
    for mask, what, findings in (
        (outside, "boxes lie outside their image", report.wrong),
        (over & ~outside, "boxes reach over the border of their image by more than a pixel", report.remarks),
        (empty & ~outside, "boxes have no area", report.remarks),
    ):
        if mask.any():
            findings.append(f"{int(mask.sum()):,} {what}: annotations {_some(ids[mask].tolist())}")


def _check_duplicates(report: Report, gt: GroundTruth) -> None:
    rows = np.column_stack([gt.image_index, gt.class_index, gt.boxes_xywh])
    _, first = np.unique(rows, axis=0, return_index=True)
    repeated = np.setdiff1d(np.arange(len(rows)), first)
    if len(repeated):
        report.remarks.append(
            f"{len(repeated):,} boxes occur twice, with the same class: annotations "
            f"{_some(gt.ann_ids[repeated].tolist())}"
        )


def _check_images(
    report: Report, benchmark: Benchmark, gt: GroundTruth, decode: bool, progress: Callable[[int], None] | None
) -> None:
    folder = benchmark.images
    names = located_paths(gt, folder, benchmark.match)
    twice = [name for name, count in Counter(names).items() if count > 1]
    if twice:
        report.wrong.append(f"{len(twice):,} files are named by several images: {_some(twice)}")
    paths: dict[str, Path] = {}
    lawless = []
    for name in names:
        try:
            paths[name] = image_file(folder, name)
        except DataError:
            lawless.append(name)
    if lawless:
        report.wrong.append(f"{len(lawless):,} image paths leave the folder of the images: {_some(lawless)}")
    present = _check_presence(report, paths)
    if benchmark.match == "path" and len(present) < len(set(names)) and base_name_there(folder, annotated_names(gt)):
        report.remarks.append(f"files of these base names are in {folder}: --match basename finds images by base name")
    if decode:
        _decode(report, gt, names, paths, present, progress)


def _check_presence(report: Report, paths: dict[str, Path]) -> set[str]:
    missing = [name for name, path in paths.items() if not path.is_file()]
    report.facts["image files"] = len(paths) - len(missing)
    if missing:
        report.wrong.append(f"{len(missing):,} image files are missing: {_some(missing)}")
    return set(paths) - set(missing)


def _decode(
    report: Report,
    gt: GroundTruth,
    names: list[str],
    paths: dict[str, Path],
    present: set[str],
    progress: Callable[[int], None] | None,
) -> None:
    failed: dict[str, list[str]] = {}
    for position, name in enumerate(names):
        if name in present:
            width, height = gt.image_sizes[position].tolist()
            try:
                read_image(int(gt.image_ids[position]), paths[name], (width, height))
            except ImageError as error:
                failed.setdefault(error.reason, []).append(name)
        if progress is not None:
            progress(1)
    report.facts["images read"] = len(present) - sum(map(len, failed.values()))
    for reason, files in sorted(failed.items(), key=lambda item: -len(item[1])):
        report.wrong.append(f"{len(files):,} images cannot be used: {reason}: {_some(files)}")


def _some(things: Iterable[object]) -> str:
    shown = [str(thing) for thing in things]
    return ", ".join(shown[:_SHOWN]) + (" …" if len(shown) > _SHOWN else "")
