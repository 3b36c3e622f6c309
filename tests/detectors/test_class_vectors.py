"""How well detectors distinguish class names."""

from __future__ import annotations

import tracemalloc

import numpy as np
import numpy.typing as npt
import pytest

from ovd_bench.detectors.captions import caption_of_names
from ovd_bench.detectors.class_vectors import NEARLY_SAME, Likeness, likeness_note, most_alike, of_captions
from ovd_bench.detectors.interface import DetectorSettings, TextDetector
from ovd_bench.detectors.prompts import PromptPlan
from ovd_bench.detectors.registry import load_detector
from ovd_bench.detectors.types import DetectorError, Vocabulary

NAMES = {4: "cat", 7: "dog", 9: "bench"}


def vectors(*rows: list[float]) -> dict[int, npt.NDArray[np.float32]]:
    return {number: np.array(row, np.float32) for number, row in zip(NAMES, rows, strict=False)}


def test_the_most_alike_pair_and_how_many_are_above_the_limit() -> None:
    alike = most_alike(vectors([1, 0], [0, 2], [1, 1]), NAMES)
    assert alike is not None
    assert (alike.names, alike.pairs) == (("cat", "bench"), 0)
    assert alike.cosine == pytest.approx(0.5**0.5)
    same = most_alike(vectors([1, 0], [3, 0.01], [2, 0.01]), NAMES)
    assert same is not None
    assert same.pairs == 3
    assert most_alike(vectors([1, 0]), NAMES) is None


def test_pairs_are_counted_once_over_blocks_of_rows() -> None:
    """More rows than are compared at once, against every pair by itself."""
    rng = np.random.default_rng(0)
    rows = rng.normal(size=(2100, 3)).astype(np.float32)
    ids = range(5, 2105)
    alike = most_alike(dict(zip(ids, rows, strict=True)), {number: str(number) for number in ids})
    units = rows.astype(np.float64) / np.linalg.norm(rows.astype(np.float64), axis=1, keepdims=True)
    cosines = (units @ units.T)[np.triu_indices(len(rows), 1)]
    assert alike is not None
    assert alike.pairs == (cosines > NEARLY_SAME).sum() > 0
    assert alike.cosine == pytest.approx(cosines.max())
    first, second = (units[int(name) - 5] for name in alike.names)
    assert first @ second == pytest.approx(cosines.max())


def test_vectors_without_length_are_alike() -> None:
    alike = most_alike(vectors([0, 0], [0, 0], [1, -1]), NAMES)
    assert alike is not None
    assert (alike.names, alike.pairs) == (("cat", "dog"), 1)


def test_a_vector_that_is_not_finite_is_refused() -> None:
    with pytest.raises(DetectorError, match="'dog': is not finite"):
        most_alike(vectors([0, 1], [0, float("nan")], [1, -1]), NAMES)


def test_the_note_names_the_pair() -> None:
    assert likeness_note(Likeness(0.5, ("cat", "dog"), 0)) == ""
    assert likeness_note(None) == ""
    note = likeness_note(Likeness(0.9997, ("cat", "dog"), 1200))
    assert note.startswith("warning: 1,200 pairs of class names are nearly the same")
    assert "'cat' and 'dog' (0.9997)" in note


def test_means_over_words_in_the_order_of_the_captions() -> None:
    captions = [
        caption_of_names([[10, 11], [12]]),
        caption_of_names([[13]]),
    ]  # [CLS] 10 11 . 12 . [SEP], [CLS] 13 . [SEP]
    features = [np.arange(14.0).reshape(7, 2), np.arange(20.0).reshape(10, 2)]  # the second is padded
    found = of_captions([3, 1, 2], captions, features)
    assert {number: row.tolist() for number, row in found.items()} == {3: [3, 4], 1: [8, 9], 2: [2, 3]}


@pytest.mark.parametrize("name", ["owl-nano", "grounding-dino-nano", "owl-controlled", "glip-controlled"])
def test_shipped_detectors_show_the_vectors_of_their_vocabulary(name: str) -> None:
    detector = load_detector(name, DetectorSettings())
    assert isinstance(detector, TextDetector)
    with pytest.raises(DetectorError, match="vocabulary"):
        detector.class_vectors()
    words = Vocabulary((5, 2, 9), ("red star", "blue ring", "red star"))
    detector.set_vocabulary(words, PromptPlan())
    found = detector.class_vectors()
    assert set(found) == {2, 5, 9}
    np.testing.assert_allclose(found[5], found[9], rtol=1e-5)  # the same name
    assert np.abs(found[5] - found[2]).max() > 1e-3


def test_learned_classes_have_no_vectors() -> None:
    detector = load_detector("closed-nano", DetectorSettings())
    detector.set_vocabulary(Vocabulary((1, 2), ("striped red star", "dotted red star")), PromptPlan())
    assert isinstance(detector, TextDetector)
    assert detector.class_vectors() == {}


def test_memory_grows_with_the_number_of_names_not_with_its_square() -> None:
    """20,000 names are compared in a third of a gigabyte; all pairs at once would take 3.2."""
    peaks = []
    for count in (2048, 4096):
        rows = np.random.default_rng(0).random((count, 16), dtype=np.float32)
        tracemalloc.start()
        most_alike(dict(enumerate(rows)), dict.fromkeys(range(count), "name"))
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert peaks[1] < 2.2 * peaks[0]
