"""The images of a run, and the classes that the detector is given for each."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from ovd_bench.benchmarks.data.catalog.benchmark import vocabulary_of
from ovd_bench.benchmarks.store.protocols import VocabularyMode
from ovd_bench.detectors.types import Question, Vocabulary
from ovd_bench.metrics.types import GroundTruth, positions

#: Positions of the classes that the detector is given together; None = all.
Subset = tuple[int, ...] | None


@dataclass(frozen=True)
class Group:
    """Images of one shard with the same given classes.

    Attributes:
        subset: these classes.
        members: positions of the images in the run, increasing.
    """

    subset: Subset
    members: list[int]


@dataclass(frozen=True)
class RunImages:
    """Images of a run in order of their ids (n images).

    Attributes:
        vocabulary: all classes of the benchmark.
        image_ids: n ids.
        files: n paths below the folder of the images.
        sizes: n annotated widths and heights; None where not known.
        subsets: classes given for each image; None = all classes for every image.
        questions: what the classes ask, for a file of queries; each is asked alone.
    """

    vocabulary: Vocabulary
    image_ids: list[int]
    files: list[str]
    sizes: list[tuple[int, int] | None]
    subsets: list[tuple[int, ...]] | None
    questions: tuple[Question, ...] | None = None

    @staticmethod
    def of(
        gt: GroundTruth,
        mode: VocabularyMode,
        image_ids: list[int],
        names: list[str],
        questions: tuple[Question, ...] | None = None,
    ) -> RunImages:
        """The given images (sorted ids) of a ground truth.

        ``present`` gives the classes that have a box in the image. ``verified`` also gives those that are known to be
        absent; if every class is annotated exhaustively (COCO), these are all classes. ``queries`` are the same as
        ``verified``, each asked alone.

        Args:
            gt: ground truth.
            mode: classes given for an image.
            image_ids: the given images.
            names: path of every image of the ground truth (``located_paths``).
            questions: of the classes, for a file of queries.

        Raises:
            DetectorError: the categories are not a valid vocabulary.
        """
        rows = positions(gt.image_ids, np.asarray(image_ids, np.int64))
        subsets = None
        if mode == "present" or (mode != "full" and gt.federated):
            all_subsets = _subsets(gt, with_absent=mode != "present")
            subsets = [all_subsets[row] for row in rows]
        sizes = [(int(width), int(height)) if width and height else None for width, height in gt.image_sizes[rows]]
        files = [names[row] for row in rows]
        return RunImages(vocabulary_of(gt.categories), image_ids, files, sizes, subsets, questions)

    def groups(self, begin: int, end: int) -> list[Group]:
        """The images ``begin … end - 1``, grouped by their given classes, in order of first appearance.

        Images without given classes are in no group.
        """
        if self.subsets is None:
            return [Group(None, list(range(begin, end)))]
        members: dict[tuple[int, ...], list[int]] = {}
        for position in range(begin, end):
            members.setdefault(self.subsets[position], []).append(position)
        return [Group(subset, images) for subset, images in members.items() if subset]


def _subsets(gt: GroundTruth, *, with_absent: bool) -> list[tuple[int, ...]]:
    """Per image of the ground truth, positions of its classes, increasing."""
    image, label = gt.image_index.astype(np.int64), gt.class_index.astype(np.int64)
    if with_absent:
        image = np.concatenate([image, gt.neg.row_index()])
        label = np.concatenate([label, gt.neg.values])
    pairs = np.unique(image * gt.num_classes + label)
    bounds = np.searchsorted(pairs, np.arange(gt.num_images + 1) * gt.num_classes)
    classes: npt.NDArray[np.int64] = pairs % gt.num_classes
    return [tuple(classes[bounds[i] : bounds[i + 1]].tolist()) for i in range(gt.num_images)]
