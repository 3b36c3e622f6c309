"""The loop over the images of a shard: batches, memory, checks, columns."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from ovd_bench.benchmarks.machine.memory import free_memory, is_out_of_memory
from ovd_bench.benchmarks.runner.image_subset import Group, RunImages, Subset
from ovd_bench.benchmarks.runner.reader import Read
from ovd_bench.benchmarks.store.predictions import no_predictions
from ovd_bench.benchmarks.store.schema import FailedImage
from ovd_bench.detectors.interface import Detector
from ovd_bench.detectors.prompts import PromptPlan
from ovd_bench.detectors.types import Detections, DetectorError, Image, Vocabulary
from ovd_bench.metrics.types import Predictions


class _TooMany:
    """A batch that did not fit into memory; no detector can give it by mistake."""


class OutOfMemoryError(DetectorError):
    """A single image does not fit into memory."""


@dataclass(frozen=True)
class Call:
    """A call of ``detect`` that gave detections.

    Attributes:
        images: in the call.
        seconds: from pixels in memory to boxes, as ``bench speed`` measures.
        cold: the first call of this predictor, in which frameworks compile kernels.
    """

    images: int
    seconds: float
    cold: bool


@dataclass(frozen=True)
class ShardPredictions:
    """Predictions of one shard.

    Attributes:
        predictions: float32, images in order of their ids.
        failed: images that could not be read.
        pixels: image id -> hash of its pixels, for all requested images.
        smallest_batch: size of the batch after all halvings for lack of memory, or the requested size.
        calls: of the detector, in order.
    """

    predictions: Predictions
    failed: list[FailedImage]
    pixels: dict[int, str]
    smallest_batch: int
    calls: list[Call]


class Predictor:
    """Runs a detector over a stream of images.

    Attributes:
        batch: images per call of the detector; halved whenever memory runs out, for the rest of the run.
    """

    def __init__(
        self,
        detector: Detector,
        run_images: RunImages,
        plan: PromptPlan,
        *,
        batch: int,
        top_k: int,
        on_images: Callable[[int], None] = lambda count: None,
        on_halved: Callable[[int], None] = lambda batch: None,
    ) -> None:
        self.batch = batch
        self._detector = detector
        self._run_images = run_images
        self._plan = plan
        self._top_k = top_k
        self._on_images = on_images
        self._on_halved = on_halved
        self._vocabulary = run_images.vocabulary
        self._wanted = np.array(run_images.vocabulary.ids, np.int32)
        self._asked: tuple[Subset] | None = None
        self._cold = True
        self._calls: list[Call] = []

    def ask(self, subset: Subset) -> None:
        """Set the vocabulary of the next images, unless it is set already."""
        if self._asked == (subset,):
            return
        everything = self._run_images.vocabulary
        self._asked = None
        wanted = everything if subset is None else everything.take(subset)
        self._vocabulary = self._plan.spoken(wanted)
        self._detector.set_vocabulary(self._vocabulary, self._plan)
        self._wanted = np.array(wanted.ids, np.int32)
        self._asked = (subset,)

    def shard(self, groups: Sequence[Group], images: Iterator[Read]) -> ShardPredictions:
        """Predict one shard.

        Args:
            groups: its images.
            images: the images of the groups in their order, read or failed.

        Raises:
            OutOfMemoryError: one image alone is too much.
            DetectorError: the detector breaks its contract.
            DataError: a box whose width or height is not finite.
        """
        self._calls = []
        found: dict[int, Detections] = {}
        failed: list[FailedImage] = []
        pixels: dict[int, str] = {}
        for group in groups:
            self.ask(group.subset)
            pending: list[Image] = []
            for left in range(len(group.members) - 1, -1, -1):
                item = next(images)
                pixels[item.wanted.image_id] = item.sha256
                if item.image is None:
                    failed.append(FailedImage(image_id=item.wanted.image_id, reason=item.reason))
                    self._on_images(1)
                else:
                    pending.append(item.image)
                if pending and (left == 0 or len(pending) >= self.batch):
                    found |= {one.image_id: one for one in self._detect(pending)}
                    pending = []
        failed.sort(key=lambda image: image.image_id)
        ordered = [found[image] for image in sorted(found)]
        return ShardPredictions(columns(ordered), failed, dict(sorted(pixels.items())), self.batch, self._calls)

    def _detect(self, images: list[Image]) -> list[Detections]:
        """Detections of images in batches, in smaller ones if memory runs out."""
        done: list[Detections] = []
        while len(done) < len(images):
            part = images[len(done) : len(done) + self.batch]
            found = self._attempt(part)
            if isinstance(found, _TooMany):
                free_memory()  # after the except block: the error kept the frames that hold the tensors
                self.batch = max(1, len(part) // 2)
                self._on_halved(self.batch)
                continue
            kept = checked(part, found, self._vocabulary, self._top_k, "detect()")
            done += [one.of_categories(self._wanted) for one in kept] if self._plan.distractors else kept
            self._on_images(len(part))
        return done

    def _attempt(self, images: list[Image]) -> object:
        """What the detector gives, or ``_TooMany`` if memory ran out and fewer images may help."""
        begin = time.perf_counter()
        try:
            found = self._detector.detect(images)
        except Exception as error:
            if not is_out_of_memory(error):
                raise
            if len(images) == 1:
                image = images[0]
                raise OutOfMemoryError(
                    f"image {image.id} ({image.width} x {image.height}): memory ran out at a batch of 1: "
                    "use a smaller --image-size, --dtype float16 or a larger machine"
                ) from error
            return _TooMany()
        self._calls.append(Call(len(images), time.perf_counter() - begin, self._cold))
        self._cold = False
        return found


def checked(images: list[Image], found: object, vocabulary: Vocabulary, top_k: int, method: str) -> list[Detections]:
    """Require one ``Detections`` per image, in order, with known classes and at most ``top_k`` boxes.

    Args:
        images: what the detector got.
        found: what it returned.
        vocabulary: the classes that it was given.
        top_k: the largest number of boxes of an image.
        method: that returned it, for messages.

    Raises:
        DetectorError: otherwise; names the method.
    """
    if not isinstance(found, list) or len(found) != len(images):
        count = len(found) if isinstance(found, list) else type(found).__name__
        raise DetectorError(
            f"{method} returned {count} for {len(images)} images: expected a list with one entry per image"
        )
    for image, one in zip(images, found, strict=True):
        if not isinstance(one, Detections):
            raise DetectorError(f"{method} returned {type(one).__name__} for image {image.id}: expected Detections")
        if (one.image_id, one.width, one.height) != (image.id, image.width, image.height):
            raise DetectorError(
                f"{method} returned detections of image {one.image_id} ({one.width} x {one.height}) "
                f"for image {image.id} ({image.width} x {image.height})"
            )
        if len(one) > top_k:
            raise DetectorError(f"Detections of image {image.id}: {len(one):,} boxes, more than top_k = {top_k:,}")
        one.check_vocabulary(vocabulary)
    return found


def columns(found: list[Detections]) -> Predictions:
    """Detections of images in order as columns, float32 xywh."""
    if not found:
        return no_predictions()
    boxes = np.concatenate([one.boxes_xyxy for one in found])
    with np.errstate(over="ignore"):  # an infinite side is refused by Predictions
        boxes[:, 2:] -= boxes[:, :2]
    return Predictions.from_boxes(
        np.repeat([one.image_id for one in found], [len(one) for one in found]),
        np.concatenate([one.category_ids for one in found]),
        np.concatenate([one.scores for one in found]),
        boxes,
    )
