"""Queries: texts that are asked of single images, each with the boxes it means, or known to mean none.

Classes × images and queries are the same thing: a *question* (a text, or a phrase of a caption) is a class, and a query
is one (image, question) pair that was annotated. So the rules for federated data (LVIS) apply, where only verified
pairs count: ``Queries.truth`` is such a ground truth. What needs the single query is in ``metrics.query_figures``.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import numpy.typing as npt

from ovd_bench.metrics.errors import DataError
from ovd_bench.metrics.types import Categories, GroundTruth, Ragged, Texts, positions

Bool = npt.NDArray[np.bool_]
Float64 = npt.NDArray[np.float64]
Int64 = npt.NDArray[np.int64]
Boxes = Sequence[tuple[float, float, float, float]]


@dataclass(frozen=True)
class Query:
    """One question about one image.

    Attributes:
        query_id: unique.
        image_id: of the image.
        question: position of the question.
        boxes_xywh: what is meant, absolute pixels.
        absent: known to mean nothing in the image; then there are no boxes. A query without boxes that is not known to
            be absent is not scored.
        exhaustive: whether ``boxes_xywh`` is all that the question means in the image.
        kinds: names of the rows in which it counts, such as the entity type of a phrase.
    """

    query_id: int
    image_id: int
    question: int
    boxes_xywh: Boxes = ()
    absent: bool = False
    exhaustive: bool = True
    kinds: tuple[str, ...] = ()


@dataclass(frozen=True)
class Queries:
    """Queries of a data set as columns (Q queries in order of their ids, N boxes, I images, K questions).

    Attributes:
        truth: the same as a federated ground truth, whose classes are the questions.
        query_ids: int64 (Q,), strictly increasing.
        image_index: int32 (Q,), position in ``truth.image_ids``.
        question: int32 (Q,), position in ``truth.categories``.
        absent: bool (Q,), known to mean nothing.
        box_offsets: int64 (Q + 1,), boxes of query ``i`` are rows ``box_offsets[i]:box_offsets[i + 1]``.
        boxes_xywh: float64 (N, 4), absolute pixels.
        kind_names: all kinds, sorted.
        kinds: per query, positions in ``kind_names``.
    """

    truth: GroundTruth
    query_ids: Int64
    image_index: npt.NDArray[np.int32]
    question: npt.NDArray[np.int32]
    absent: Bool
    box_offsets: Int64
    boxes_xywh: Float64
    kind_names: tuple[str, ...]
    kinds: Ragged

    def __len__(self) -> int:
        return len(self.query_ids)

    @property
    def present(self) -> Bool:
        """Queries with at least one box, bool (Q,)."""
        return np.diff(self.box_offsets) > 0

    @staticmethod
    def of(
        queries: Sequence[Query],
        questions: Sequence[str],
        image_ids: Sequence[int],
        image_sizes: Sequence[tuple[int, int]],
        image_files: Sequence[str],
    ) -> Queries:
        """Columns of single queries.

        Two queries of one image may ask the same with different boxes, as referring expressions do: then the ground
        truth has the boxes of both.

        Args:
            queries: in any order.
            questions: K texts; question ``k`` has the category id ``k + 1``.
            image_ids: I ids in any order.
            image_sizes: I widths and heights, pixels; 0 where not known.
            image_files: I names.

        Raises:
            DataError: an id twice; a query of an unknown image or question; boxes of an absent query; a question that
                is present and absent in one image.
        """
        order = np.argsort(np.asarray(image_ids, np.int64), kind="stable")
        ids = np.asarray(image_ids, np.int64)[order]
        rows = sorted(queries, key=lambda query: query.query_id)
        for first, second in pairwise(rows):
            if first.query_id == second.query_id:
                raise DataError(f"query {first.query_id} occurs twice")
        image_index = positions(ids, np.array([query.image_id for query in rows], np.int64))
        for query, image in zip(rows, image_index.tolist(), strict=True):
            _check(query, image, len(questions))
        names = sorted({kind for query in rows for kind in query.kinds})
        place = {name: number for number, name in enumerate(names)}
        offsets = np.zeros(len(rows) + 1, np.int64)
        np.cumsum([len(query.boxes_xywh) for query in rows], out=offsets[1:])
        boxes = np.array([box for query in rows for box in query.boxes_xywh], np.float64).reshape(-1, 4)
        question = np.array([query.question for query in rows], np.int32)
        absent = np.array([query.absent for query in rows], np.bool_)
        truth = _ground_truth(
            image_index, question, offsets, boxes, absent,
            np.array([query.exhaustive for query in rows], np.bool_),
            Categories.plain(np.arange(1, len(questions) + 1), list(questions)),
            ids,
            np.array([image_sizes[row] for row in order], np.int32).reshape(-1, 2),
            Texts.of([image_files[row] for row in order]),
        )  # fmt: skip
        return Queries(
            truth=truth,
            query_ids=np.array([query.query_id for query in rows], np.int64),
            image_index=image_index,
            question=question,
            absent=absent,
            box_offsets=offsets,
            boxes_xywh=boxes,
            kind_names=tuple(names),
            kinds=Ragged.from_lists([[place[kind] for kind in dict.fromkeys(query.kinds)] for query in rows]),
        )

    def of_images(self, image_ids: Int64) -> Queries:
        """The queries of the given images alone, increasing ids; questions that nobody asks any more remain.

        Raises:
            DataError: an image that is not there.
        """
        chosen = positions(self.truth.image_ids, image_ids)
        if np.any(chosen < 0):
            raise DataError(f"image {int(image_ids[np.argmin(chosen)])} has no queries")
        kept = np.flatnonzero(np.isin(self.image_index, chosen))
        sizes, files = self.truth.image_sizes, self.truth.image_files
        return Queries.of(
            [self._query(int(row)) for row in kept],
            self.truth.categories.names,
            image_ids.tolist(),
            [(int(sizes[row, 0]), int(sizes[row, 1])) for row in chosen],
            ["" if files is None else files[int(row)] for row in chosen],
        )

    def _query(self, row: int) -> Query:
        boxes = self.boxes_xywh[self.box_offsets[row] : self.box_offsets[row + 1]].tolist()
        image, question = int(self.image_index[row]), int(self.question[row])
        return Query(
            query_id=int(self.query_ids[row]),
            image_id=int(self.truth.image_ids[image]),
            question=question,
            boxes_xywh=[tuple(box) for box in boxes],
            absent=bool(self.absent[row]),
            exhaustive=question not in self.truth.not_exhaustive[image],
            kinds=tuple(self.kind_names[kind] for kind in self.kinds[row]),
        )


def _check(query: Query, image: int, questions: int) -> None:
    if image < 0:
        raise DataError(f"query {query.query_id}: image {query.image_id} is not there")
    if not 0 <= query.question < questions:
        raise DataError(f"query {query.query_id}: question {query.question} is not there")
    if query.absent and len(query.boxes_xywh):
        raise DataError(f"query {query.query_id}: is absent and has {len(query.boxes_xywh)} boxes")


def _ground_truth(
    image: npt.NDArray[np.int32],
    question: npt.NDArray[np.int32],
    offsets: Int64,
    boxes: Float64,
    absent: Bool,
    exhaustive: Bool,
    categories: Categories,
    image_ids: Int64,
    image_sizes: npt.NDArray[np.int32],
    image_files: Texts,
) -> GroundTruth:
    """Queries as a federated data set; a box that several queries of one pair have is one box."""
    owner = np.repeat(np.arange(len(image)), np.diff(offsets))
    key = image.astype(np.int64) * len(categories) + question
    rows = np.column_stack([key[owner].astype(np.float64), boxes])
    kept = np.sort(np.unique(rows, axis=0, return_index=True)[1])
    owner, boxes = owner[kept], boxes[kept]
    both = np.intersect1d(key[absent], key[np.diff(offsets) > 0])
    if len(both):
        where, what = divmod(int(both[0]), len(categories))
        raise DataError(f"image {image_ids[where]}: {categories.names[what]!r:.200} is both present and absent")
    return GroundTruth(
        image_ids=image_ids,
        image_sizes=image_sizes,
        categories=categories,
        ann_ids=np.arange(1, len(owner) + 1),
        image_index=image[owner],
        class_index=question[owner],
        boxes_xywh=boxes,
        area=boxes[:, 2] * boxes[:, 3],
        iscrowd=np.zeros(len(owner), np.bool_),
        ignore=np.zeros(len(owner), np.bool_),
        neg=_lists(key[absent], len(image_ids), len(categories)),
        not_exhaustive=_lists(key[~exhaustive], len(image_ids), len(categories)),
        federated=True,
        image_files=image_files,
    )


def _lists(keys: Int64, images: int, questions: int) -> Ragged:
    """Questions per image from keys ``image * questions + question``, each once."""
    keys = np.unique(keys)
    offsets = np.searchsorted(keys, np.arange(images + 1) * questions).astype(np.int64)
    return Ragged(offsets, (keys % questions).astype(np.int32) if questions else np.empty(0, np.int32))
