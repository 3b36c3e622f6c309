"""The loop over images: batches, memory, order, and what a detector must not do."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import pytest

from ovd_bench.benchmarks.machine.memory import is_out_of_memory
from ovd_bench.benchmarks.runner.image_subset import Group, RunImages
from ovd_bench.benchmarks.runner.predictor import OutOfMemoryError, Predictor
from ovd_bench.benchmarks.runner.reader import Read, Wanted
from ovd_bench.detectors.card import DetectorCard
from ovd_bench.detectors.prompts import PromptPlan
from ovd_bench.detectors.types import Detections, DetectorError, Image, Vocabulary

IDS = [4, 8, 15, 16, 23, 42]
VOCABULARY = Vocabulary((1, 2, 3), ("a", "b", "c"))


class Scripted:
    """One box per image and class asked for; runs out of memory where told, and keeps a diary."""

    card = DetectorCard("scripted", family="scripted", framework="numpy", loader="")

    def __init__(self, fits: int = 99, error: BaseException | None = None) -> None:
        self.fits = fits
        self.error = error or MemoryError()
        self.batches: list[int] = []
        self.asked: list[tuple[int, ...]] = []

    def set_vocabulary(self, vocabulary: Vocabulary, plan: PromptPlan) -> None:
        self.asked.append(vocabulary.ids)

    def detect(self, images: Sequence[Image]) -> list[Detections]:
        if len(images) > self.fits:
            raise self.error
        self.batches.append(len(images))
        ids = self.asked[-1]
        return [
            Detections.of(image, [[0, 1, 2, 4]] * len(ids), [image.id / 100] * len(ids), list(ids)) for image in images
        ]


def predictor(detector: Scripted, batch: int, subsets: list[tuple[int, ...]] | None = None) -> Predictor:
    run_images = RunImages(VOCABULARY, IDS, [f"{i}.png" for i in IDS], [None] * len(IDS), subsets)
    return Predictor(detector, run_images, PromptPlan(), batch=batch, top_k=10)


def images(groups: list[Group], failed: tuple[int, ...] = ()) -> Iterator[Read]:
    for group in groups:
        for position in group.members:
            image = None if IDS[position] in failed else Image(IDS[position], np.zeros((8, 8, 3), np.uint8))
            yield Read(Wanted(0, IDS[position], "", None), image, "" if image else "is damaged")


ALL = [Group(None, list(range(6)))]


def test_batches_and_columns() -> None:
    detector = Scripted()
    made = predictor(detector, 4).shard(ALL, images(ALL))
    assert detector.batches == [4, 2]
    assert detector.asked == [(1, 2, 3)]
    assert made.predictions.image_id.tolist() == [i for i in IDS for _ in range(3)]
    assert made.predictions.category_id.tolist() == [1, 2, 3] * 6
    columns = [getattr(made.predictions, name)[0] for name in "xywh"]
    assert columns == [0, 1, 2, 3]
    assert made.predictions.score.dtype == np.float32
    assert made.smallest_batch == 4


@pytest.mark.parametrize(
    "error",
    [
        MemoryError(),
        type("OutOfMemoryError", (RuntimeError,), {})("CUDA out of memory. Tried to allocate 2.00 GiB"),
        RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes"),
    ],
)
def test_out_of_memory_halves_the_batch_and_loses_nothing(error: BaseException) -> None:
    whole = predictor(Scripted(), 6).shard(ALL, images(ALL))
    detector = Scripted(fits=2, error=error)
    halved: list[int] = []
    run = predictor(detector, 6)
    run._on_halved = halved.append
    made = run.shard(ALL, images(ALL))
    assert halved == [3, 1]
    assert detector.batches == [1] * 6
    assert made.smallest_batch == run.batch == 1
    for name in ("image_id", "category_id", "score", "x", "y", "w", "h"):
        np.testing.assert_array_equal(getattr(made.predictions, name), getattr(whole.predictions, name))


def test_every_image_is_in_one_timed_call_and_only_the_first_call_is_cold() -> None:
    run = predictor(Scripted(fits=3), 4)
    first, second = run.shard(ALL, images(ALL)).calls, run.shard(ALL, images(ALL)).calls
    assert sum(call.images for call in first) == sum(call.images for call in second) == len(IDS)
    assert max(call.images for call in first) <= 3  # what did not fit into memory is no call
    assert [call.cold for call in first] == [True] + [False] * (len(first) - 1)
    assert not any(call.cold for call in second)
    assert all(call.seconds >= 0 for call in first + second)


def test_smaller_batch_is_kept_for_the_next_images() -> None:
    detector = Scripted(fits=3)
    made = predictor(detector, 6).shard(ALL, images(ALL))
    assert detector.batches == [3, 3]
    assert made.smallest_batch == 3


def test_out_of_memory_at_one_image_is_one_line() -> None:
    with pytest.raises(OutOfMemoryError, match=r"image 4 \(8 x 8\): memory ran out at a batch of 1"):
        predictor(Scripted(fits=0), 4).shard(ALL, images(ALL))


def test_other_errors_are_no_lack_of_memory() -> None:
    assert not is_out_of_memory(RuntimeError("shapes do not match"))
    assert not is_out_of_memory(ValueError("out of memory"))
    with pytest.raises(RuntimeError, match="shapes do not match"):
        predictor(Scripted(fits=1, error=RuntimeError("shapes do not match")), 4).shard(ALL, images(ALL))


def test_each_subset_is_asked_for_once_and_the_order_is_restored() -> None:
    subsets = [(0,), (1, 2), (0,), (), (1, 2), (0,)]
    detector = Scripted()
    run = predictor(detector, 2, subsets)
    groups = run._run_images.groups(0, 6)
    assert groups == [Group((0,), [0, 2, 5]), Group((1, 2), [1, 4])]
    made = run.shard(groups, images(groups))
    assert detector.asked == [(1,), (2, 3)]
    assert detector.batches == [2, 1, 2]
    assert made.predictions.image_id.tolist() == [4, 8, 8, 15, 23, 23, 42]
    assert made.predictions.category_id.tolist() == [1, 2, 3, 1, 2, 3, 1]


def test_failed_images_are_listed_and_the_others_found() -> None:
    detector = Scripted()
    made = predictor(detector, 4).shard(ALL, images(ALL, failed=(42, 8)))
    assert [(image.image_id, image.reason) for image in made.failed] == [(8, "is damaged"), (42, "is damaged")]
    assert detector.batches == [4]
    assert sorted(set(made.predictions.image_id.tolist())) == [4, 15, 16, 23]


def test_no_image_readable_gives_no_rows() -> None:
    made = predictor(Scripted(), 4).shard(ALL, images(ALL, failed=tuple(IDS)))
    assert len(made.predictions) == 0
    assert len(made.failed) == 6


WRONG = {
    "not a list": (lambda found: tuple(found), r"detect\(\) returned tuple for 6 images"),
    "too few": (lambda found: found[1:], r"detect\(\) returned 5 for 6 images"),
    "another type": (lambda found: [None, *found[1:]], r"detect\(\) returned NoneType for image 4"),
    "another order": (lambda found: found[::-1], r"detections of image 42 \(8 x 8\) for image 4"),
    "another size": (
        lambda found: [Detections.of(Image(4, np.zeros((4, 8, 3), np.uint8)), [], [], []), *found[1:]],
        r"image 4 \(8 x 4\) for image 4 \(8 x 8\)",
    ),
    "too many": (
        lambda found: [
            Detections.of(Image(4, np.zeros((8, 8, 3), np.uint8)), [[0, 0, 1, 1]] * 11, [0.5] * 11, [1] * 11),
            *found[1:],
        ],
        "11 boxes, more than top_k = 10",
    ),
    "unasked class": (
        lambda found: [
            Detections.of(Image(4, np.zeros((8, 8, 3), np.uint8)), [[0, 0, 1, 1]], [0.5], [7]),
            *found[1:],
        ],
        r"category_ids\[0\] is 7, which is not in the vocabulary",
    ),
}


@pytest.mark.parametrize("name", WRONG)
def test_what_a_detector_may_not_give(name: str) -> None:
    spoil, message = WRONG[name]

    class Wrong(Scripted):
        def detect(self, images: Sequence[Image]) -> list[Detections]:
            return spoil(super().detect(images))  # type: ignore[no-untyped-call, no-any-return]

    with pytest.raises(DetectorError, match=message):
        predictor(Wrong(), 6).shard(ALL, images(ALL))


@pytest.mark.parametrize("subsets", [None, [(0, 2)] * len(IDS)])
def test_distractors_are_asked_for_and_dropped(subsets: list[tuple[int, ...]] | None) -> None:
    """They take part in what the detector says, not in what is kept."""
    detector = Scripted()
    run = predictor(detector, 4, subsets)
    run._plan = PromptPlan(distractors=("x", "y"))
    groups = ALL if subsets is None else [Group((0, 2), list(range(6)))]
    made = run.shard(groups, images(groups))
    assert detector.asked == [(1, 2, 3, 4, 5) if subsets is None else (1, 3, 4, 5)]
    assert made.predictions.category_id.tolist() == ([1, 2, 3] if subsets is None else [1, 3]) * 6


def test_synonyms_are_what_the_detector_hears() -> None:
    heard: list[tuple[str, ...]] = []

    class Listening(Scripted):
        def set_vocabulary(self, vocabulary: Vocabulary, plan: PromptPlan) -> None:
            heard.append(vocabulary.names)

    run = predictor(Listening(), 4)
    run._plan = PromptPlan(paraphrase=1)
    run._run_images = RunImages(
        Vocabulary((1, 2), ("a", "b"), synonyms=(("z",), ())), IDS, [f"{i}.png" for i in IDS], [None] * len(IDS), None
    )
    run.ask(None)
    assert heard == [("z", "b")]
