"""Seeded ground truth and predictions of LVIS and COCO size, for timing and for differential tests.

Per image the LVIS shape follows the 100 validation images that lvis-api ships (``data/lvis_val_100.json``): 10.5
boxes, 3.2 positive, 9.4 negative and 0.16 not-exhaustive classes; 58/30/12 % small/medium/large objects. The
detections are plausible, not measured: jittered boxes whose score follows their IoU, duplicates, confusions with other
classes, and background. Annotations have no ``segmentation``: box evaluation does not need it, and all evaluators read
a file without it faster.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from ovd_bench.metrics.types import Predictions
from ovd_bench.perf.synthetic_edge import mix_in_oddities

Annotations = dict[str, Any]
Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]

_IMAGE_SIZES = np.array([(640, 480), (640, 427), (480, 640), (500, 375), (427, 640), (640, 640)])
_LOG_AREAS = np.log([[30.0, 32.0**2], [32.0**2, 96.0**2], [96.0**2, 200_000.0]])
_BLOCK = 1000  # images whose detections are drawn together; limits the size of temporaries
_STUCK_EVERY = 50  # in every 50th image all background boxes claim a class that is there
_UNSORTED_EVERY = 4  # in every 4th image the records are not in the order of their scores


@dataclass(frozen=True)
class _Profile:
    """Means per image, before repeated classes are dropped, and shares of small, medium and large objects."""

    positive: float
    boxes_per_class: float
    negative: float
    sizes: tuple[float, float, float]


_LVIS = _Profile(positive=3.3, boxes_per_class=3.3, negative=9.55, sizes=(0.58, 0.30, 0.12))
_COCO = _Profile(positive=3.15, boxes_per_class=2.5, negative=0.0, sizes=(0.41, 0.34, 0.25))


@dataclass(frozen=True)
class _Lists:
    """Class positions per image: image ``i`` has ``values[offsets[i]:offsets[i + 1]]``."""

    offsets: Ints
    values: Ints

    @staticmethod
    def of_pairs(image: Ints, label: Ints, images: int) -> _Lists:
        """Lists from (image, class) pairs sorted by image."""
        return _Lists(np.concatenate([[0], np.cumsum(np.bincount(image, minlength=images))]), label)

    def draw(self, rng: np.random.Generator, images: Ints, otherwise: Ints) -> Ints:
        """One random member of each image's list, ``otherwise`` where the list is empty; (len(images),)."""
        count = np.diff(self.offsets)[images]
        picked = self.offsets[images] + (rng.random(len(images)) * count).astype(np.int64)
        filled = count > 0
        result = otherwise.copy()
        result[filled] = self.values[picked[filled]]
        return result


@dataclass(frozen=True)
class _Scenes:
    """Ground truth as columns, boxes sorted by image; I images, N boxes, K classes."""

    image_ids: Ints
    sizes: Ints  # (I, 2) width, height
    weights: Floats  # (K,) how often each class occurs, sums to 1
    image: Ints  # (N,) position of the image
    label: Ints  # (N,) position of the class
    boxes_xywh: Floats  # (N, 4)
    area: Floats  # (N,) as of a mask inside the box
    positive: _Lists
    negative: _Lists


