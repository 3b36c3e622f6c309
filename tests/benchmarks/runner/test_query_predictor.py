"""How detectors are asked queries: with captions and phrases, with captions alone, or with one class at a time."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest

from ovd_bench.benchmarks.runner.image_subset import RunImages
from ovd_bench.benchmarks.runner.query_predictor import QueryPredictor, way_of_asking
from ovd_bench.benchmarks.runner.reader import Read, Wanted
from ovd_bench.benchmarks.store.protocols import Reading
from ovd_bench.detectors.card import DetectorCard
from ovd_bench.detectors.interface import Detector, Spans
from ovd_bench.detectors.prompts import PLANS, PromptPlan
from ovd_bench.detectors.types import Detections, DetectorError, Grounding, Image, Question, Vocabulary
from ovd_bench.metrics.queries import Queries, Query
from ovd_bench.metrics.types import Predictions

CAPTION = "a cat on a red mat"
QUESTIONS = (Question(CAPTION, ((0, 5),)), Question(CAPTION, ((9, 18),)), Question("the dog"))
CARD = DetectorCard("toy", family="toy", framework="numpy", loader="")


class OneClass:
    """Finds its only class in every image, at a place that tells its name."""

    def __init__(self) -> None:
        self.card = CARD
        self.asked: list[str] = []

    def set_vocabulary(self, vocabulary: Vocabulary, plan: PromptPlan) -> None:
        (self._id,) = vocabulary.ids
        (name,) = vocabulary.names
        self.asked.append(plan.fill(name)[0])
        self._side = float(len(name))

    def detect(self, images: Sequence[Image]) -> list[Detections]:
        return [Detections.of(image, [[0.0, 0.0, self._side, 1.0]], [0.5], [self._id]) for image in images]


class Captions(OneClass):
    """Finds a box per phrase, and without phrases one per word."""

    def __init__(self) -> None:
        super().__init__()
        self.captions: list[tuple[int, str, list[list[tuple[int, int]]]]] = []

    def ground_spans(self, image: Image, caption: str, phrases: Sequence[Spans]) -> Detections:
        self.captions.append((image.id, caption, [list(spans) for spans in phrases]))
        count = len(phrases)
        return Detections.of(image, [[0.0, 0.0, 1.0 + row, 1.0] for row in range(count)], [0.5] * count, range(count))

    def ground(self, images: Sequence[Image], captions: Sequence[str]) -> list[Grounding]:
        found = []
        for image, caption in zip(images, captions, strict=True):
            begins = [0, *(place + 1 for place, letter in enumerate(caption) if letter == " ")]
            spans = tuple(((begin, begin + len(caption[begin:].split()[0])),) for begin in begins)
            boxes = np.array([[0, 0, begin + 1, 1] for begin in begins], np.float32)
            found.append(Grounding(image.id, caption, boxes, np.full(len(spans), 0.5, np.float32), spans))
        return found


def answers(detector: Detector, reading: Reading = "annotated") -> Predictions:
    """Image 1 is asked both phrases and for the dog, image 2 only for the dog; image 3 is asked nothing."""
    queries = Queries.of(
        [
            Query(1, 1, 0, [(0.0, 0.0, 2.0, 2.0)]),
            Query(2, 1, 1, [(0.0, 0.0, 2.0, 2.0)]),
            Query(3, 1, 2, absent=True),
            Query(4, 2, 2, [(0.0, 0.0, 2.0, 2.0)]),
            Query(5, 3, 0),
        ],
        [question.phrase for question in QUESTIONS],
        [1, 2, 3],
        [(30, 20)] * 3,
        ["1", "2", "3"],
    )
    run_images = RunImages.of(queries.truth, "queries", [1, 2, 3], ["1", "2", "3"], QUESTIONS)
    predictor = QueryPredictor(detector, run_images, PLANS["raw"], reading, top_k=5)
    groups = run_images.groups(0, 3)
    pixels = np.zeros((20, 30, 3), np.uint8)
    images = (
        Read(Wanted(0, run_images.image_ids[place], "", None), Image(run_images.image_ids[place], pixels))
        for group in groups
        for place in group.members
    )
    return predictor.shard(groups, images).predictions


def told(predictions: Predictions) -> list[tuple[int, int, float]]:
    """Image, question and width of every box."""
    rows = zip(predictions.image_id.tolist(), predictions.category_id.tolist(), predictions.w.tolist(), strict=True)
    return list(rows)


def test_without_captions_each_question_is_the_only_class() -> None:
    detector = OneClass()
    assert told(answers(detector)) == [(1, 1, 5.0), (1, 2, 9.0), (1, 3, 7.0), (2, 3, 7.0)]
    assert detector.asked == ["a cat", "a red mat", "the dog", "the dog"]
    assert way_of_asking(detector, "annotated")


def test_a_caption_goes_in_once_with_all_its_phrases() -> None:
    detector = Captions()
    assert told(answers(detector)) == [(1, 1, 1.0), (1, 2, 2.0), (1, 3, 1.0), (2, 3, 1.0)]
    assert detector.captions == [
        (1, CAPTION, [[(0, 5)], [(9, 18)]]),
        (1, "the dog", [[]]),
        (2, "the dog", [[]]),
    ]
    assert detector.asked == []
    assert not way_of_asking(detector, "annotated")


def test_by_its_own_reading_a_box_answers_the_phrases_it_overlaps() -> None:
    found = told(answers(Captions(), "own"))
    assert [row for row in found if row[0] == 1 and row[1] < 3] == [
        (1, 1, 1.0), (1, 1, 3.0), (1, 2, 10.0), (1, 2, 12.0), (1, 2, 16.0)
    ]  # fmt: skip
    assert [row for row in found if row[1] == 3] == [(1, 3, 1.0), (1, 3, 5.0), (2, 3, 1.0), (2, 3, 5.0)]
    assert not way_of_asking(Captions(), "own")


@pytest.mark.parametrize(
    ("returned", "message"),
    [
        (lambda image: None, "ground_spans.. returned NoneType"),
        (lambda image: Detections.of(image, [[0, 0, 1, 1]], [0.5], [2]), "category_ids.0. is 2"),
        (lambda image: Detections.of(image, [[0, 0, 1, 1]] * 6, [0.5] * 6, [0] * 6), "6 boxes of a phrase"),
    ],
)
def test_a_broken_contract_is_named(returned: object, message: str) -> None:
    class Broken(Captions):
        def ground_spans(self, image: Image, caption: str, phrases: Sequence[Spans]) -> Detections:
            return returned(image)  # type: ignore[no-any-return, operator]

    with pytest.raises(DetectorError, match=message):
        answers(Broken())
