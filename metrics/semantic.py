"""Semantic R-precision: how close the names of the found objects are to the true names.

Raw embedding similarity rewards any label, because the cosine of two unrelated names is far from 0. Here it is
corrected for chance (0 = random class, 1 = same class), every box has one label, and the number of boxes per image is
fixed to the number of objects, so that neither a score threshold nor more boxes can raise it. The similarities come
from a matrix that a pinned judge computed beforehand, so scoring runs no neural network.

Sources: R-precision is from document retrieval (Manning, Raghavan and Schütze 2008, §8.4), the rescaling by a chance
level from BERTScore (Zhang et al. 2020, "Baseline Rescaling"); credit for a close label is Open AP's idea (Zhou et al.,
arXiv 2311.03352), here with chance removed.
"""

from __future__ import annotations

import hashlib
import json
import math
import string
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from ovd_bench.metrics.boxes import match_greedy, max_iou, nms, xywh_to_xyxy
from ovd_bench.metrics.errors import DataError
from ovd_bench.metrics.types import FloatArray, GroundTruth, IntArray, Predictions, positions

Float64 = npt.NDArray[np.float64]

#: Overlap above which the lower-scoring of two boxes of an image is removed, whatever the labels.
NMS_IOU = 0.7
#: Overlap from which a box has found an object.
MATCH_IOU = 0.5
#: Share of a box inside a crowd region from which the box is ignored (pycocotools' lowest threshold).
CROWD_COVERAGE = 0.5
#: Tolerance of a similarity matrix: symmetry, unit diagonal, range [-1, 1].
TOLERANCE = 1e-5

SCOPE_EXHAUSTIVE = "detection"
SCOPE_FEDERATED = "label quality given localisation"


@dataclass(frozen=True)
class SimilarityMatrix:
    """Similarity of every two class names of a vocabulary according to one judge (V names).

    Attributes:
        names: V different class names, spelled as in the annotation file.
        matrix: float32 (V, V), cosines: symmetric, diagonal 1, finite.
        judge: name of the text encoder.
        weights_sha256: hash of the encoder's files, 64 hexadecimal digits.
        template: the prompt around a class name, with one ``{}``.

    Raises:
        DataError: a field is not as described.
    """

    names: tuple[str, ...]
    matrix: npt.NDArray[np.float32]
    judge: str
    weights_sha256: str
    template: str

    def __post_init__(self) -> None:
        count = len(self.names)
        if count == 0 or len(set(self.names)) != count:
            raise DataError(
                f"similarity matrix: {count} names, {len(set(self.names))} different; they must be unique, at least one"
            )
        if self.matrix.shape != (count, count) or self.matrix.dtype != np.float32:
            found = f"{self.matrix.dtype} {self.matrix.shape}"
            raise DataError(f"similarity matrix: matrix is {found}, expected float32 {(count, count)}")
        if not np.isfinite(self.matrix).all() or np.abs(self.matrix).max() > 1 + TOLERANCE:
            raise DataError("similarity matrix: matrix has a value that is not a cosine (finite, from -1 to 1)")
        if np.abs(np.diagonal(self.matrix) - 1).max() > TOLERANCE:
            worst = int(np.abs(np.diagonal(self.matrix) - 1).argmax())
            raise DataError(
                f"similarity matrix: '{self.names[worst]}' with itself is {self.matrix[worst, worst]}, not 1"
            )
        if np.abs(self.matrix - self.matrix.T).max() > TOLERANCE:
            raise DataError("similarity matrix: matrix is not symmetric")
        if len(self.weights_sha256) != 64 or not set(self.weights_sha256) <= set(string.hexdigits):
            raise DataError(
                f"similarity matrix: weights_sha256 is '{self.weights_sha256[:80]}', expected 64 hex digits"
            )

    @property
    def content_sha256(self) -> str:
        """Hash of everything a score depends on: names in order, judge, weights, template and the numbers."""
        header = [list(self.names), self.judge, self.weights_sha256, self.template]
        digest = hashlib.sha256(json.dumps(header).encode())
        digest.update(np.ascontiguousarray(self.matrix, "<f4").tobytes())
        return digest.hexdigest()

    def indistinguishable(self) -> tuple[tuple[str, str], ...]:
        """Pairs of different names with the same embedding (cosine 1), in the order of the names."""
        rows, columns = np.nonzero(np.triu(self.matrix >= 1 - TOLERANCE, 1))
        return tuple((self.names[row], self.names[column]) for row, column in zip(rows, columns, strict=True))

    def aligned(self, names: Sequence[str]) -> npt.NDArray[np.float32]:
        """Similarities of the given class names, float32 (K, K); names may repeat.

        Raises:
            DataError: names that the matrix lacks.
        """
        row = {name: position for position, name in enumerate(self.names)}
        missing = [name for name in names if name not in row]
        if missing:
            first = ", ".join(f"'{name}'" for name in missing[:3])
            raise DataError(
                f"similarity matrix of {self.judge} lacks {len(missing)} of {len(names)} classes ({first}"
                f"{', …' if len(missing) > 3 else ''}): build one for this annotation file"
            )
        rows = [row[name] for name in names]
        return self.matrix[np.ix_(rows, rows)]


