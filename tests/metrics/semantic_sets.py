"""Small data sets and similarity matrices for the tests of the semantic metrics."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from ovd_bench.metrics.semantic import SimilarityMatrix
from ovd_bench.metrics.types import Categories, GroundTruth, Predictions, Ragged

WEIGHTS = hashlib.sha256(b"weights").hexdigest()


def similarity_of(matrix: npt.ArrayLike, names: Sequence[str] | None = None) -> SimilarityMatrix:
    values = np.asarray(matrix, np.float32)
    known = tuple(names) if names is not None else tuple(f"class {i}" for i in range(len(values)))
    return SimilarityMatrix(known, values, "test judge", WEIGHTS, "a photo of a {}")


def random_similarity(rng: np.random.Generator, count: int) -> SimilarityMatrix:
    vectors = rng.normal(size=(count, 4)) + 1.0
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    matrix = np.clip(vectors @ vectors.T, -1, 1)
    np.fill_diagonal(matrix, 1)
    return similarity_of((matrix + matrix.T) / 2)


def ground_truth_of(
    rows: npt.ArrayLike,
    images: int,
    names: Sequence[str],
    *,
    federated: bool = False,
    crowd: Sequence[bool] | None = None,
    ignore: Sequence[bool] | None = None,
) -> GroundTruth:
    """``rows`` are (image position, class position, x, y, w, h); image ids are 10, 20, …, category ids 3, 6, …."""
    table = np.asarray(rows, np.float64).reshape(-1, 6)
    n = len(table)
    empty = Ragged(np.zeros(images + 1, np.int64), np.zeros(0, np.int32))
    return GroundTruth(
        image_ids=10 * np.arange(1, images + 1),
        image_sizes=np.zeros((images, 2), np.int32),
        categories=Categories.plain(3 * np.arange(1, len(names) + 1), list(names)),
        ann_ids=np.arange(n),
        image_index=table[:, 0].astype(np.int32),
        class_index=table[:, 1].astype(np.int32),
        boxes_xywh=table[:, 2:],
        area=table[:, 4] * table[:, 5],
        iscrowd=np.zeros(n, np.bool_) if crowd is None else np.asarray(crowd, np.bool_),
        ignore=np.zeros(n, np.bool_) if ignore is None else np.asarray(ignore, np.bool_),
        neg=empty,
        not_exhaustive=empty,
        federated=federated,
    )


def predictions_of(rows: npt.ArrayLike) -> Predictions:
    """``rows`` are (image position, class position, score, x, y, w, h)."""
    table = np.asarray(rows, np.float64).reshape(-1, 7)
    return Predictions.from_boxes(10 * (table[:, 0] + 1), 3 * (table[:, 1] + 1), table[:, 2], table[:, 3:])
