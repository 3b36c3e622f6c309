"""Notes on the files of a score: dropped records, unusual records, doubtful use."""

from __future__ import annotations

import numpy as np

from ovd_bench.benchmarks.scoring.likely_causes import likely_causes
from ovd_bench.metrics.departure import departure_text
from ovd_bench.metrics.errors import DataError
from ovd_bench.metrics.evaluate import Evaluation
from ovd_bench.metrics.protocol import PROTOCOLS, Protocol
from ovd_bench.metrics.types import GroundTruth, Predictions

_USUAL_CAP = PROTOCOLS["lvis"].image_cap


def check_fit(gt: GroundTruth, protocol: Protocol) -> None:
    """Refuse a protocol that the annotations do not support.

    Raises:
        DataError: LVIS rules on annotations without federated lists.
    """
    if protocol.federated and not gt.federated:
        raise DataError(
            f"protocol '{protocol.name}' needs neg_category_ids and not_exhaustive_category_ids on every image, "
            "which these annotations lack: use --protocol coco"
        )


def score_notes(gt: GroundTruth, predictions: Predictions, evaluation: Evaluation) -> list[str]:
    """One line per kind of dropped or unusual record, with its treatment."""
    lines = [*gt.notes, *_about_ground_truth(gt, evaluation.protocol), *_about_detections(evaluation)]
    return [*lines, *_about_fit(gt, predictions, evaluation.protocol), *likely_causes(gt, predictions, evaluation)]


def _about_ground_truth(gt: GroundTruth, protocol: Protocol) -> list[str]:
    zero_area, id_zero = int(np.sum(gt.area <= 0)), int(np.sum(gt.ann_ids == 0))
    crowd, ignore = int(gt.iscrowd.sum()), int(gt.ignore.sum())
    lines = []
    if id_zero:
        lines.append("ground truth id 0: a detection matched to it reads as unmatched, as in the official code")
    if protocol.federated:
        if zero_area:
            lines.append(f"{zero_area:,} ground truth boxes with area <= 0: dropped, as lvis-api does")
        if crowd:
            lines.append(f"{crowd:,} ground truth boxes with iscrowd: ordinary boxes, lvis-api does not read the field")
        if ignore:
            lines.append(f"{ignore:,} ground truth boxes with ignore: never counted, as lvis-api does")
        if not any(gt.categories.frequency):
            lines.append("categories carry no frequency: APr, APc and APf are undefined")
    elif ignore:
        lines.append(f"{ignore:,} ground truth boxes with ignore: not read, pycocotools overwrites it by iscrowd")
    return lines


def _about_detections(evaluation: Evaluation) -> list[str]:
    counts, protocol = evaluation.matches.counts, evaluation.protocol
    lines = []
    if counts.over_image_cap:
        lines.append(
            f"{counts.over_image_cap:,} detections beyond {protocol.image_cap} per image: dropped "
            f"({counts.images_over_cap:,} images)"
        )
    if counts.over_class_cap:
        lines.append(f"{counts.over_class_cap:,} detections beyond {protocol.class_cap:,} per class: dropped")
    if counts.unknown_class:
        lines.append(f"{counts.unknown_class:,} detections of classes not in the annotations: dropped")
    if counts.no_area:
        what = "dropped, as lvis-api does" if protocol.federated else "kept as false positives, as pycocotools does"
        lines.append(f"{counts.no_area:,} detections with w * h <= 0: {what}")
    if counts.negative_size:
        lines.append(
            f"{counts.negative_size:,} detections with a negative side: judged by w * h as the official code does"
        )
    if counts.unverified:
        lines.append(
            f"{counts.unverified:,} detections of classes neither present nor verified absent in their image: "
            "not counted (federated rule)"
        )
    return lines


def _about_fit(gt: GroundTruth, predictions: Predictions, protocol: Protocol) -> list[str]:
    lines = []
    if departure := departure_text(protocol):
        lines.append(f"departs from COCO, so the numbers are not COCO AP: {departure}")
    if gt.federated and not protocol.federated:
        lines.append(
            "warning: COCO rules on federated annotations count every unlabelled object as a false positive; "
            "the numbers are not comparable with LVIS AP"
        )
    if protocol.class_cap is not None:
        per_image = np.unique(predictions.image_id, return_counts=True)[1]
        at_cap = int(np.sum(per_image == _USUAL_CAP))
        if at_cap and per_image.max() == _USUAL_CAP:
            lines.append(
                f"warning: no image has more than {_USUAL_CAP} detections and {at_cap:,} have exactly as many: "
                "the file looks capped per image, so this is not fixed AP; export without the cap"
            )
    return lines