def lvis_scale(
    seed: int, images: int, classes: int = 1203, detections_per_image: int = 300, edge: bool = False
) -> tuple[Annotations, Predictions]:
    """Ground truth in the LVIS v1 layout and float32 predictions for it.

    One image in five has up to 10 % more detections than ``detections_per_image``, so that the cap per image is used.

    Args:
        seed: same seed, same bytes (with one version of numpy, on one kind of processor).
        images: number of images; their ids are sparse.
        classes: number of categories, frequency letters in LVIS v1's shares (337 r, 461 c, 405 f of 1203).
        detections_per_image: usual number of predictions per image.
        edge: mix in odd input that lvis-api accepts: zero areas, annotation id 0, ``iscrowd`` and ``ignore`` fields,
            overlapping federated lists, unsorted ids, negative sides, unknown classes, ties at the cap.
    """
    rng = _generator(seed, 0)
    train_images = _train_images(rng, classes)
    # validation images are chosen so that rare classes occur: flatter than the training frequencies
    scenes = _draw_scenes(rng, images, train_images**0.8, _LVIS)
    extra = rng.integers(1, max(detections_per_image // 10, 1) + 1, images) * (rng.random(images) < 0.2)
    category_ids = np.arange(1, classes + 1)
    predictions = _draw_predictions(seed, scenes, category_ids, _LVIS, detections_per_image + extra)

    annotations = _annotation_dict(scenes, category_ids)
    pair_image = np.repeat(np.arange(images), np.diff(scenes.positive.offsets))
    partial = rng.random(len(pair_image)) < 0.05
    not_exhaustive = _Lists.of_pairs(pair_image[partial], scenes.positive.values[partial], images)
    for key, lists in (("neg_category_ids", scenes.negative), ("not_exhaustive_category_ids", not_exhaustive)):
        ids, offsets = category_ids[lists.values].tolist(), lists.offsets.tolist()
        for row, record in enumerate(annotations["images"]):
            record[key] = ids[offsets[row] : offsets[row + 1]]
    for category, count in zip(annotations["categories"], train_images.tolist(), strict=True):
        letter = "r" if count <= 10 else "c" if count <= 100 else "f"
        category |= {"frequency": letter, "image_count": int(count), "instance_count": 3 * int(count)}
        category |= {"synset": f"{category['name']}.n.01", "synonyms": [category["name"]], "def": "a made-up thing"}
    return mix_in_oddities(_generator(seed, 1), annotations, predictions) if edge else (annotations, predictions)


def coco_scale(
    seed: int, images: int = 5000, classes: int = 80, detections: int = 500_000, crowd: float = 0.02
) -> tuple[Annotations, Predictions]:
    """Ground truth in the COCO instances layout and float32 predictions for it.

    One image in fifty has three times the detections of the others, most of them of one class: more than 100.

    Args:
        seed: same seed, same bytes (with one version of numpy, on one kind of processor).
        images: number of images; their ids are sparse.
        classes: number of categories; their ids have gaps, as COCO's have.
        detections: number of predictions in all.
        crowd: share of boxes with ``iscrowd`` 1.
    """
    rng = _generator(seed, 0)
    scenes = _draw_scenes(rng, images, 1.0 / np.arange(1, classes + 1) ** 0.8, _COCO)
    share = np.where(np.arange(images) % _STUCK_EVERY == 0, 3.0, 1.0)
    counts = np.diff(np.floor(np.cumsum(share) / share.sum() * detections + 0.5).astype(np.int64), prepend=0)
    category_ids = np.sort(rng.choice(classes * 9 // 8, classes, replace=False)) + 1
    predictions = _draw_predictions(seed, scenes, category_ids, _COCO, counts)
    annotations = _annotation_dict(scenes, category_ids)
    for annotation, is_crowd in zip(annotations["annotations"], rng.random(len(scenes.image)) < crowd, strict=True):
        annotation["iscrowd"] = int(is_crowd)
    for category in annotations["categories"]:
        category["supercategory"] = "thing"
    return annotations, predictions


def _generator(seed: int, stream: int) -> np.random.Generator:
    return np.random.Generator(np.random.PCG64([seed, stream]))


def _train_images(rng: np.random.Generator, classes: int) -> Floats:
    """Training images per class in a random order of classes: Zipf for the frequent ones, then a log-linear tail."""
    rank = np.arange(1, classes + 1) * (1203 / classes)
    head = 40_000 / rank
    tail = np.exp(np.interp(rank, [405, 866, 1203], np.log([100, 10.01, 1])))
    return rng.permutation(np.ceil(np.where(rank <= 405, np.maximum(head, 101), tail)))


def _draw_labels(rng: np.random.Generator, weights: Floats, count: int) -> Ints:
    labels: Ints = np.searchsorted(np.cumsum(weights)[:-1], rng.random(count), side="right")
    return labels


def _draw_boxes(rng: np.random.Generator, sizes: Ints, shares: tuple[float, ...]) -> tuple[Floats, Floats]:
    """Boxes xywh inside images of the given (N, 2) sizes, and mask areas: log-uniform within small, medium, large."""
    count = len(sizes)
    low, high = _LOG_AREAS[rng.choice(3, count, p=shares)].T
    area = np.exp(rng.uniform(low, high))
    fill = rng.uniform(0.45, 0.95, count)  # share of its box that an object covers
    stretch = np.exp(0.4 * rng.standard_normal(count))
    sides = np.sqrt(area / fill)[:, None] * np.stack([stretch, 1 / stretch], axis=1)
    sides = np.clip(sides, 1.0, sizes)
    corner = rng.random((count, 2)) * (sizes - sides)
    return np.concatenate([corner, sides], axis=1), np.minimum(area, sides.prod(axis=1))


def _draw_scenes(rng: np.random.Generator, images: int, weights: Floats, profile: _Profile) -> _Scenes:
    weights = weights / weights.sum()
    classes = len(weights)

    def pairs(mean: float, class_weights: Floats) -> Ints:
        """Distinct (image, class) pairs as increasing ``image * classes + class``."""
        image = np.repeat(np.arange(images), rng.poisson(mean, images))
        distinct: Ints = np.unique(image * classes + _draw_labels(rng, class_weights, len(image)))
        return distinct

    positive = pairs(profile.positive, weights)
    flat = np.sqrt(weights) / np.sqrt(weights).sum()
    negative = np.setdiff1d(pairs(profile.negative, flat), positive, assume_unique=True)
    boxes_in_pair = np.minimum(rng.geometric(1 / profile.boxes_per_class, len(positive)), 40)
    image, label = np.divmod(np.repeat(positive, boxes_in_pair), classes)
    sizes = _IMAGE_SIZES[rng.integers(0, len(_IMAGE_SIZES), images)]
    boxes, area = _draw_boxes(rng, sizes[image], profile.sizes)
    return _Scenes(
        image_ids=np.sort(rng.choice(30 * images, images, replace=False)) + 1,
        sizes=sizes,
        weights=weights,
        image=image,
        label=label,
        boxes_xywh=np.round(boxes, 2),
        area=np.round(area, 2),
        positive=_Lists.of_pairs(*np.divmod(positive, classes), images),
        negative=_Lists.of_pairs(*np.divmod(negative, classes), images),
    )


def _annotation_dict(scenes: _Scenes, category_ids: Ints) -> Annotations:
    """The JSON document with the keys that COCO and LVIS files have in common."""
    rows = zip(
        range(1, len(scenes.image) + 1),
        scenes.image_ids[scenes.image].tolist(),
        category_ids[scenes.label].tolist(),
        scenes.boxes_xywh.tolist(),
        scenes.area.tolist(),
        strict=True,
    )
    keys = ("id", "image_id", "category_id", "bbox", "area")
    return {
        "info": {"description": "synthetic data"},
        "licenses": [],
        "images": [
            {"id": image_id, "width": width, "height": height, "file_name": f"{image_id:012d}.jpg"}
            for image_id, (width, height) in zip(scenes.image_ids.tolist(), scenes.sizes.tolist(), strict=True)
        ],
        "categories": [{"id": i, "name": f"class_{i:04d}"} for i in category_ids.tolist()],
        "annotations": [dict(zip(keys, row, strict=True)) for row in rows],
    }


def _draw_predictions(seed: int, scenes: _Scenes, category_ids: Ints, profile: _Profile, counts: Ints) -> Predictions:
    """``counts[i]`` detections for image ``i``, drawn in blocks of images, each with its own random stream."""
    total = int(counts.sum())
    image_id, category_id = np.empty(total, np.int64), np.empty(total, np.int32)
    floats = np.empty((5, total), np.float32)
    start = 0
    for block, first in enumerate(range(0, len(counts), _BLOCK)):
        rows = np.arange(first, min(first + _BLOCK, len(counts)))
        stop = start + int(counts[rows].sum())
        image, label, score_and_box = _draw_block(_generator(seed, 2 + block), scenes, profile, rows, counts)
        image_id[start:stop] = scenes.image_ids[image]
        category_id[start:stop] = category_ids[label]
        floats[:, start:stop] = score_and_box
        start = stop
    return Predictions(image_id, category_id, *floats)


def _draw_block(
    rng: np.random.Generator, scenes: _Scenes, profile: _Profile, rows: Ints, counts: Ints
) -> tuple[Ints, Ints, npt.NDArray[np.float32]]:
    """Detections of consecutive images: image and class positions (n,), and score, x, y, w, h as (5, n)."""
    truth = np.arange(*np.searchsorted(scenes.image, [rows[0], rows[-1] + 1]))
    rarity = -np.log10(scenes.weights / scenes.weights.max())  # rare classes are found less often and less surely
    found_rate = 0.82 - 0.06 * rarity[scenes.label[truth]]
    # good boxes come first, so that they survive when an image has more of them than its count
    copies = (rng.random(len(truth)) < found_rate, rng.poisson(1.3, len(truth)), rng.poisson(2.5, len(truth)))
    source = np.concatenate([np.repeat(truth, np.asarray(n, np.int64)) for n in copies])
    confused = np.arange(len(source)) >= int(copies[0].sum() + copies[1].sum())
    order = np.argsort(scenes.image[source], kind="stable")
    source, confused = source[order], confused[order]
    found = scenes.image[source]
    keep = np.arange(len(found)) - np.searchsorted(found, found) < counts[found]
    source, confused, found = source[keep], confused[keep], found[keep]

    exact = scenes.boxes_xywh[source]
    spread = 0.03 + 0.15 * rng.random(len(source))[:, None] ** 2
    sides = exact[:, 2:] * np.exp(spread * rng.standard_normal((len(source), 2)))
    centre = exact[:, :2] + exact[:, 2:] * (0.5 + spread * rng.standard_normal((len(source), 2)))
    moved = np.concatenate([centre - sides / 2, sides], axis=1)
    quality = _iou_of_rows(exact, moved)
    wrong = scenes.negative.draw(rng, found, _draw_labels(rng, scenes.weights, len(found)))
    wrong = np.where(rng.random(len(found)) < 0.3, wrong, _draw_labels(rng, scenes.weights, len(found)))
    found_label = np.where(confused, wrong, scenes.label[source])
    logit = 5 * quality - 3.7 - 0.35 * rarity[found_label] - 1.2 * confused + 0.9 * rng.standard_normal(len(found))

    empty = np.repeat(rows, counts[rows] - np.bincount(found - rows[0], minlength=len(rows)))
    label = _draw_labels(rng, scenes.weights, len(empty))
    claim = np.where(empty % _STUCK_EVERY == 0, 0.0, rng.random(len(empty)))
    label = np.where(claim < 0.24, scenes.positive.draw(rng, empty, label), label)
    label = np.where((claim >= 0.24) & (claim < 0.35), scenes.negative.draw(rng, empty, label), label)
    background, _ = _draw_boxes(rng, scenes.sizes[empty], profile.sizes)
    background_logit = -2.4 + 1.2 * rng.standard_normal(len(empty))

    image = np.concatenate([found, empty])
    boxes = _clip(np.concatenate([moved, background]), scenes.sizes[image])
    boxes[rng.random(len(image)) < 0.0033, 2] = 0.0
    score = 1 / (1 + np.exp(-np.concatenate([logit, background_logit])))
    score = np.where(rng.random(len(score)) < 0.05, np.round(score, 3), score).astype(np.float32)
    rank = np.where(image % _UNSORTED_EVERY == 0, rng.random(len(image)), -score)
    order = np.lexsort((rank, image))
    floats = np.concatenate([score[None], boxes.T.astype(np.float32)])
    return image[order], np.concatenate([found_label, label])[order], floats[:, order]


def _iou_of_rows(a_xywh: Floats, b_xywh: Floats) -> Floats:
    """IoU of box ``i`` of one array with box ``i`` of the other, (N,)."""
    low = np.maximum(a_xywh[:, :2], b_xywh[:, :2])
    high = np.minimum(a_xywh[:, :2] + a_xywh[:, 2:], b_xywh[:, :2] + b_xywh[:, 2:])
    overlap: Floats = np.clip(high - low, 0, None).prod(axis=1)
    union: Floats = a_xywh[:, 2:].prod(axis=1) + b_xywh[:, 2:].prod(axis=1) - overlap
    return overlap / union


def _clip(boxes_xywh: Floats, sizes: Ints) -> Floats:
    """Boxes cut at the border of their images, (N, 4)."""
    low = np.clip(boxes_xywh[:, :2], 0, sizes)
    high = np.clip(boxes_xywh[:, :2] + boxes_xywh[:, 2:], 0, sizes)
    return np.concatenate([low, high - low], axis=1)
