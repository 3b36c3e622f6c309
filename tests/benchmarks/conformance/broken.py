"""Detectors that each break the contract in one way, by the name of the check that must find it."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image as PilImage

from ovd_bench.detectors.class_vectors import ClassVectors
from ovd_bench.detectors.interface import Detector
from ovd_bench.detectors.prompts import PromptPlan
from ovd_bench.detectors.types import Detections, Image, Vocabulary
from ovd_bench.tests.benchmarks.conformance.random_grid import CARD, Fit, Floats, RandomGrid

Frame = Callable[[RandomGrid, Image, Floats], Floats]


class _WrongFrame(RandomGrid):
    """Boxes in another frame than that of the original image."""

    def __init__(self, top_k: int, frame: Frame, fit: Fit = "stretch", seed: int = 0) -> None:
        super().__init__(top_k, fit, seed=seed)
        self.frame = frame

    def finish(self, image: Image, boxes: Floats, scores: Floats) -> Detections:
        return super().finish(image, self.frame(self, image, boxes), scores)


def _scaled(x: float, y: float, boxes: Floats) -> Floats:
    return boxes * [x, y, x, y]


def _network_frame(detector: RandomGrid, image: Image, boxes: Floats) -> Floats:
    _, scale, shift = detector.network_input(image.pixels)
    moved: Floats = _scaled(*scale, boxes) + np.array([*shift, *shift])
    return moved


def _longer(image: Image) -> int:
    return max(image.width, image.height)


#: What people do to boxes of images that are not square.
FRAMES: dict[str, Frame] = {
    "width and height swapped": lambda _, i, b: _scaled(i.height / i.width, i.width / i.height, b),
    "padding not undone": lambda _, i, b: _scaled(i.width / _longer(i), i.height / _longer(i), b),
    "in 0 … 1": lambda _, i, b: _scaled(1 / i.width, 1 / i.height, b),
    "of the network input": _network_frame,
    "y before x": lambda _, i, b: b[:, [1, 0, 3, 2]],
    "padding at the other side": lambda _, i, b: b + [(_longer(i) - i.width) / 2, (_longer(i) - i.height) / 2] * 2,
}


def wrong_frame(name: str, fit: Fit, seed: int) -> Callable[[int], Detector]:
    return lambda top_k: _WrongFrame(top_k, FRAMES[name], fit, seed)


class _Xywh(RandomGrid):
    def finish(self, image: Image, boxes: Floats, scores: Floats) -> Detections:
        return super().finish(image, np.concatenate([boxes[:, :2], boxes[:, 2:] - boxes[:, :2]], axis=1), scores)


class _BatchNeighbour(RandomGrid):
    def detect(self, images: Sequence[Image]) -> list[Detections]:
        looks = [self.look(image.pixels) for image in images]
        return [self.finish(image, *looks[row - 1]) for row, image in enumerate(images)]


class _BatchStatistics(RandomGrid):
    """Scores shifted by the mean over the batch, as with batch norm in training mode."""

    def detect(self, images: Sequence[Image]) -> list[Detections]:
        looks = [self.look(image.pixels) for image in images]
        means = [scores.mean() for _, scores in looks]
        return [
            self.finish(image, boxes, scores * (1 + np.mean(means) - mean))
            for image, mean, (boxes, scores) in zip(images, means, looks, strict=True)
        ]


class _LeaksState(RandomGrid):
    """The text is overwritten by what the last image made of it."""

    def look(self, pixels: npt.NDArray[np.uint8]) -> tuple[Floats, Floats]:
        boxes, scores = super().look(pixels)
        if self.vectors is not None:
            self.vectors = self.vectors * (1 + 0.01 * pixels.mean() / 255)
        return boxes, scores


class _WritesInput(RandomGrid):
    def look(self, pixels: npt.NDArray[np.uint8]) -> tuple[Floats, Floats]:
        result = super().look(pixels)
        if pixels.flags.writeable:
            pixels[0] = 0
        return result


class _NanScore(RandomGrid):
    def finish(self, image: Image, boxes: Floats, scores: Floats) -> Detections:
        best = super().finish(image, boxes, scores)
        best.scores[0] = np.nan
        return dataclasses.replace(best)


class _PositionsForIds(RandomGrid):
    def set_vocabulary(self, vocabulary: Vocabulary, plan: PromptPlan) -> None:
        super().set_vocabulary(vocabulary, plan)
        self.ids = list(range(len(vocabulary)))


class _PositionsForImageIds(RandomGrid):
    def detect(self, images: Sequence[Image]) -> list[Detections]:
        return [dataclasses.replace(found, image_id=row) for row, found in enumerate(super().detect(images))]


class _SwappedSize(RandomGrid):
    def detect(self, images: Sequence[Image]) -> list[Detections]:
        return [dataclasses.replace(found, width=found.height, height=found.width) for found in super().detect(images)]


class _Generator(RandomGrid):
    def detect(self, images: Sequence[Image]) -> Any:
        return iter(super().detect(images))


class _Unsorted(RandomGrid):
    def finish(self, image: Image, boxes: Floats, scores: Floats) -> Detections:
        best = super().finish(image, boxes, scores)
        return Detections.of(image, best.boxes_xyxy[::-1], best.scores[::-1], best.category_ids[::-1])


class _NoTopK(RandomGrid):
    def finish(self, image: Image, boxes: Floats, scores: Floats) -> Detections:
        self.top_k = scores.size
        return super().finish(image, boxes, scores)


class _NotTheBest(RandomGrid):
    """The first boxes that come, sorted."""

    def finish(self, image: Image, boxes: Floats, scores: Floats) -> Detections:
        cells = max(self.top_k // scores.shape[1], 1)
        return super().finish(image, boxes[:cells], scores[:cells])


class _Chance(RandomGrid):
    calls = 0

    def look(self, pixels: npt.NDArray[np.uint8]) -> tuple[Floats, Floats]:
        boxes, scores = super().look(pixels)
        _Chance.calls += 1
        return boxes, scores * (1 + 0.01 * (_Chance.calls % 7))


class _ColumnsByVocabulary(RandomGrid):
    """Classes are asked for in the plan's order and named in the vocabulary's."""

    def set_vocabulary(self, vocabulary: Vocabulary, plan: PromptPlan) -> None:
        super().set_vocabulary(vocabulary, plan)
        self.ids = list(vocabulary.ids)


class _FirstVocabulary(RandomGrid):
    """Text that is cached for ever."""

    def set_vocabulary(self, vocabulary: Vocabulary, plan: PromptPlan) -> None:
        if self.vectors is None or len(vocabulary) != len(self.ids):
            super().set_vocabulary(vocabulary, plan)
        self.ids = [vocabulary.ids[row] for row in plan.rows(vocabulary)]


class _StaleText(RandomGrid):
    """Text vectors accumulate over vocabularies."""

    def set_vocabulary(self, vocabulary: Vocabulary, plan: PromptPlan) -> None:
        old = self.vectors
        super().set_vocabulary(vocabulary, plan)
        if old is not None and self.vectors is not None and old.shape != self.vectors.shape:
            self.vectors = self.vectors + 0.05 * old.mean(0)


class _MergesNames(RandomGrid):
    def set_vocabulary(self, vocabulary: Vocabulary, plan: PromptPlan) -> None:
        first = {plan.clean(name): row for row, name in reversed(list(enumerate(vocabulary.names)))}
        super().set_vocabulary(vocabulary.take(sorted(first.values())), plan)


class _Threshold(RandomGrid):
    def finish(self, image: Image, boxes: Floats, scores: Floats) -> Detections:
        found = super().finish(image, boxes, scores)
        sure = found.scores > 0.999
        return Detections.of(image, found.boxes_xyxy[sure], found.scores[sure], found.category_ids[sure])


class _SoftmaxOverClasses(RandomGrid):
    def finish(self, image: Image, boxes: Floats, scores: Floats) -> Detections:
        return super().finish(image, boxes, scores / scores.sum(1, keepdims=True))


class _ReadsTheFile(RandomGrid):
    def detect(self, images: Sequence[Image]) -> list[Detections]:
        own = []
        for image in images:
            pixels = np.array(PilImage.open(image.path).convert("RGB")) if image.path else image.pixels
            own.append(self.finish(image, *self.look(pixels)))
        return own


class _NoTemplateCheck(RandomGrid):
    def set_vocabulary(self, vocabulary: Vocabulary, plan: PromptPlan) -> None:
        super().set_vocabulary(vocabulary, dataclasses.replace(plan, templates=plan.templates[:1]))


class _CrashesUnprepared(RandomGrid):
    def look(self, pixels: npt.NDArray[np.uint8]) -> tuple[Floats, Floats]:
        len(self.vectors)  # type: ignore[arg-type] # a TypeError is what it is about
        return super().look(pixels)


class _NeedsPlainArrays(RandomGrid):
    def look(self, pixels: npt.NDArray[np.uint8]) -> tuple[Floats, Floats]:
        if not pixels.flags.c_contiguous:
            raise ValueError("At least one stride in the given numpy array is negative")
        return super().look(pixels)


class _NeedsSize(RandomGrid):
    def look(self, pixels: npt.NDArray[np.uint8]) -> tuple[Floats, Floats]:
        if min(pixels.shape[:2]) < 2:
            raise ZeroDivisionError("division by zero")
        return super().look(pixels)


class _FewClasses(RandomGrid):
    def set_vocabulary(self, vocabulary: Vocabulary, plan: PromptPlan) -> None:
        if len(vocabulary) > 256:
            raise RuntimeError("The size of tensor a (1203) must match the size of tensor b (256)")
        super().set_vocabulary(vocabulary, plan)


class _SeveralClasses(RandomGrid):
    def finish(self, image: Image, boxes: Floats, scores: Floats) -> Detections:
        return super().finish(image, boxes, scores.squeeze())


class _SplitsAtDots(RandomGrid):
    """Names read back from the caption that they were joined to."""

    def set_vocabulary(self, vocabulary: Vocabulary, plan: PromptPlan) -> None:
        super().set_vocabulary(vocabulary, plan)
        caption = ". ".join(plan.clean(name) for name in vocabulary.names)
        self.ids = [vocabulary.ids[row] for row, _ in enumerate(caption.split(". "))]


class _BlindToFirstWords(RandomGrid):
    """Vectors of names that differ in their first word are nearly the same."""

    def class_vectors(self) -> ClassVectors:
        return {number: row + 100 for number, row in super().class_vectors().items()}


def _with_card(**changes: Any) -> Callable[[int], Detector]:
    card = dataclasses.replace(CARD, **changes)
    return lambda top_k: RandomGrid(top_k, card=card)


#: What is wrong -> the check that must say so, words it must say, the detector.
BROKEN: dict[str, tuple[str, str, Callable[[int], Detector]]] = {
    "corner and size for corners": ("answers", "negative width or height", _Xywh),
    "NaN score": ("answers", "finite", _NanScore),
    "positions for category ids": ("answers", "not in the vocabulary", _PositionsForIds),
    "positions for image ids": ("answers", "image id 101", _PositionsForImageIds),
    "height for width": ("answers", "320 x 200", _SwappedSize),
    "no list": ("answers", "list of Detections", _Generator),
    "threshold": ("answers", "threshold", _Threshold),
    "no hash": ("card", "weights_sha256", _with_card(weights_sha256="")),
    "illegal name": ("card", "name", _with_card(name="../grid")),
    "crash without vocabulary": ("unprepared", "TypeError", _CrashesUnprepared),
    "unsorted": ("order-of-scores", "descending order", _Unsorted),
    "too many": ("top-k", "at most 1000", _NoTopK),
    "not the best": ("top-k", "best scores", _NotTheBest),
    "chance": ("repeats", "second time", _Chance),
    "state": ("state", "after another image", _LeaksState),
    "batch neighbour": ("batch", "of a batch", _BatchNeighbour),
    "batch statistics": ("batch", "of a batch", _BatchStatistics),
    "input written": ("inputs", "unchanged", _WritesInput),
    "plain arrays only": ("memory-layout", "stride", _NeedsPlainArrays),
    "no thin images": ("thin-and-huge", "1 x 1", _NeedsSize),
    "file read again": ("files", "png", _ReadsTheFile),
    "two classes at least": ("one-class", "IndexError", _SeveralClasses),
    "256 classes at most": ("1203-classes", "RuntimeError", _FewClasses),
    "names cut at dots": ("odd-names", "IndexError", _SplitsAtDots),
    "names merged": ("same-name", "both", _MergesNames),
    "first words unread": ("names-apart", "words.*above it", _BlindToFirstWords),
    "text cached": ("order-of-classes", "chunks of two|another order", _FirstVocabulary),
    "text accumulated": ("switching", "back", _StaleText),
    "columns permuted": ("order-of-classes", "another order", _ColumnsByVocabulary),
    "softmax over classes": ("company", "alone as with others", _SoftmaxOverClasses),
    "templates ignored": ("templates", "DetectorError", _NoTemplateCheck),
    "grounding promised": ("grounding", "ground", _with_card(capabilities=("open_vocabulary", "grounding"))),
}
