"""Granularity ladder: loss of AP by naming errors, from exact names to localisation only.

    AP_exact → AP_syn → AP_basic → AP_super → AP_loc

Every rung relabels ground truth and detections by a coarser partition of the same vocabulary (``metrics.hierarchy``)
and runs the unchanged exact engine; ``exact`` is the untouched official number, ``loc`` ignores labels. Scoring at
coarser labels is the idea of Hierarchical AP (Open Images Challenge) without its preference for generic words: each
rung is a partition, so a generic word is right for one cluster only.

The rules of merging:

1. *Cap.* The protocol's cap (300 per image; 10,000 per class; 100 per image and class) is applied once, to the raw
   predictions, and lifted on the coarser rungs. Otherwise the rungs would use different sets of detections.
2. *Cluster NMS.* On every rung coarser than ``exact`` greedy NMS at IoU 0.7 inside each cluster removes the duplicates
   that merging creates, from all detections and from the ground truth (by file order instead of score; crowd and
   ignored boxes take no part). LVIS often annotates one object under two names (bottle and alcohol, shoe and boot:
   14 of 977 boxes of lvis-api's 100-image sample); without the second half a perfect detector could not reach 1.
   ``AP_exact_nms``, exact labels after the same NMS, shows the effect of NMS alone.
3. *Positive.* A cluster is present in an image as soon as one member is.
4. *Verified negative* only if all members are listed as such.
5. *Not exhaustive* if any member is listed as such, or if any member is unverified (neither present nor listed absent):
   an unmatched detection may then lie on an unannotated object, and is ignored. This applies only where the cluster
   is present or verified negative.
6. *Frequency* of a cluster is the letter of its most frequent member. The number of training images that show a
   cluster lies between the largest count and the sum of the counts of its members; the largest never overstates, needs
   no counts (not every file has them), and leaves single classes as they are. A cluster is rare if all its names are.

What the numbers mean. On exhaustive data (COCO) every rung is an AP in the full sense, ``AP_loc`` is class-agnostic AP.
On federated data (LVIS) rule 5 is the only valid one, but has a drawback: about 12 of more than 1,200 classes are
verified in an image. On lvis-api's 100-image sample random clusters of two are exhaustive on 2 % of their verified
images, of three on none; there no unmatched detection counts as a false positive, and AP turns into recall. At ``loc``
this holds for every image: ``AP_loc`` is class-agnostic average recall under the protocol's cap (on the 101-point
grid). A detector that gives each box many labels then scores high on ``super`` and ``loc``, and much of the semantic
gap comes from false positives that no longer count. Each rung therefore has an ``exhaustive_share``, the share of
verified (image, cluster) pairs where a false positive can count: 1 on COCO, 0 at ``loc`` on LVIS. Where it is small,
read the rung as recall and compare detectors by:

*Named recall* ``NR`` (all protocols; the number to use on federated data). One box, one label: class-agnostic NMS at
IoU 0.7 after the cap. Match label-agnostically, greedily by score, IoU >= 0.5. ``NR_rung`` = mean over the classes with
ground truth of the share of their boxes whose detection carries a label of the same cluster. It needs no verified
negatives, a second label for the same box cannot help, and it never decreases along the ladder, because detections,
matches and averaged classes are the same on all rungs. ``NR_loc`` is recall at IoU 0.5. It does not measure false
positives; use the exact rung for these.

AP usually, but not always, rises along the ladder: the mean is over fewer clusters (a good rare class may be merged
into a bad frequent cluster), and on federated data a coarser rung counts detections that the exact one leaves out.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from ovd_bench.metrics.boxes import match_greedy, nms, xywh_to_xyxy
from ovd_bench.metrics.errors import DataError
from ovd_bench.metrics.evaluate import Evaluation, evaluate
from ovd_bench.metrics.hierarchy import Hierarchy, Partition
from ovd_bench.metrics.protocol import FREQUENCIES, Protocol
from ovd_bench.metrics.types import Categories, FloatArray, GroundTruth, IntArray, Predictions, Ragged, positions

RUNGS = ("exact", "syn", "basic", "super", "loc")
CLUSTER_NMS_IOU = 0.7
NAMED_RECALL_IOU = 0.5

_STATISTICS = ("AP", "AP50", "APr", "APc", "APf")
_NO_LIMIT = 2**31 - 1


@dataclass(frozen=True)
class Rung:
    """One rung of the ladder; None where a number is undefined.

    Attributes:
        num_clusters: clusters of the partition (classes at ``exact``, 1 at ``loc``).
        exhaustive_share: share of verified (image, cluster) pairs where an unmatched detection is a false positive.
        statistics: ``AP``, ``AP50`` and, with LVIS rules, ``APr``, ``APc``, ``APf`` of the relabelled data; ``NR``, the
            share of ground truth found and named right at this granularity (mean over the exact classes).
    """

    num_clusters: int
    exhaustive_share: float | None
    statistics: dict[str, float | None]


@dataclass(frozen=True)
class LadderResult:
    """The granularity ladder of one set of predictions.

    Attributes:
        rungs: per name of ``RUNGS`` the rung, None where the hierarchy holds no information for it.
        exact_nms: AP statistics of exact labels after per-class NMS: the effect of NMS without merging.
    """

    rungs: dict[str, Rung | None]
    exact_nms: dict[str, float | None]

    def value(self, rung: str, statistic: str = "AP") -> float | None:
        """A statistic of a rung, None where either is undefined."""
        found = self.rungs[rung]
        return None if found is None else found.statistics[statistic]

    def gain(self, rung: str, statistic: str = "AP") -> float | None:
        """Statistic of a rung minus that of the exact rung, None where either is undefined."""
        coarse, exact = self.value(rung, statistic), self.value("exact", statistic)
        return None if coarse is None or exact is None else coarse - exact

    @property
    def semantic_gap(self) -> float | None:
        """``AP_super - AP_exact``: loss by naming errors within a supercategory."""
        return self.gain("super")

    @property
    def naming_loss(self) -> float | None:
        """``AP_loc - AP_exact``: loss by naming errors of any kind."""
        return self.gain("loc")

    @property
    def metrics(self) -> dict[str, float | None]:
        """Flat numbers, keys such as ``ladder/AP_syn``, ``ladder/NR_super``, ``ladder/clusters_basic``."""
        flat: dict[str, float | None] = {}
        for name, rung in self.rungs.items():
            flat |= {f"ladder/{statistic}_{name}": self.value(name, statistic) for statistic in (*self.exact_nms, "NR")}
            flat[f"ladder/exhaustive_{name}"] = rung.exhaustive_share if rung else None
            flat[f"ladder/clusters_{name}"] = rung.num_clusters if rung else None
        flat |= {f"ladder/{statistic}_exact_nms": value for statistic, value in self.exact_nms.items()}
        return flat | {
            "ladder/semantic_gap": self.semantic_gap,
            "ladder/naming_loss": self.naming_loss,
            "ladder/NR_semantic_gap": self.gain("super", "NR"),
            "ladder/NR_naming_loss": self.gain("loc", "NR"),
        }


def granularity_ladder(
    gt: GroundTruth, predictions: Predictions, protocol: Protocol, hierarchy: Hierarchy
) -> LadderResult:
    """Score predictions at every granularity of a hierarchy; rules and meaning are those of this module's docstring.

    Args:
        gt: ground truth with K classes.
        predictions: detections of the same data set.
        protocol: rules and caps of the exact rung.
        hierarchy: partitions of the K classes; an undefined rung (None) stays undefined in the result.

    Raises:
        DataError: a rung is of another vocabulary; see also ``metrics.matching.match``.
    """
    exact = evaluate(gt, predictions, protocol).metrics
    detections = _Detections.prepare(gt, predictions, protocol)
    found_as = _label_of_best_box(gt, detections, protocol)
    partitions = {
        "exact": Partition.identity(gt.categories),
        "syn": hierarchy.syn,
        "basic": hierarchy.basic,
        "super": hierarchy.super,
        "loc": Partition.single(gt.categories),
    }
    rungs: dict[str, Rung | None] = dict.fromkeys(RUNGS)
    exact_nms: dict[str, float | None] = {}
    for name, partition in partitions.items():
        if partition is None:
            continue
        if len(partition.cluster) != gt.num_classes:
            raise DataError(
                f"hierarchy: {name} covers {len(partition.cluster)} classes, annotations have {gt.num_classes}"
            )
        merged = merge_ground_truth(gt, partition, protocol)
        scored = evaluate(merged, detections.merge(partition), _without_caps(protocol)).metrics
        if name == "exact":
            exact_nms, scored = _selected(scored), exact
        rungs[name] = Rung(
            num_clusters=len(partition),
            exhaustive_share=_exhaustive_share(merged, protocol),
            statistics=_selected(scored) | {"NR": _named_recall(gt, found_as, partition, protocol)},
        )
    return LadderResult(rungs, exact_nms)


def evaluate_rung(
    gt: GroundTruth, predictions: Predictions, protocol: Protocol, partition: Partition
) -> tuple[GroundTruth, Evaluation]:
    """One rung coarser than ``exact``, for the bootstrap: merged ground truth, and its evaluation with records.

    Args:
        gt: ground truth with K classes.
        predictions: detections of the same data set.
        protocol: rules and caps of the exact rung.
        partition: partition of the K classes.

    Raises:
        DataError: see ``metrics.matching.match``.
    """
    merged = merge_ground_truth(gt, partition, protocol)
    detections = _Detections.prepare(gt, predictions, protocol).merge(partition)
    return merged, evaluate(merged, detections, _without_caps(protocol), keep_records=True)


def merge_ground_truth(gt: GroundTruth, partition: Partition, protocol: Protocol) -> GroundTruth:
    """Ground truth with clusters instead of classes: rules 2 to 6 of the module's docstring. Category ids are 1 … C.

    If every class is its own cluster, only the ids change, and NMS removes duplicates.
    """
    cluster = partition.cluster[gt.class_index]
    keep = np.ones(len(gt.ann_ids), np.bool_)
    regular = _regular(gt, protocol)
    keep[regular] = nms(
        gt.image_index[regular],
        xywh_to_xyxy(gt.boxes_xywh[regular]),
        np.zeros(np.count_nonzero(regular)),
        CLUSTER_NMS_IOU,
        cluster[regular],
    )
    neg, not_exhaustive = _merge_lists(gt, partition) if gt.federated else (gt.neg, gt.not_exhaustive)
    return GroundTruth(
        image_ids=gt.image_ids,
        image_sizes=gt.image_sizes,
        categories=_merge_categories(gt.categories, partition),
        ann_ids=gt.ann_ids[keep],
        image_index=gt.image_index[keep],
        class_index=cluster[keep],
        boxes_xywh=gt.boxes_xywh[keep],
        area=gt.area[keep],
        iscrowd=gt.iscrowd[keep],
        ignore=gt.ignore[keep],
        neg=neg,
        not_exhaustive=not_exhaustive,
        federated=gt.federated,
        notes=gt.notes,
    )


@dataclass(frozen=True)
class _Detections:
    """Detections after the cap, of known classes (n rows).

    Attributes:
        rows: the detections, in file order.
        image_index: int32 (n,).
        class_index: int32 (n,).
        boxes_xyxy: float64 (n, 4).
    """

    rows: Predictions
    image_index: npt.NDArray[np.int32]
    class_index: npt.NDArray[np.int32]
    boxes_xyxy: npt.NDArray[np.float64]

    @staticmethod
    def prepare(gt: GroundTruth, predictions: Predictions, protocol: Protocol) -> _Detections:
        image = positions(gt.image_ids, predictions.image_id)
        label = positions(gt.categories.ids, predictions.category_id)
        # Unknown classes are dropped after the cap and count for it, as in lvis-api.
        keep = label >= 0
        if protocol.image_cap is not None:
            keep &= _rank(image, predictions.score) < protocol.image_cap
        if protocol.class_cap is not None:
            keep &= _rank(label, predictions.score) < protocol.class_cap
        if protocol.max_dets:
            pair = image.astype(np.int64) * (gt.num_classes + 1) + label
            keep &= _rank(pair, predictions.score) < protocol.max_dets[-1]
        rows = predictions.take(keep)
        return _Detections(rows, image[keep], label[keep], rows.boxes_xyxy())

    def merge(self, partition: Partition) -> Predictions:
        """Detections with the category ids of ``merge_ground_truth``, after cluster NMS."""
        cluster = partition.cluster[self.class_index]
        keep = nms(self.image_index, self.boxes_xyxy, self.rows.score, CLUSTER_NMS_IOU, cluster)
        return replace(self.rows, category_id=cluster + np.int32(1)).take(keep)


def _rank(key: IntArray, score: FloatArray) -> npt.NDArray[np.int64]:
    """Place of every row among the rows of its key, 0 = highest score; equal scores keep the order of the file."""
    n = len(key)
    order = np.lexsort((-score, key))
    starts = np.flatnonzero(np.diff(key[order], prepend=-2))
    rank = np.empty(n, np.int64)
    rank[order] = np.arange(n) - np.repeat(starts, np.diff(starts, append=n))
    return rank


def _merge_lists(gt: GroundTruth, partition: Partition) -> tuple[Ragged, Ragged]:
    """Clusters verified negative and not exhaustive, per image."""
    present = _pairs(gt.image_index, gt.class_index, gt.num_classes, gt.area > 0)
    absent = _pairs(gt.neg.row_index(), gt.neg.values, gt.num_classes)
    listed = _pairs(gt.not_exhaustive.row_index(), gt.not_exhaustive.values, gt.num_classes)

    clusters = len(partition)
    size = np.bincount(partition.cluster)

    def to_clusters(pairs: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
        keys: npt.NDArray[np.int64] = pairs // gt.num_classes * clusters + partition.cluster[pairs % gt.num_classes]
        return keys

    def complete(pairs: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
        """(image, cluster) keys all of whose members are among the (image, class) ``pairs``."""
        keys, members = np.unique(to_clusters(pairs), return_counts=True)
        whole: npt.NDArray[np.int64] = keys[members == size[keys % clusters]]
        return whole

    positive = np.unique(to_clusters(present))
    negative = complete(absent)
    unverified = np.setdiff1d(positive, complete(np.union1d(present, absent)), assume_unique=True)
    relevant = np.union1d(positive, negative)
    not_exhaustive = np.union1d(unverified, np.intersect1d(to_clusters(listed), relevant))
    return _ragged(negative, gt.num_images, clusters), _ragged(not_exhaustive, gt.num_images, clusters)


def _pairs(
    image: IntArray, label: IntArray, classes: int, where: npt.NDArray[np.bool_] | None = None
) -> npt.NDArray[np.int64]:
    """Sorted distinct keys ``image * classes + label``."""
    keys: npt.NDArray[np.int64] = image.astype(np.int64) * classes + label
    return np.unique(keys if where is None else keys[where])


def _ragged(keys: npt.NDArray[np.int64], images: int, clusters: int) -> Ragged:
    offsets = np.zeros(images + 1, np.int64)
    np.cumsum(np.bincount(keys // clusters, minlength=images), out=offsets[1:])
    return Ragged(offsets, (keys % clusters).astype(np.int32))


def _merge_categories(categories: Categories, partition: Partition) -> Categories:
    letters = [""] * len(partition)
    for letter in FREQUENCIES:  # from rare to frequent: the last letter written is the most frequent member's
        for cluster, frequency in zip(partition.cluster, categories.frequency, strict=True):
            if frequency == letter:
                letters[cluster] = letter
    return replace(Categories.plain(np.arange(1, len(partition) + 1), list(partition.names)), frequency=tuple(letters))


def _without_caps(protocol: Protocol) -> Protocol:
    return replace(protocol, image_cap=None, class_cap=None, max_dets=(_NO_LIMIT,) if protocol.max_dets else ())


def _regular(gt: GroundTruth, protocol: Protocol) -> npt.NDArray[np.bool_]:
    """Ground truth that a detection must find under the protocol's rules; bool (N,)."""
    return ~gt.ignore & (gt.area > 0) if protocol.federated else ~gt.iscrowd