@dataclass(frozen=True)
class LabelMatches:
    """Objects and their predicted labels: the label-agnostic matching that all label scores share (M matches).

    Attributes:
        gt_row: int64 (M,), rows of the ground truth.
        predicted: int32 (M,), class position of the detection's label.
        objects: int64 (I,), objects per image that count (|G_i|).
        notes: one-line remarks on what was left out.
    """

    gt_row: npt.NDArray[np.int64]
    predicted: npt.NDArray[np.int32]
    objects: npt.NDArray[np.int64]
    notes: tuple[str, ...]


@dataclass(frozen=True)
class SemanticResult:
    """Semantic R-precision of one run.

    Attributes:
        metrics: flat, every number in [0, 1] or None where undefined:
            ``srp/SRP``, ``srp/SRP1`` (same class only), ``srp/SRP_loc`` (any label), ``srp/near_miss_share``;
            ``srp/SRP_raw``: SRP without the suppression, i.e. of the k best boxes as submitted;
            ``srp/random_label``: expected SRP of the same boxes with labels drawn uniformly from the vocabulary;
            ``srp/permuted_label``: expected SRP with the labels of the matched boxes permuted among them;
            ``srp/generic_label``: SRP of the best single label for all boxes;
            ``srp/objects`` and ``srp/matched``: counts.
        scope: what the numbers mean, ``detection`` or ``label quality given localisation``; never compare the two.
        generic_label: name of the best single label, None without objects.
        numerators: float64 (I,) per image for ``SRP``, ``SRP1``, ``SRP_loc`` and ``SRP_raw``: the score is the sum over
            the images divided by the sum of ``denominator``, with a weight per image for a bootstrap.
        denominator: float64 (I,), objects per image.
        similarity_sha256: ``content_sha256`` of the matrix.
        notes: one-line remarks.
    """

    metrics: dict[str, float | None]
    scope: str
    generic_label: str | None
    numerators: dict[str, Float64]
    denominator: Float64
    similarity_sha256: str
    notes: tuple[str, ...]


def chance_corrected(similarity: FloatArray) -> Float64:
    """Similarity over chance: 0 for names no closer than random ones, 1 for the same class.

    ``ŝ(c, g) = clip((S(c, g) - m) / (1 - m), 0, 1)`` with ``m = max(μ_c, μ_g)`` and ``μ_x`` the mean of ``S`` between x
    and every other class. Both chance levels are needed: with the true class's ``μ_g`` alone, a word that is moderately
    similar to everything would get credit for every object. With MiniLM and the LVIS v0.5 vocabulary such a word
    (``cincture``) gets 0.20 on average over all classes; with both levels no word gets more than 0.06, while pairs
    such as sofa and sofa_bed keep their 0.86.

    Args:
        similarity: (K, K), symmetric, diagonal 1, in the order of the vocabulary that labels come from.

    Returns:
        float64 (K, K), symmetric. The order of the classes does not matter to the last bit.

    Raises:
        DataError: a class that the judge cannot distinguish from any other.
    """
    count = len(similarity)
    corrected = similarity.astype(np.float64)
    if count > 1:
        np.fill_diagonal(corrected, 0.0)
        mean = _row_sums(corrected) / (count - 1)
        if mean.max() >= 1 - TOLERANCE:
            raise DataError(f"similarity matrix: class {int(mean.argmax())} looks like every other to the judge")
        chance = np.maximum.outer(mean, mean)
        corrected = np.clip((corrected - chance) / (1 - chance), 0.0, 1.0)
    np.fill_diagonal(corrected, 1.0)
    return corrected


