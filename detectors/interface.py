"""What a detector is: any object of this shape. There is no base class."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, Protocol, runtime_checkable

import numpy.typing as npt

from ovd_bench.detectors.card import DetectorCard
from ovd_bench.detectors.class_vectors import ClassVectors
from ovd_bench.detectors.prompts import PromptPlan
from ovd_bench.detectors.types import Detections, DetectorError, Grounding, Image, Vocabulary

#: Raised when other (box, class) pairs are chosen from the same scores: limits per image and chunk, what competes with
#: what, ties (``detectors.selection``, which needs torch and so cannot hold it). Part of every protocol's hash.
SELECTION_VERSION = 1

DType = Literal["float32", "float16", "bfloat16"]


@dataclass(frozen=True)
class DetectorSettings:
    """How to load a detector and how much it shall give.

    Attributes:
        weights: local directory or file, or a hub id; None = what the card names.
        device: ``cpu``, ``cuda`` or ``cuda:N``.
        dtype: of the network.
        image_size: shorter side or square side that the network sees, pixels; None = the model's own.
        top_k: (box, class) pairs returned per image, over all chunks together.
        chunk_top_k: pairs kept per chunk of classes before that; None = ``top_k``. The chunks are the prompt plan's
            (``PromptPlan.chunk_classes``), also where a model sees all classes at once.
        chunk_batch: chunks of classes that a model may read at once, where it reads them together at all: more is
            faster on a graphics processor, and takes that many times the memory. None = the detector's own choice.
        nms_iou: overlap above which the lesser of two boxes of one class is dropped, more than 0 and at most 1; 1 =
            nothing is dropped. None = the detector's own choice; only some detectors take another
            (``detectors.registry.SUPPRESSING``).

    Raises:
        DetectorError: a number out of range.
    """

    weights: str | None = None
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
                raise DetectorError(f"DetectorSettings: {name} is {value}, at least 1 is needed")
        if self.nms_iou is not None and not 0 < self.nms_iou <= 1:
            raise DetectorError(f"DetectorSettings: nms_iou is {self.nms_iou}, more than 0 and at most 1 is needed")


@runtime_checkable
class Detector(Protocol):
    """An open-vocabulary detector (closed-set ones map their classes onto the vocabulary).

    A loader is a callable ``load(card, settings) -> Detector``; see ``detectors.registry``.
    """

    @property
    def card(self) -> DetectorCard:
        """What it is; weights source, sha256 and parameter count filled in from what was loaded."""
        ...

    def set_vocabulary(self, vocabulary: Vocabulary, plan: PromptPlan) -> None:
        """Encode the text once; holds until the next call.

        Raises:
            DetectorError: the plan asks for what the model cannot do.
        """
        ...

    def detect(self, images: Sequence[Image]) -> list[Detections]:
        """Boxes of each image, best first; the ``top_k`` (box, class) pairs by score, several classes per box allowed.

        No threshold, no state from image to image: the same image gives the same boxes in any company.

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
class TextDetector(Detector, Protocol):
    """A detector that makes a vector of each class name before it sees an image."""

    def class_vectors(self) -> ClassVectors:
        """Vectors (d,) of the vocabulary that is set, by category id, as the image first meets them.

        Classes with equal vectors are one class to the detector, unless it reads its captions once more beside the
        image. Where a class is several prompts, their mean; learned classes have none.

        Raises:
            DetectorError: no vocabulary was set.
        """
        ...


@runtime_checkable
class RawDetector(Detector, Protocol):
    """A detector that shows what its network says before anything is chosen."""

    def raw(self, image: Image, caption: str) -> dict[str, npt.NDArray[Any]]:
        """Arrays by name, as the network gives them, for comparison with other implementations."""
        ...


@runtime_checkable
class CountsFlops(Detector, Protocol):
    """A detector whose framework has no counter of its own."""

    def flops(self, image: Image) -> int | None:
        """Operations of ``detect`` on this image with the vocabulary that is set; a multiply-add counts as two.

        Matrix products, convolutions and attention count, as in torch's ``FlopCounterMode``; None = not known.
        """
        ...
