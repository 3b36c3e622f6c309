"""DETR and Deformable DETR through transformers: closed-set references beside the open-vocabulary detectors.

They have fixed classes, those of COCO in the published weights, and read no text. A vocabulary is mapped to the classes
by name (``detectors.closed_set_classes``). The texts of a prompt plan have no effect; its order and chunks have one if
``chunk_top_k`` is set.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from transformers import DeformableDetrForObjectDetection, DetrForObjectDetection

from ovd_bench.detectors.card import DetectorCard
from ovd_bench.detectors.class_columns import ClassColumns, class_columns
from ovd_bench.detectors.image_tensors import from_unit_square, groups, resized, shorter_side_size
from ovd_bench.detectors.interface import DetectorSettings
from ovd_bench.detectors.prompts import PromptPlan
from ovd_bench.detectors.selection import Floats, best_pairs_of_chunks, detections
from ovd_bench.detectors.transformers_loading import LoadedModel, load_model
from ovd_bench.detectors.types import Detections, DetectorError, Image, Vocabulary

_MODELS: dict[str, tuple[type[Any], str]] = {
    "detr": (DetrForObjectDetection, "detr"),
    "deformable-detr": (DeformableDetrForObjectDetection, "deformable_detr"),
}


def load(card: DetectorCard, settings: DetectorSettings) -> ClosedSetDetector:
    """Load DETR (family ``detr``) or Deformable DETR (family ``deformable-detr``).

    Raises:
        DetectorError: see ``detectors.transformers_loading.load_model``; a list of classes with gaps in its numbers.
    """
    model_class, model_type = _MODELS[card.family]
    return ClosedSetDetector(load_model(card, settings, model_class, model_type=model_type), settings)


@dataclass(frozen=True)
class ClosedSetOutput:
    """Output of the network for a batch (B images, n boxes, C classes).

    Attributes:
        scores: float32 (B, C, n), 0 … 1.
        boxes_cxcywh: float32 (B, n, 4), relative to the image.
    """

    scores: torch.Tensor
    boxes_cxcywh: torch.Tensor


class ClosedSetDetector:
    """DETR or Deformable DETR.

    The score of a class is its probability: of DETR by the softmax over classes and "no object", of Deformable DETR by
    the sigmoid. All pairs of a box and a class compete; the post-processing of DETR keeps one class per box instead.
    """

    def __init__(self, loaded: LoadedModel, settings: DetectorSettings) -> None:
        self._loaded, self._settings, self._model = loaded, settings, loaded.module
        preprocessing = loaded.preprocessing()
        shorter, longest = preprocessing.edges("shortest_edge", "longest_edge")
        self._preprocessing = preprocessing
        self._shorter = settings.image_size or shorter
        self._longest = max(round(longest * self._shorter / shorter), self._shorter)
        labels: dict[int, str] = self._model.config.id2label
        if sorted(labels) != list(range(len(labels))):
            raise DetectorError(f"{loaded.directory / 'config.json'}: id2label must number all classes from 0 on")
        self._classes = tuple(labels[column] for column in range(len(labels)))
        self._card = loaded.card
        self._asked: ClassColumns | None = None

    @property
    def card(self) -> DetectorCard:
        """With weights, sha256, parameters, and notes on which categories have a class."""
        return self._card

    @property
    def classes(self) -> tuple[str, ...]:
        """Names of the detector's own classes by position, "N/A" where a number has none."""
        return self._classes

    def set_vocabulary(self, vocabulary: Vocabulary, plan: PromptPlan) -> None:
        """Find the class of each category; ``card`` then notes which have none and which classes stay unused.

        Raises:
            DetectorError: several templates: there is no text that could be averaged.
        """
        asked = class_columns(self._card.name, vocabulary, plan, self._classes)
        self._card = dataclasses.replace(self._loaded.card, notes=(*self._loaded.card.notes, *asked.notes))
        self._asked = asked

    def detect(self, images: Sequence[Image]) -> list[Detections]:
        """See ``detectors.interface.Detector``."""
        if self._asked is None:
            raise DetectorError(f"detector '{self._card.name}': no vocabulary was set")
        found: dict[int, Detections] = {}
        for group in groups([self.network_size(image) for image in images]):
            output = self.predict(torch.stack([self.prepare(images[position]) for position in group]))
            arrays = output.scores.cpu().numpy(), output.boxes_cxcywh.cpu().numpy()
            for position, scores, boxes in zip(group, *arrays, strict=True):
                found[position] = self._detections(images[position], scores, boxes, self._asked)
        return [found[position] for position in range(len(images))]

    def network_size(self, image: Image) -> tuple[int, int]:
        """Height and width of the network's input."""
        return shorter_side_size(image, self._shorter, self._longest)

    def prepare(self, image: Image) -> torch.Tensor:
        """Network input of one image: float32 (3, height, width)."""
        return self._preprocessing.normalise(torch.from_numpy(resized(image, *self.network_size(image))))

    def predict(self, pixels: torch.Tensor) -> ClosedSetOutput:
        """Scores of all classes, and boxes, of prepared images of one size (B, 3, height, width)."""
        with self._loaded.inference():
            output = self._model(pixels.to(self._loaded.device))
        logits = output.logits.float()
        scores = logits.softmax(-1)[..., :-1] if self._card.family == "detr" else logits.sigmoid()
        return ClosedSetOutput(scores.transpose(1, 2), output.pred_boxes.float())

    def _detections(self, image: Image, scores: Floats, boxes: Floats, asked: ClassColumns) -> Detections:
        of_known = scores[list(asked.columns)]
        pairs = best_pairs_of_chunks(of_known, asked.chunks, self._settings.top_k, self._settings.chunk_top_k)
        return detections(image, pairs, from_unit_square(boxes, image), asked.category_ids)