def semantic_r_precision(
    ground_truth: GroundTruth, predictions: Predictions, similarity: SimilarityMatrix
) -> SemanticResult:
    """Semantic R-precision (SRP) with its parts and its baselines.

    1. Chance-corrected similarity ``ŝ`` over the vocabulary of the ground truth, see :func:`chance_corrected`.
    2. One box, one label: class-agnostic suppression at IoU 0.7.
    3. Fixed budget: per image the ``k = |G_i|`` highest-scoring boxes (equal scores: earlier record).
    4. Label-agnostic greedy matching at IoU 0.5, one object once. ``SRP = Σ_matched ŝ(label, true) / |G|``;
       ``SRP1`` counts equal classes only, ``SRP_loc`` every match.
    5. ``near_miss_share = (SRP - SRP1) / (SRP_loc - SRP1)``: of the objects that were found and misnamed, how close the
       names were.

    ``SRP_raw`` omits step 2. A detector that gives each box every label of a family cannot gain from it under SRP
    (only its best label is read) and loses most of its budget under ``SRP_raw``.

    Matching ignores labels, so both chance baselines are exact expectations over all labellings, not samples.

    Objects are the ground truth that the official evaluators count: exhaustive data (COCO) leaves out ``iscrowd``,
    federated data (LVIS) leaves out ``ignore`` and does not read ``iscrowd``. A box of which at least half lies in an
    object left out, and that has IoU < 0.5 with every other, is dropped before the budget.

    Federated data does not label every object, so an unmatched box is not evidence of an error. There only boxes with
    IoU >= 0.5 with some object are admitted to the budget: the overlap that decides a match, because a lower one would
    admit boxes that can only waste the budget and a higher one would drop boxes that matching accepts. The result then
    says ``label quality given localisation`` and must not be compared with the exhaustive kind.

    Args:
        ground_truth: I images, K classes.
        predictions: N rows; labels outside the vocabulary are left out and counted in the notes.
        similarity: matrix that holds every class name of the ground truth; it may hold more, which do not matter.

    Raises:
        DataError: an image that the ground truth lacks, or class names that the matrix lacks.
    """
    corrected = chance_corrected(similarity.aligned(ground_truth.categories.names))
    matches, raw = _match(ground_truth, predictions)
    true = ground_truth.class_index[matches.gt_row]
    earned = {
        "SRP": (matches, corrected[matches.predicted, true]),
        "SRP1": (matches, (matches.predicted == true).astype(np.float64)),
        "SRP_loc": (matches, np.ones(len(true))),
        "SRP_raw": (raw, corrected[raw.predicted, ground_truth.class_index[raw.gt_row]]),
    }
    numerators = {name: _per_image(ground_truth, rows.gt_row, values) for name, (rows, values) in earned.items()}
    total = int(matches.objects.sum())

    metrics: dict[str, float | None] = {
        f"srp/{name}": math.fsum(values) / total if total else None for name, values in numerators.items()
    }
    exact, found = math.fsum(numerators["SRP1"]), math.fsum(numerators["SRP_loc"])
    metrics["srp/near_miss_share"] = (math.fsum(numerators["SRP"]) - exact) / (found - exact) if found > exact else None
    baselines, generic = _baselines(corrected, matches.predicted, true, total)
    metrics |= baselines
    metrics |= {"srp/objects": float(total), "srp/matched": float(len(true))}
    return SemanticResult(
        metrics,
        SCOPE_FEDERATED if ground_truth.federated else SCOPE_EXHAUSTIVE,
        None if generic is None else ground_truth.categories.names[generic],
        numerators,
        matches.objects.astype(np.float64),
        similarity.content_sha256,
        matches.notes,
    )


def match_labels(ground_truth: GroundTruth, predictions: Predictions) -> LabelMatches:
    """Steps 2 to 4 of :func:`semantic_r_precision`: one label per box, fixed budget, label-agnostic matching."""
    return _match(ground_truth, predictions)[0]