def _label_of_best_box(gt: GroundTruth, detections: _Detections, protocol: Protocol) -> npt.NDArray[np.int32]:
    """Class under which each regular ground truth box was found, -1 where it was not; one box, one label."""
    single = nms(detections.image_index, detections.boxes_xyxy, detections.rows.score, CLUSTER_NMS_IOU)
    regular = _regular(gt, protocol)
    match = match_greedy(
        gt.image_index[regular],
        xywh_to_xyxy(gt.boxes_xywh[regular]),
        detections.image_index[single],
        detections.boxes_xyxy[single],
        detections.rows.score[single],
        NAMED_RECALL_IOU,
    )
    found_as = np.full(np.count_nonzero(regular), -1, np.int32)
    found_as[match[match >= 0]] = detections.class_index[single][match >= 0]
    return found_as


def _named_recall(
    gt: GroundTruth, found_as: npt.NDArray[np.int32], partition: Partition, protocol: Protocol
) -> float | None:
    truth = gt.class_index[_regular(gt, protocol)]
    right = (found_as >= 0) & (partition.cluster[found_as] == partition.cluster[truth])
    boxes = np.bincount(truth, minlength=gt.num_classes)
    hits = np.bincount(truth, weights=right, minlength=gt.num_classes)
    defined = boxes > 0
    return float(np.mean(hits[defined] / boxes[defined])) if defined.any() else None


def _exhaustive_share(merged: GroundTruth, protocol: Protocol) -> float | None:
    if not protocol.federated:
        return 1.0
    present = _pairs(merged.image_index, merged.class_index, merged.num_classes, merged.area > 0)
    absent = _pairs(merged.neg.row_index(), merged.neg.values, merged.num_classes)
    verified = np.union1d(present, absent)
    listed = _pairs(merged.not_exhaustive.row_index(), merged.not_exhaustive.values, merged.num_classes)
    return float(np.mean(np.isin(verified, listed, invert=True))) if len(verified) else None


def _selected(statistics: dict[str, float | None]) -> dict[str, float | None]:
    return {name: statistics[name] for name in _STATISTICS if name in statistics}
