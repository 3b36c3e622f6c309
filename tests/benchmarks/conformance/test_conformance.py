"""The conformance check passes good detectors and names what is wrong with each broken one."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest

from ovd_bench.benchmarks.conformance.checks import CHECKS, check_detector, verdict
from ovd_bench.benchmarks.conformance.outcome import TOP_K, CheckFailed, TestedDetector
from ovd_bench.benchmarks.conformance.tolerance import ROUNDING, SAME, expect_same
from ovd_bench.detectors.interface import Detector, DetectorSettings
from ovd_bench.detectors.registry import load_detector
from ovd_bench.detectors.types import Detections, Image
from ovd_bench.tests.benchmarks.conformance.broken import BROKEN, FRAMES, wrong_frame
from ovd_bench.tests.benchmarks.conformance.random_grid import CARD, Fit, RandomGrid

ROOT = Path(__file__).resolve().parents[3]
BLOBS = f"{ROOT / 'examples' / 'my_detector.py'}:ColourBlobs"


def blobs(top_k: int) -> Detector:
    return load_detector(BLOBS, DetectorSettings(top_k=top_k))


def verdict_of(check: str, load: Callable[[int], Detector]) -> tuple[str, str]:
    return verdict(CHECKS[check], TestedDetector("random-grid", load))


def test_a_detector_without_weights_passes_everything() -> None:
    outcomes = {outcome.check: outcome for outcome in check_detector(BLOBS, blobs)}
    assert list(outcomes) == list(CHECKS)
    assert {name for name, outcome in outcomes.items() if outcome.status == "skipped"} == {"names-apart", "grounding"}
    assert not [outcome for outcome in outcomes.values() if outcome.status == "failed"]


def test_random_weights_pass_all_checks_that_apply() -> None:
    outcomes = list(check_detector("random-grid", RandomGrid))
    assert {outcome.check for outcome in outcomes if outcome.status != "passed"} == {"finds", "grounding"}
    assert all(outcome.status != "failed" for outcome in outcomes)


@pytest.mark.parametrize("fit", ["stretch", "pad", "centre", "aspect"])
def test_geometry_of_random_weights_is_seen_to_be_right(fit: Fit) -> None:
    for seed in range(4):
        for check in ("frame", "place"):
            status, detail = verdict_of(check, lambda top_k, s=seed: RandomGrid(top_k, fit, seed=s))  # type: ignore[misc]
            assert status == "passed", (check, seed, detail)


@pytest.mark.parametrize("fit", ["stretch", "pad", "aspect"])
@pytest.mark.parametrize("name", FRAMES)
def test_place_names_every_wrong_frame_of_random_weights(name: str, fit: Fit) -> None:
    for seed in range(2):
        status, detail = verdict_of("place", wrong_frame(name, fit, seed))
        assert status == "failed", (seed, detail)
        assert "420 x 140" in detail or "330 x 990" in detail


@pytest.mark.parametrize("name", ["width and height swapped", "in 0 … 1", "of the network input"])
def test_frame_needs_no_response_to_content(name: str) -> None:
    assert verdict_of("frame", wrong_frame(name, "stretch", 0))[0] == "failed"


@pytest.mark.parametrize("name", BROKEN)
def test_broken_detector_fails_its_check(name: str) -> None:
    check, words, load = BROKEN[name]
    assert verdict_of(check, RandomGrid)[0] in (("skipped",) if check == "grounding" else ("passed",))
    status, detail = verdict_of(check, load)
    assert status == "failed"
    assert re.search(words, detail), detail


@pytest.mark.parametrize("name", ["batch neighbour", "columns permuted", "state", "input written", "no thin images"])
def test_only_what_is_wrong_is_named(name: str) -> None:
    check, _, load = BROKEN[name]
    others = {"answers", "card", "order-of-scores", "top-k", "repeats", "one-class", "same-name", "templates"}
    assert {other for other in others if verdict_of(other, load)[0] != "passed"} == set()
    assert verdict_of(check, load)[0] == "failed"


def test_objects_lost_in_a_wide_image_are_named() -> None:
    class Squeezed:
        """Blobs whose boxes are squeezed as if a padding had not been undone."""

        def __init__(self, top_k: int) -> None:
            self._good = blobs(top_k)
            self.card, self.set_vocabulary = self._good.card, self._good.set_vocabulary

        def detect(self, images: Sequence[Image]) -> list[Detections]:
            return [
                Detections.of(
                    image,
                    found.boxes_xyxy * np.array([image.width, image.height] * 2) / max(image.width, image.height),
                    found.scores,
                    found.category_ids,
                )
                for image, found in zip(images, self._good.detect(images), strict=True)
            ]

    status, detail = verdict_of("finds", Squeezed)
    assert status == "failed"
    assert "found in square scenes" in detail


def test_classes_that_see_each_other_are_not_compared_alone() -> None:
    import dataclasses

    joint = dataclasses.replace(CARD, capabilities=("open_vocabulary", "joint"))
    load = BROKEN["softmax over classes"][2]

    def declared(top_k: int) -> Detector:
        detector = load(top_k)
        detector.card = joint  # type: ignore[misc]
        return detector

    assert verdict_of("company", declared)[0] == "skipped"
    assert verdict_of("order-of-classes", declared)[0] == "passed"


def test_loading_that_fails_is_no_check() -> None:
    def broken(top_k: int) -> Detector:
        raise FileNotFoundError("weights")

    with pytest.raises(FileNotFoundError):
        list(check_detector("x", broken))


def _detections(rows: list[tuple[float, float, int]]) -> Detections:
    """Rows of left edge, score, category."""
    boxes = [[x, 0, x + 10, 10] for x, _, _ in rows]
    image = Image(1, np.zeros((50, 100, 3), np.uint8))
    return Detections.of(image, boxes, [s for _, s, _ in rows], [c for _, _, c in rows])


def test_tolerance_allows_rounding_and_ties_but_nothing_else() -> None:
    a = _detections([(0, 0.9, 1), (20, 0.5, 2), (40, 0.5, 1)])
    expect_same(a, _detections([(0.05, 0.9003, 1), (40, 0.5, 1), (20, 0.5, 2)]), ROUNDING, "x")
    for other in (
        _detections([(0, 0.9, 1), (20, 0.5, 2)]),
        _detections([(0, 0.9, 1), (20, 0.5, 2), (40, 0.5, 2)]),
        _detections([(0, 0.9, 1), (20, 0.5, 2), (41, 0.5, 1)]),
        _detections([(0, 0.91, 1), (20, 0.5, 2), (40, 0.5, 1)]),
        _detections([(0, 0.9, 1), (20, 0.5, 2), (40, 0.5, 1), (40, 0.5, 1)]),
        _detections([]),
    ):
        for left, right in ((a, other), (other, a)):
            with pytest.raises(CheckFailed):
                expect_same(left, right, ROUNDING, "x")
    with pytest.raises(CheckFailed):
        expect_same(a, _detections([(0, 0.9001, 1), (20, 0.5, 2), (40, 0.5, 1)]), SAME, "x")


def test_tolerance_forgives_only_the_lower_end_of_a_full_list() -> None:
    rows = [(float(i % 90), 1 - i / 2000, 1) for i in range(TOP_K)]
    end = [*rows[:-1], (95.0, rows[-1][1], 1)]
    start = [(95.0, 1.0, 1), *rows[1:]]
    expect_same(_detections(rows), _detections(end), SAME, "x")
    with pytest.raises(CheckFailed):
        expect_same(_detections(rows), _detections(start), SAME, "x")
