"""The loop over the questions of a shard's images: each is asked alone, and an image is encoded once if the model can.

A detector that scores given phrases of a caption (``SpanDetector``) gets the caption with all its annotated phrases at
once. Under the reading ``own`` a detector that grounds captions (``GroundingDetector``) gets the caption alone, and a
box answers each question whose words it overlaps. Any other detector gets the words of the question as its only class.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence

import numpy as np

from ovd_bench.benchmarks.runner.image_subset import Group, RunImages
from ovd_bench.benchmarks.runner.predictor import Call, ShardPredictions, checked, columns
from ovd_bench.benchmarks.runner.reader import Read
from ovd_bench.benchmarks.store.protocols import Reading
from ovd_bench.benchmarks.store.schema import FailedImage
from ovd_bench.detectors.interface import Detector, GroundingDetector, SpanDetector
from ovd_bench.detectors.prompts import PromptPlan
from ovd_bench.detectors.types import Detections, DetectorError, Image, Question, Vocabulary


def way_of_asking(detector: Detector, reading: Reading) -> str:
    """How this detector is asked, in one line; empty if it reads captions as the protocol says."""
    if isinstance(detector, SpanDetector if reading == "annotated" else GroundingDetector):
        return ""
    return "does not read captions: each question was its only class"


class QueryPredictor:
    """Asks a detector about a stream of images, one image at a time.

    Args:
        detector: any.
        run_images: with questions.
        plan: how a question becomes text for a detector that does not read captions.
        reading: of captions.
        top_k: boxes per question.
        on_images: called with the number of images that are done.
    """

    def __init__(
        self,
        detector: Detector,
        run_images: RunImages,
        plan: PromptPlan,
        reading: Reading,
        *,
        top_k: int,
        on_images: Callable[[int], None] = lambda count: None,
    ) -> None:
        assert run_images.questions is not None
        self._detector = detector
        self._ids = run_images.vocabulary.ids
        self._questions = run_images.questions
        self._plan = plan
        self._reading = reading
        self._top_k = top_k
        self._on_images = on_images
        self._cold = True

    def shard(self, groups: Sequence[Group], images: Iterator[Read]) -> ShardPredictions:
        """Predict one shard; the arguments are those of ``Predictor.shard``.

        Raises:
            DetectorError: the detector breaks its contract, or cannot read a question.
        """
        found: dict[int, Detections] = {}
        failed: list[FailedImage] = []
        pixels: dict[int, str] = {}
        calls: list[Call] = []
        for group in groups:
            for _ in group.members:
                item = next(images)
                image_id = item.wanted.image_id
                pixels[image_id] = item.sha256
                if item.image is None:
                    failed.append(FailedImage(image_id=image_id, reason=item.reason))
                else:
                    begin = time.perf_counter()
                    found[image_id] = self._ask(item.image, group.subset or ())
                    calls.append(Call(1, time.perf_counter() - begin, self._cold))
                    self._cold = False
                self._on_images(1)
        failed.sort(key=lambda image: image.image_id)
        ordered = [found[image] for image in sorted(found)]
        return ShardPredictions(columns(ordered), failed, dict(sorted(pixels.items())), 1, calls)

    def _ask(self, image: Image, asked: Sequence[int]) -> Detections:
        """Boxes for all questions about one image; a category id is that of the question."""
        by_text: dict[str, list[int]] = {}
        for question in asked:
            by_text.setdefault(self._questions[question].text, []).append(question)
        parts = [part for text, questions in by_text.items() for part in self._answers(image, text, questions)]
        return Detections.of(
            image,
            np.concatenate([part.boxes_xyxy for part in parts]),
            np.concatenate([part.scores for part in parts]),
            np.concatenate([part.category_ids for part in parts]),
        )

    def _answers(self, image: Image, text: str, questions: list[int]) -> list[Detections]:
        detector = self._detector
        if self._reading == "annotated" and isinstance(detector, SpanDetector):
            return [self._annotated(detector, image, text, questions)]
        if self._reading == "own" and isinstance(detector, GroundingDetector):
            return self._own(detector, image, text, questions)
        return [self._as_class(image, question) for question in questions]

    def _annotated(self, detector: SpanDetector, image: Image, text: str, questions: list[int]) -> Detections:
        ids = np.array([self._ids[question] for question in questions], np.int32)
        found = detector.ground_spans(image, text, [self._questions[question].spans for question in questions])
        phrases = Vocabulary(tuple(range(len(ids))), tuple(self._questions[question].phrase for question in questions))
        (found,) = checked([image], [found], phrases, self._top_k * len(ids), "ground_spans()")
        most = int(np.bincount(found.category_ids, minlength=1).max())
        if most > self._top_k:
            raise DetectorError(
                f"ground_spans(): image {image.id}: {most:,} boxes of a phrase, {self._top_k:,} allowed"
            )
        return Detections.of(image, found.boxes_xyxy, found.scores, ids[found.category_ids])

    def _own(self, detector: GroundingDetector, image: Image, text: str, questions: list[int]) -> list[Detections]:
        (found,) = detector.ground([image], [text])
        answers = []
        for question in questions:
            wanted = self._questions[question]
            rows = [row for row, spans in enumerate(found.spans) if _overlap(wanted, spans)]
            ids = np.full(len(rows), self._ids[question])
            answers.append(Detections.of(image, found.boxes_xyxy[rows], found.scores[rows], ids))
        return answers

    def _as_class(self, image: Image, question: int) -> Detections:
        only = Vocabulary((self._ids[question],), (self._questions[question].phrase,))
        self._detector.set_vocabulary(only, self._plan)
        return checked([image], self._detector.detect([image]), only, self._top_k, "detect()")[0]


def _overlap(question: Question, spans: Sequence[tuple[int, int]]) -> bool:
    """Whether a box with these spans answers a question: they share a character, or the whole text is asked for."""
    return not question.spans or any(
        begin < last and first < end for begin, end in spans for first, last in question.spans
    )
