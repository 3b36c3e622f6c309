"""Check that a text encoder distinguishes names."""

from __future__ import annotations

from ovd_bench.benchmarks.conformance.outcome import PLAN, CheckFailed, CheckSkipped, TestedDetector
from ovd_bench.benchmarks.data.shapes import WORLDS
from ovd_bench.detectors.class_vectors import NEARLY_SAME, most_alike
from ovd_bench.detectors.interface import TextDetector
from ovd_bench.detectors.types import Vocabulary

#: Names of one common word each with different meanings.
_WORDS = ("dog", "cat", "freedom", "star", "ring", "river", "bus", "chair", "apple", "person", "umbrella", "heart")
#: Pairs that differ only in their first word.
_SIBLINGS = (
    *("polar bear", "brown bear", "striped red star", "dotted red star", "tennis ball", "golf ball"),
    *("wine glass", "beer glass", "left shoe", "right shoe"),
)


def tells_names_apart(subject: TestedDetector) -> str:
    """Names of one word, siblings such as polar bear and brown bear, and those of shapes have different text vectors.

    Each run checks the names of its benchmark; nearly equal ones are in the notes of its result.
    """
    detector = subject.detector
    if not isinstance(detector, TextDetector):
        raise CheckSkipped("it does not provide the vectors of its classes (class_vectors)")
    seen = []
    shapes = tuple(category.name for category in WORLDS["shapes"].categories)
    for kind, names in (("words", _WORDS), ("siblings", _SIBLINGS), ("shapes", shapes)):
        detector.set_vocabulary(Vocabulary(tuple(range(1, len(names) + 1)), names), PLAN)
        alike = most_alike(detector.class_vectors(), dict(enumerate(names, 1)))
        if alike is None:
            raise CheckSkipped("its classes are learned and not encoded from text")
        first, second = alike.names
        if alike.pairs:
            raise CheckFailed(
                f"vectors of different {kind} with a cosine of {NEARLY_SAME} at most",
                f"{alike.cosine:.4f} for '{first}' and '{second}'; {alike.pairs} pairs are above it",
            )
        seen.append(f"{kind} at most {alike.cosine:.2f} ('{first}', '{second}')")
    return "cosine of " + ", ".join(seen)
