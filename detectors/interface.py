"""Interface of detectors. Any object with these methods is a detector; there is no base class."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, Protocol, runtime_checkable

import numpy.typing as npt

from ovd_bench.detectors.card import DetectorCard
from ovd_bench.detectors.class_vectors import ClassVectors
from ovd_bench.detectors.prompts import PromptPlan
from ovd_bench.detectors.types import Detections, DetectorError, Grounding, Image, Vocabulary

#: Increased when other (box, class) pairs are chosen from the same scores: limits per image and chunk, which pairs
#: compete, ties (``detectors.selection``, which needs torch and so cannot hold it). Part of every protocol's hash.
SELECTION_VERSION = 1

DType = Literal["float32", "float16", "bfloat16"]
#: Captions of which a detector keeps the encoded text: many images are asked the same.
CAPTIONS = 512
#: Character ranges ``(begin, end)`` of one phrase.
Spans = Sequence[tuple[int, int]]


@dataclass(frozen=True)
class DetectorSettings:
    """How to load a detector, and how many pairs it returns.

    Attributes:
        weights: local directory or file, or a hub id; None = those of the card.
        weights_key: entry of a training checkpoint that holds the weights, such as ``ema_model``; None = the usual
            one. Only some detectors read checkpoints (``detectors.registry.READS_CHECKPOINTS``).
        device: ``cpu``, ``cuda`` or ``cuda:N``.
        dtype: of the network.
        image_size: shorter side or square side of the network's input, pixels; None = the model's own.
        top_k: (box, class) pairs returned per image, over all chunks together.
        chunk_top_k: pairs kept per chunk of classes before that; None = ``top_k``. The chunks are the prompt plan's
            (``PromptPlan.chunk_classes``), even if a model reads all classes at once.
        chunk_batch: chunks of classes per forward pass, for models that read several classes together: more are
            faster on a GPU and need proportionally more memory. None = the detector's own choice.
        nms_iou: IoU above which, of two boxes of one class, the one with the lower score is removed, more than 0 and
            at most 1; 1 = none is removed. None = the detector's own choice; only some detectors accept another
            (``detectors.registry.SUPPRESSING``).

    Raises:
        DetectorError: a number out of range.
    """

    weights: str | None = None
    weights_key: str | None = None
    device: str = "cpu"
    dtype: DType = "float32"
    image_size: int | None = None
    top_k: int = 300
    chunk_top_k: int | None = None
    chunk_batch: int | None = None
    nms_iou: float | None = None

    def __post_init__(self) -> None:
        for name in ("image_size", "top_k", "chunk_top_k", "chunk_batch"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise DetectorError(f"DetectorSettings: {name} is {value}, expected at least 1")
        if self.nms_iou is not None and not 0 < self.nms_iou <= 1:
            raise DetectorError(f"DetectorSettings: nms_iou is {self.nms_iou}, expected more than 0 and at most 1")


@runtime_checkable
class Detector(Protocol):
    """An open-vocabulary detector (closed-set ones map their classes to the vocabulary).

    A loader is a callable ``load(card, settings) -> Detector``; see ``detectors.registry``.
    """

    @property
    def card(self) -> DetectorCard:
        """The card, with source, sha256 and parameter count of the loaded weights."""
        ...

    def set_vocabulary(self, vocabulary: Vocabulary, plan: PromptPlan) -> None:
        """Encode the text once; valid until the next call.

        Raises:
            DetectorError: the model does not support the plan.
        """
        ...

    def detect(self, images: Sequence[Image]) -> list[Detections]:
        """Boxes of each image, best first; the ``top_k`` (box, class) pairs by score, several classes per box allowed.

        There is no threshold and no state between images: an image gives the same boxes in every batch.

        Raises:
            DetectorError: no vocabulary was set.
        """
        ...


@runtime_checkable
class GroundingDetector(Detector, Protocol):
    """A detector that also finds the phrases of a caption."""

    def ground(self, images: Sequence[Image], captions: Sequence[str]) -> list[Grounding]:
        """Boxes of each image for the phrases of its caption, best first."""
        ...


@runtime_checkable
class SpanDetector(Detector, Protocol):
    """A detector that scores given phrases of a caption, as data sets annotate them."""

    def ground_spans(self, image: Image, caption: str, phrases: Sequence[Spans]) -> Detections:
        """Boxes for each of the given phrases, best first; at most ``top_k`` per phrase.

        Args:
            image: to look at; its features are kept for the next call with the same object.
            caption: the whole text.
            phrases: of each phrase the character ranges in the caption; no range = the whole caption.

        Returns:
            Category ids are positions in ``phrases``.

        Raises:
            DetectorError: a phrase without a word that the model reads, or a caption longer than it reads.
        """
        ...


@runtime_checkable
class TextDetector(Detector, Protocol):
    """A detector that computes a vector of each class name before it gets an image."""

    def class_vectors(self) -> ClassVectors:
        """Vectors (d,) of the current vocabulary, by category id, as they are first combined with the image.

        Classes with equal vectors are one class to the detector, unless it reads its captions again together with the
        image. Of a class with several prompts it is their mean; learned classes have none.

        Raises:
            DetectorError: no vocabulary was set.
        """
        ...


@runtime_checkable
class RawDetector(Detector, Protocol):
    """A detector that can return the raw output of its network."""

    def raw(self, image: Image, caption: str) -> dict[str, npt.NDArray[Any]]:
        """Arrays of the network's output by name, for comparison with other implementations."""
        ...


@runtime_checkable
class CountsFlops(Detector, Protocol):
    """A detector whose framework has no counter of operations."""

    def flops(self, image: Image) -> int | None:
        """Operations of ``detect`` on this image with the current vocabulary; a multiply-add counts as two.

        Matrix products, convolutions and attention count, as in torch's ``FlopCounterMode``; None = not known.
        """
        ...
