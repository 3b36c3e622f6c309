"""What a run reports about names that its detector hardly distinguishes."""

from __future__ import annotations

import numpy as np

from ovd_bench.benchmarks.runner.loading import alike_names
from ovd_bench.detectors.interface import DetectorSettings
from ovd_bench.detectors.prompts import PromptPlan
from ovd_bench.detectors.types import Vocabulary
from ovd_bench.tests.benchmarks.runner.toy_detectors import Blurred, Plain


def said(vocabulary: Vocabulary, detector: Plain) -> tuple[str, ...]:
    detector.set_vocabulary(vocabulary, PromptPlan())
    return alike_names(detector, vocabulary, PromptPlan())


def test_names_that_are_asked_for_alike_are_no_fault_of_the_encoder() -> None:
    detector = Blurred(Blurred.card, DetectorSettings())
    both = Vocabulary((1, 2), ("bow_(weapon)", "bow_(decorative_ribbons)"))
    assert said(both, detector) == ()  # cleaning makes "bow" of either
    (note,) = said(Vocabulary((1, 2, 3), (*both.names, "cat")), detector)
    assert note.startswith("warning: 1 pair of class names is nearly the same")


def test_names_with_vectors_of_their_own_and_detectors_without_any_are_not_spoken_of() -> None:
    class Sharp(Blurred):
        def class_vectors(self) -> dict[int, np.ndarray[tuple[int, ...], np.dtype[np.float32]]]:
            return {1: np.array([1, 0], np.float32), 2: np.array([0, 1], np.float32)}

    words = Vocabulary((1, 2), ("cat", "dog"))
    assert said(words, Sharp(Blurred.card, DetectorSettings())) == ()
    assert said(words, Plain(Plain.card, DetectorSettings())) == ()
