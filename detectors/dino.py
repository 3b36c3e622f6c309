"""DINO in Jittor (``grounding_dino_jt.dino``): the layers of Grounding DINO with the classes of COCO and no text.

A vocabulary is mapped onto the classes by name (``detectors.closed_set_classes``). All pairs of a query and a class
compete, as in the official post-processing (``models/dino/dino.py``, PostProcess).
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from ovd_bench.detectors.card import DetectorCard
from ovd_bench.detectors.class_columns import ClassColumns, class_columns
from ovd_bench.detectors.coco_classes import COCO_CLASSES
from ovd_bench.detectors.hub import keyed_notes, keyed_sha256
from ovd_bench.detectors.image_tensors import from_unit_square, resized, shorter_side_size
from ovd_bench.detectors.interface import DetectorSettings
from ovd_bench.detectors.prompts import PromptPlan
from ovd_bench.detectors.selection import best_pairs_of_chunks, detections
from ovd_bench.detectors.sigmoid import sigmoid
from ovd_bench.detectors.types import Detections, DetectorError, Image, Vocabulary
from ovd_bench.grounding_dino_jt.device import use_device
from ovd_bench.grounding_dino_jt.dino.config import RESNET50_4SCALE, RESNET50_5SCALE, SWIN_L_4SCALE, SWIN_L_5SCALE
from ovd_bench.grounding_dino_jt.dino.flops import dino_flops
from ovd_bench.grounding_dino_jt.dino.weights import parameter_count

if TYPE_CHECKING:  # Jittor's device is chosen before anything imports Jittor
    from ovd_bench.grounding_dino_jt.dino.load import DinoPredictor

#: What a card promises.
_CONFIGS = {
    "dino-resnet-50-4scale": RESNET50_4SCALE,
    "dino-resnet-50-5scale": RESNET50_5SCALE,
    "dino-swin-large-4scale": SWIN_L_4SCALE,
    "dino-swin-large-5scale": SWIN_L_5SCALE,
}


def load(card: DetectorCard, settings: DetectorSettings) -> DinoDetector:
    """Load an official ``.pth`` or the suite's safetensors.

    Raises:
        DetectorError: no weights named, no such file, weights that do not fit the card or have other classes than
            COCO's, a device or precision that is not there.
    """
    source = settings.weights or card.weights
    if not source:
        raise DetectorError(f"detector '{card.name}' names no weights: give --weights FILE.pth, see {card.url}")
    if settings.dtype != "float32" and settings.device == "cpu":
        raise DetectorError(
            f"detector '{card.name}': {settings.dtype} needs a CUDA device; the CPU computes in float32"
        )
    try:
        use_device(settings.device)
        from ovd_bench.grounding_dino_jt.dino.load import load as load_model
        from ovd_bench.grounding_dino_jt.precision import set_precision

        model = load_model(Path(source), settings.weights_key)
        if settings.dtype != "float32":
            set_precision(model.network, settings.dtype)
    except (ValueError, RuntimeError) as error:
        raise DetectorError(str(error)) from error
    if card.name in _CONFIGS and model.config != _CONFIGS[card.name]:
        raise DetectorError(
            f"{source}: is a DINO of another size than '{card.name}': choose the detector of these weights"
        )
    if model.config.num_classes != len(COCO_CLASSES):
        raise DetectorError(f"{source}: has {model.config.num_classes} classes, expected COCO's {len(COCO_CLASSES)}")
    parameters = parameter_count(model.config)
    filled = dataclasses.replace(
        card,
        weights=source,
        weights_sha256=keyed_sha256(model.weights_sha256, settings.weights_key),
        parameters=parameters,
        notes=(*card.notes, *keyed_notes(settings.weights_key)),
    )
    return DinoDetector(filled, model, settings)


class DinoDetector:
    """DINO in Jittor. Images go through the network one by one, for padding would leak into its GroupNorms.

    Args:
        card: what it is.
        model: the network.
        settings: sizes and limits.
    """

    def __init__(self, card: DetectorCard, model: DinoPredictor, settings: DetectorSettings) -> None:
        self._model, self._settings, self._plain_card, self._card = model, settings, card, card
        config = model.config
        self._shorter = settings.image_size or config.image_size
        self._longest = max(round(config.image_longest * self._shorter / config.image_size), self._shorter)
        self._asked: ClassColumns | None = None

    @property
    def card(self) -> DetectorCard:
        """With weights, sha256, parameters, and notes on which categories have a class."""
        return self._card

    def set_vocabulary(self, vocabulary: Vocabulary, plan: PromptPlan) -> None:
        """Find the class of each category; ``card`` then notes which have none and which classes stay unused."""
        self._asked = class_columns(self._plain_card.name, vocabulary, plan, COCO_CLASSES)
        self._card = dataclasses.replace(self._plain_card, notes=(*self._plain_card.notes, *self._asked.notes))

    def detect(self, images: Sequence[Image]) -> list[Detections]:
        """See ``detectors.interface.Detector``; a category without a class gets no box."""
        if self._asked is None:
            raise DetectorError(f"detector '{self._card.name}': no vocabulary was set")
        return [self._detect(image, self._asked) for image in images]

    def network_size(self, image: Image) -> tuple[int, int]:
        """Height and width that the network sees."""
        return shorter_side_size(image, self._shorter, self._longest)

    def flops(self, image: Image) -> int:
        """Operations of ``detect`` on one image; see ``detectors.interface.CountsFlops``."""
        return dino_flops(self._model.config, *self.network_size(image))

    def _detect(self, image: Image, asked: ClassColumns) -> Detections:
        output = self._model(resized(image, *self.network_size(image))[None])
        logits, boxes = output.pred_logits.numpy()[0], output.pred_boxes.numpy()[0]
        scores = sigmoid(logits.reshape(1, -1)).reshape(logits.shape).T[list(asked.columns)]
        pairs = best_pairs_of_chunks(scores, asked.chunks, self._settings.top_k, self._settings.chunk_top_k)
        return detections(image, pairs, from_unit_square(boxes, image), asked.category_ids)
