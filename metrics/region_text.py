"""Region-text margin: fit of labels and pixels. Use it for diagnosis, not for ranking.

The text judge of :mod:`metrics.semantic` compares names with names; this compares a name with the crop of the object,
by the embeddings of an image-text model. It does not rank detectors, because those trained with such a model are judged
by it, small crops lack context, and the annotators' own labels do not score perfectly.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from ovd_bench.metrics.errors import DataError
from ovd_bench.metrics.semantic import match_labels
from ovd_bench.metrics.types import GroundTruth, Predictions

#: Tolerance of the length of an embedding, which must be 1.
TOLERANCE = 1e-3


@dataclass(frozen=True)
class RegionEmbeddings:
    """Unit embeddings of every object's crop and of every class name (N annotations, K classes, D dimensions).

    Attributes:
        crops: float32 (N, D), rows as the annotations of the ground truth; rows without a crop are 0.
        has_crop: bool (N,), False where the image could not be read or the box has no pixel in it.
        classes: float32 (K, D), rows as the categories of the ground truth.
        judge: name of the image-text model.
        weights_sha256: hash of the model's files.
        template: the prompt around a class name, with one ``{}``.
        unreadable: (image id, reason) of every image that could not be used.

    Raises:
        DataError: a field is not as described.
    """

    crops: npt.NDArray[np.float32]
    has_crop: npt.NDArray[np.bool_]
    classes: npt.NDArray[np.float32]
    judge: str
    weights_sha256: str
    template: str
    unreadable: tuple[tuple[int, str], ...] = ()

    def __post_init__(self) -> None:
        if self.crops.ndim != 2 or self.classes.ndim != 2 or self.crops.shape[1] != self.classes.shape[1]:
            raise DataError(
                f"region embeddings: crops {self.crops.shape} and classes {self.classes.shape} differ in dimension"
            )
        if self.has_crop.shape != (len(self.crops),) or self.has_crop.dtype != np.bool_:
            raise DataError(f"region embeddings: has_crop must be bool ({len(self.crops)},)")
        for field, rows in (("crops", self.crops[self.has_crop]), ("classes", self.classes)):
            wrong = ~(np.abs(np.linalg.norm(rows, axis=1) - 1) <= TOLERANCE)
            if wrong.any():
                raise DataError(f"region embeddings: {field} row {int(wrong.argmax())} is not of length 1")


@dataclass(frozen=True)
class RegionTextResult:
    """Fit of labels and pixels of the found objects.

    Attributes:
        metrics: flat, None where undefined. All are means over the matched objects that have a crop:
            ``region/margin`` for the predicted labels; ``region/margin_true`` for the annotated labels;
            ``region/margin_random`` for labels drawn uniformly (0 by construction); ``region/margin_generic`` for the
            best single label.
            Counts: ``region/objects`` (these objects), ``region/without_crop`` (matched objects left out),
            ``region/unreadable_images``.
        generic_label: name of the best single label, None without such objects.
        notes: one-line remarks of the matching.
    """

    metrics: dict[str, float | None]
    generic_label: str | None
    notes: tuple[str, ...]
    scope: str = "diagnosis"


def region_text_margin(
    ground_truth: GroundTruth, predictions: Predictions, embeddings: RegionEmbeddings
) -> RegionTextResult:
    """Mean margin by which the label of a found object fits its pixels better than the other names do.

    Boxes are matched as for Semantic R-precision (one label per box, fixed budget, IoU 0.5). For an object with crop
    embedding ``e`` and label ``l``, ``margin = cos(e, t_l) - mean over c != l of cos(e, t_c)``. Crops are those of the
    annotated boxes, so localisation plays no part beyond the match. As the mean over the other names is linear in
    ``e``, no object x class matrix is formed.

    Args:
        ground_truth: N annotations, K classes.
        predictions: detections.
        embeddings: rows as in ``ground_truth``.

    Raises:
        DataError: embeddings of another annotation file or fewer than two classes; also see :func:`match_labels`.
    """
    count = ground_truth.num_classes
    if (len(embeddings.crops), len(embeddings.classes)) != (len(ground_truth.ann_ids), count):
        raise DataError(
            f"region embeddings: {len(embeddings.crops)} crops and {len(embeddings.classes)} classes, the annotation "
            f"file has {len(ground_truth.ann_ids)} and {count}: embed its own objects"
        )
    if count < 2:
        raise DataError("region-text margin: one class has no other class to compare with")
    matches = match_labels(ground_truth, predictions)
    usable = embeddings.has_crop[matches.gt_row]
    rows = matches.gt_row[usable]
    crops, classes = embeddings.crops[rows].astype(np.float64), embeddings.classes.astype(np.float64)
    all_names = classes.sum(axis=0)

    def margin(label: npt.NDArray[np.int32]) -> float:
        cosine, total = np.einsum("nd,nd->n", crops, classes[label]), crops @ all_names
        return float(np.mean((count * cosine - total) / (count - 1)))

    names = ("margin", "margin_true", "margin_random", "margin_generic")
    metrics: dict[str, float | None] = dict.fromkeys(f"region/{name}" for name in names)
    generic_label = None
    if len(rows):
        centre = crops.mean(axis=0)
        generic = (count * (classes @ centre) - centre @ all_names) / (count - 1)
        generic_label = ground_truth.categories.names[int(generic.argmax())]
        values = (margin(matches.predicted[usable]), margin(ground_truth.class_index[rows]), 0.0, float(generic.max()))
        metrics = dict(zip(metrics, values, strict=True))
    metrics |= {
        "region/objects": float(len(rows)),
        "region/without_crop": float((~usable).sum()),
        "region/unreadable_images": float(len(embeddings.unreadable)),
    }
    return RegionTextResult(metrics, generic_label, matches.notes)
