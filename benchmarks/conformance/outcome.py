"""Outcomes of checks, and the detector under test."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Literal

from ovd_bench.benchmarks.conformance.pictures import FIGURES, Pixels, figures
from ovd_bench.detectors.interface import Detector
from ovd_bench.detectors.prompts import PromptPlan
from ovd_bench.detectors.types import Detections, Image, Vocabulary

#: Top k of (box, class) pairs per image in all checks but the one of ``top_k`` itself.
TOP_K = 1000
PLAN = PromptPlan()

Status = Literal["passed", "failed", "skipped"]


class CheckFailed(Exception):  # noqa: N818 - a verdict, not an error of the program
    """The detector breaks the contract: expected and actual result."""

    def __init__(self, expected: str, got: str) -> None:
        super().__init__(f"expected {expected}, got {got}")


class CheckSkipped(Exception):  # noqa: N818
    """The check does not apply to this detector; the reason."""


@dataclass(frozen=True)
class CheckOutcome:
    """Verdict of one check.

    Attributes:
        check: name of the check.
        about: its subject.
        status: verdict.
        detail: observation; for a failure expected and actual result; for a skipped check the reason.
        seconds: wall time.
    """

    check: str
    about: str
    status: Status
    detail: str
    seconds: float


class TestedDetector:
    """The detector under test, loaded once, and results that several checks need.

    Args:
        name: as given by the user.
        load: loads a new instance of the detector, for a given ``top_k``.
        top_k: top k of the shared instance.
    """

    def __init__(self, name: str, load: Callable[[int], Detector], top_k: int = TOP_K) -> None:
        self.name = name
        self._load = load
        self._top_k = top_k

    def asking_for(self, top_k: int) -> TestedDetector:
        """Another instance of the detector for another ``top_k``."""
        return TestedDetector(self.name, self._load, top_k)

    def fresh(self, top_k: int) -> Detector:
        """Another instance, without a vocabulary."""
        return self._load(top_k)

    @cached_property
    def detector(self) -> Detector:
        """The instance that the checks share."""
        return self._load(self._top_k)

    @property
    def joint(self) -> bool:
        """Whether the classes of a chunk affect each other."""
        return "joint" in self.detector.card.capabilities

    @cached_property
    def picture(self) -> Pixels:
        """An ordinary image."""
        return figures(320, 200)

    @cached_property
    def answer(self) -> Detections:
        """Result for the ordinary image alone, with the usual vocabulary."""
        return self.ask(self.picture)

    def ask(self, pixels: Pixels | Image, vocabulary: Vocabulary = FIGURES, plan: PromptPlan = PLAN) -> Detections:
        """Detections of one image with a given vocabulary."""
        return self.ask_all([pixels], vocabulary, plan)[0]

    def ask_all(
        self, pixels: Sequence[Pixels | Image], vocabulary: Vocabulary = FIGURES, plan: PromptPlan = PLAN
    ) -> list[Detections]:
        """Detections of one batch of images, with ids 101, 102, …; checks all rules for single results."""
        self.detector.set_vocabulary(vocabulary, plan)
        return self.again(pixels, vocabulary)

    def again(self, pictures: Sequence[Pixels | Image], vocabulary: Vocabulary = FIGURES) -> list[Detections]:
        """As ``ask_all``, with the current vocabulary; arrays are copied, an ``Image`` is passed unchanged."""
        images = [
            picture if isinstance(picture, Image) else Image(101 + number, picture.copy())
            for number, picture in enumerate(pictures)
        ]
        found = self.detector.detect(images)
        if not isinstance(found, list) or not all(isinstance(answer, Detections) for answer in found):
            raise CheckFailed("a list of Detections", f"{type(found).__name__} {repr(found)[:80]}")
        if len(found) != len(images):
            raise CheckFailed(f"{len(images)} Detections for {len(images)} images", str(len(found)))
        for image, answer in zip(images, found, strict=True):
            answer.check_vocabulary(vocabulary)
            if answer.image_id != image.id:
                raise CheckFailed(f"image id {image.id}", str(answer.image_id))
            if (answer.width, answer.height) != (image.width, image.height):
                raise CheckFailed(
                    f"width x height {image.width} x {image.height} of the original image",
                    f"{answer.width} x {answer.height}",
                )
        return found