def _match(gt: GroundTruth, predictions: Predictions) -> tuple[LabelMatches, LabelMatches]:
    """Matches with and without the class-agnostic suppression."""
    ignored = gt.ignore if gt.federated else gt.iscrowd
    gt_rows = np.flatnonzero(~ignored)
    gt_image = gt.image_index[gt_rows]
    gt_xyxy = xywh_to_xyxy(gt.boxes_xywh)
    budget = np.bincount(gt_image, minlength=gt.num_images)

    image = positions(gt.image_ids, predictions.image_id)
    if len(image) and image.min() < 0:
        record = int(np.argmax(image < 0))
        missing = int(predictions.image_id[record])
        raise DataError(f"record {record}: image_id {missing} is not in the annotation file; remove the record")
    label = positions(gt.categories.ids, predictions.category_id)
    unknown_labels = int((label < 0).sum())
    rows = np.flatnonzero((label >= 0) & (budget[image] > 0))
    image, label, score = image[rows], label[rows], predictions.score[rows]
    boxes = predictions.take(rows).boxes_xyxy()

    if gt.federated:
        admitted = max_iou(gt_image, gt_xyxy[gt_rows], image, boxes)[0] >= MATCH_IOU
        left_out = "detections lie on no annotated object and are left out"
    else:
        admitted = np.ones(len(rows), np.bool_)
        inside = np.flatnonzero(_covered(gt.image_index[ignored], gt_xyxy[ignored], image, boxes))
        best, _ = max_iou(gt_image, gt_xyxy[gt_rows], image[inside], boxes[inside])
        admitted[inside[best < MATCH_IOU]] = False
        left_out = "detections lie in a crowd region and are left out"

    counts = (
        (int(ignored.sum()), "annotations are crowd or ignored regions and no objects"),
        (unknown_labels, "detections have a category_id outside the vocabulary and are left out"),
        (int((~admitted).sum()), left_out),
    )
    notes = tuple(f"{count:,} {what}" for count, what in counts if count)

    def matches(chosen: npt.NDArray[np.bool_]) -> LabelMatches:
        kept = _within_budget(np.flatnonzero(chosen), image, score, budget)
        matched = match_greedy(gt_image, gt_xyxy[gt_rows], image[kept], boxes[kept], score[kept], MATCH_IOU)
        hit = matched >= 0
        return LabelMatches(gt_rows[matched[hit]], label[kept[hit]], budget, notes)

    return matches(admitted & nms(image, boxes, score, NMS_IOU)), matches(admitted)


def _within_budget(rows: IntArray, image: IntArray, score: FloatArray, budget: IntArray) -> npt.NDArray[np.int64]:
    """The ``budget[i]`` highest-scoring of the given rows of every image ``i``, as increasing row numbers."""
    order = rows[np.lexsort((-score[rows], image[rows]))]
    ordered = image[order]
    rank = np.arange(len(order)) - np.searchsorted(ordered, ordered)
    return np.sort(order[rank < budget[ordered]])


def _covered(
    region_image: IntArray, region_xyxy: Float64, image: IntArray, boxes_xyxy: Float64
) -> npt.NDArray[np.bool_]:
    """Which boxes lie with at least half of their area in one of the regions of their image; bool (N,)."""
    covered = np.zeros(len(image), np.bool_)
    if len(region_image) == 0:
        return covered
    order = np.argsort(image, kind="stable")
    start, stop = (np.searchsorted(image[order], region_image, side) for side in ("left", "right"))
    for region, first, last in zip(region_xyxy, start, stop, strict=True):
        rows = order[first:last]
        boxes = boxes_xyxy[rows]
        corner, far = np.maximum(boxes[:, :2], region[:2]), np.minimum(boxes[:, 2:], region[2:])
        area = np.prod(boxes[:, 2:] - boxes[:, :2], axis=1)
        inside = np.prod(np.maximum(far - corner, 0.0), axis=1)
        covered[rows] |= (inside > 0) & (inside >= CROWD_COVERAGE * area)
    return covered


def _baselines(
    corrected: Float64, predicted: IntArray, true: IntArray, total: int
) -> tuple[dict[str, float | None], int | None]:
    """SRP of the same boxes with uninformative labels, as exact expectations, and with the best single label."""
    keys = ("srp/random_label", "srp/permuted_label", "srp/generic_label")
    if total == 0:
        return dict.fromkeys(keys), None
    count = len(corrected)
    # score of each label if all matched boxes had it
    earned = _row_sums(corrected * np.bincount(true, minlength=count))
    share = np.bincount(predicted, minlength=count) / max(len(predicted), 1)
    values = (math.fsum(earned) / count, math.fsum(earned * share), float(earned.max()))
    return {key: value / total for key, value in zip(keys, values, strict=True)}, int(earned.argmax())


def _per_image(gt: GroundTruth, gt_row: IntArray, values: Float64) -> Float64:
    """Sum of ``values`` per image, float64 (I,); smallest first, so that the order of records has no effect."""
    order = np.argsort(values)
    sums: Float64 = np.bincount(gt.image_index[gt_row[order]], values[order], gt.num_images).astype(np.float64)
    return sums


def _row_sums(matrix: Float64) -> Float64:
    """Correctly rounded sum of every row: the same in any order of the columns."""
    return np.array([math.fsum(row.tolist()) for row in matrix])
