"""Data sets drawn from a population whose detectors have known abilities, as ground truth and predictions in memory.

A population is a vocabulary. Each class has a fixed frequency, a fixed ease, and a fixed bias per detector. Images are
random: which classes are in them, how many objects, and how hard the image and each object are. Hardness is shared by
all detectors, so their errors are correlated, like those of real detectors.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from ovd_bench.metrics.types import Categories, GroundTruth, IntArray, Predictions, Ragged

Floats = npt.NDArray[np.float64]

#: Height of the strip of an image that is reserved for one object, pixels; boxes of two objects never overlap.
_STRIP = 200.0
#: Position of false alarms, pixels: to the right of all objects.
_FAR = 10_000.0


@dataclass(frozen=True)
class Ability:
    """Abilities of a detector; numbers are on the logit scale unless stated otherwise.

    Attributes:
        find: higher finds more objects.
        place: higher gives tighter boxes.
        separate: distance between the scores of correct and false boxes.
        alarms: mean number of false alarms per pair of image and class that counts.
    """

    find: float
    place: float
    separate: float
    alarms: float


@dataclass(frozen=True)
class Group:
    """Classes of one frequency.

    Attributes:
        letter: as in the annotations, ``r``, ``c`` or ``f``.
        classes: their number.
        fewest, most: expected images with the class in one data set; the classes are spread evenly on a log scale.
    """

    letter: str
    classes: int
    fewest: float
    most: float


@dataclass(frozen=True)
class Population:
    """A population of images, and detectors that see them.

    Attributes:
        images: in one data set.
        groups: the vocabulary.
        detectors: their abilities.
        federated: LVIS rules: absent classes are verified in only some of the images.
        negatives: share of the absent (image, class) pairs that are verified; not used without ``federated``.
        seed: seed of the ease of the classes and the biases of the detectors.
    """

    images: int
    groups: tuple[Group, ...]
    detectors: tuple[Ability, ...]
    federated: bool
    negatives: float = 0.1
    seed: int = 0

    def enlarged(self, factor: int) -> Population:
        """The same population with data sets that are larger by a factor."""
        groups = tuple(Group(g.letter, g.classes, g.fewest * factor, g.most * factor) for g in self.groups)
        return Population(self.images * factor, groups, self.detectors, self.federated, self.negatives, self.seed)

    def draw(self, rng: np.random.Generator) -> tuple[GroundTruth, tuple[Predictions, ...]]:
        """A data set and the predictions of each detector."""
        share = np.concatenate([np.geomspace(g.fewest, g.most, g.classes) for g in self.groups]) / self.images
        habits = np.random.default_rng(self.seed)
        ease = habits.normal(0, 1.0, len(share))
        own = [habits.normal(0, 0.4, len(share)) for _ in self.detectors]

        present = rng.random((self.images, len(share))) < share
        scored = present | (rng.random(present.shape) < self.negatives) if self.federated else np.ones_like(present)
        pair_image, pair_class = np.nonzero(present)
        count = 1 + rng.poisson(0.6, len(pair_image))
        image, label = np.repeat(pair_image, count), np.repeat(pair_class, count)
        side = 2 ** rng.uniform(4, 7.3, len(image))
        hardness = rng.normal(0, 0.8, self.images)[image] + rng.normal(0, 0.8, len(image))
        gt = self._truth(image, label, side, scored & ~present, present & (rng.random(present.shape) < 0.05))

        strip = gt.boxes_xywh[:, 1]
        alarm_image, alarm_class = np.nonzero(scored)
        predictions = []
        for ability, habit in zip(self.detectors, own, strict=True):
            margin = ability.find + (ease + habit)[label] - hardness
            found = np.flatnonzero(margin + rng.logistic(0, 0.7, len(image)) > 0)
            tight = 0.35 + 0.65 * _logistic(ability.place + 0.3 * margin[found] + rng.normal(0, 1, len(found)))
            score = _logistic(ability.separate / 2 + 0.3 * margin[found] + rng.normal(0, 1, len(found)))
            moved = side[found] * (1 - tight) / (1 + tight)  # of two equal squares so far apart the IoU is ``tight``
            boxes = np.stack([moved, strip[found], side[found], side[found]], axis=1)
            alarms = np.repeat(np.arange(len(alarm_image)), rng.poisson(ability.alarms, len(alarm_image)))
            false_score = _logistic(-ability.separate / 2 + rng.normal(0, 1, len(alarms)))
            size = 2 ** rng.uniform(4, 7.3, len(alarms))
            false_boxes = np.stack([np.full(len(alarms), _FAR), np.zeros(len(alarms)), size, size], axis=1)
            predictions.append(
                Predictions.from_boxes(
                    np.concatenate([image[found], alarm_image[alarms]]) + 1,
                    np.concatenate([label[found], alarm_class[alarms]]) + 1,
                    np.concatenate([score, false_score]),
                    np.concatenate([boxes, false_boxes]),
                )
            )
        return gt, tuple(predictions)

    def _truth(
        self,
        image: IntArray,
        label: IntArray,
        side: Floats,
        absent: npt.NDArray[np.bool_],
        not_exhaustive: npt.NDArray[np.bool_],
    ) -> GroundTruth:
        letters = "".join(g.letter * g.classes for g in self.groups)
        first = np.searchsorted(image, image)  # the images are sorted
        strip = _STRIP * (np.arange(len(image)) - first)
        none = np.zeros_like(absent)
        return GroundTruth(
            image_ids=np.arange(1, self.images + 1),
            image_sizes=np.zeros((self.images, 2), np.int32),
            categories=Categories.plain(np.arange(1, len(letters) + 1), frequency=letters),
            ann_ids=np.arange(1, len(image) + 1),
            image_index=image.astype(np.int32),
            class_index=label.astype(np.int32),
            boxes_xywh=np.stack([np.zeros(len(image)), strip, side, side], axis=1),
            area=side * side,
            iscrowd=np.zeros(len(image), np.bool_),
            ignore=np.zeros(len(image), np.bool_),
            neg=_ragged(absent if self.federated else none),
            not_exhaustive=_ragged(not_exhaustive if self.federated else none),
            federated=self.federated,
        )


def _ragged(chosen: npt.NDArray[np.bool_]) -> Ragged:
    """Classes of each image where ``chosen`` (I, K) holds."""
    offsets = np.zeros(len(chosen) + 1, np.int64)
    np.cumsum(chosen.sum(axis=1), out=offsets[1:])
    return Ragged(offsets, np.nonzero(chosen)[1].astype(np.int32))


def _logistic(value: Floats) -> Floats:
    return 1 / (1 + np.exp(-value))
