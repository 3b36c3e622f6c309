"""Adapter of the contestants of a controlled study (``baselines.controlled``)."""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from ovd_bench.baselines.controlled.captions import Captions
from ovd_bench.baselines.controlled.config import ContestantConfig
from ovd_bench.baselines.controlled.models import Model, caption_encoder, normalised
from ovd_bench.baselines.controlled.weights import load_weights
from ovd_bench.baselines.text import packaged_encoder
from ovd_bench.detectors.captions import Caption, caption_of_names, tokenize_names
from ovd_bench.detectors.card import DetectorCard, TrainingData
from ovd_bench.detectors.class_vectors import ClassVectors
from ovd_bench.detectors.image_tensors import resized, shorter_side_size
from ovd_bench.detectors.interface import DetectorSettings
from ovd_bench.detectors.last_image import LastImage
from ovd_bench.detectors.prompts import PromptPlan
from ovd_bench.detectors.selection import ChunkedChoice, best_pairs_of_chunks, detections
from ovd_bench.detectors.shipped import check_sum, shipped_file
from ovd_bench.detectors.suppression import NMS_IOU, NO_SUPPRESSION, NOTHING, without_duplicates
from ovd_bench.detectors.types import Detections, DetectorError, Image, Vocabulary
from ovd_bench.grounding_dino_jt.tokenizer import packaged_tokenizer


def load(card: DetectorCard, settings: DetectorSettings) -> ContestantDetector:
    """Load the weights of the settings, else those of the card.

    Raises:
        DetectorError: no weights named, no such file, another sha256 than the card's, no weights file of a contestant.
    """
    if settings.device == "cpu":
        torch.set_num_threads(1)  # its layers, like those of owl-nano, are too small for several threads
    source = settings.weights or card.weights
    if not source:
        raise DetectorError(f"detector '{card.name}': name the weights of a training with --weights")
    path = shipped_file(source) or Path(source)
    try:
        model, about = load_weights(path)
    except ValueError as error:
        raise DetectorError(str(error)) from error
    sha256 = hashlib.sha256(path.read_bytes()).hexdigest()
    if settings.weights is None:
        check_sum(card, path, sha256)
    parameters = sum(parameter.numel() for parameter in model.parameters())
    data = card.training_data if settings.weights is None else _training_data(card, about.training)
    card = dataclasses.replace(card, weights=source, weights_sha256=sha256, parameters=parameters, training_data=data)
    return ContestantDetector(card, model, about.config, settings)


def _training_data(card: DetectorCard, training: dict[str, Any]) -> tuple[TrainingData, ...] | None:
    """Training data of the card, and the files named in the weights; None = the weights name none."""
    sources = training.get("sources")
    try:
        named = [(str(source["name"]), str(source["sha256"])[:12]) for source in sources or ()]
    except (TypeError, KeyError):
        named = []
    if not named:
        return None
    return (*(card.training_data or ()), *(TrainingData(name, note=f"sha256 {sha256}") for name, sha256 in named))


class ContestantDetector:
    """A contestant of a controlled study.

    The image is resized as for Grounding DINO. ``glip`` reads the classes of a chunk as one caption. The others are
    asked for all at once, whatever the chunks of the plan: of ``owl`` classes do not see each other, and regions are
    shared out among the whole vocabulary, as CLIP does. Duplicates within a class are removed by NMS with the overlap
    that the settings name, else the weights, else as is usual: as in ``owl-nano`` where several places learn an object.

    Args:
        card: what it is.
        model: the network, float32.
        config: of the model.
        settings: device, sizes and limits.
    """

    def __init__(self, card: DetectorCard, model: Model, config: ContestantConfig, settings: DetectorSettings) -> None:
        if settings.dtype != "float32":
            raise DetectorError(f"detector '{card.name}': computes in float32, not in {settings.dtype}")
        if (
            config.kind != "owl" and "joint" not in card.capabilities
        ):  # because of fusion, or of a softmax over the vocabulary
            card = dataclasses.replace(card, capabilities=(*card.capabilities, "joint"))
        self._plain_card, self.card, self._settings = card, card, settings
        self._chunked = config.kind == "glip"
        self._nms_iou = settings.nms_iou or config.nms_iou or _usual_nms_iou(config)
        self._shorter = settings.image_size or config.image_size
        self._longest = max(round(config.image_longest * self._shorter / config.image_size), self._shorter)
        try:
            self._model = model.to(settings.device)
        except (RuntimeError, AssertionError) as error:
            reason = str(error).splitlines()[0][:200]
            raise DetectorError(f"detector '{card.name}': device '{settings.device}': {reason}") from error
        self._encoder = caption_encoder(self._model, config, packaged_encoder())
        self._captions: list[Captions] = []
        self._ids: list[int] = []
        self._chunks: list[range] = []
        self._seen = LastImage(self._see)

    def set_vocabulary(self, vocabulary: Vocabulary, plan: PromptPlan) -> None:
        """Encode the names.

        Raises:
            DetectorError: several templates, or a name without words.
        """
        if len(plan.templates) > 1:
            raise DetectorError(
                f"detector '{self.card.name}': prompt plan '{plan.name}' has {len(plan.templates)} templates; "
                "it does not average templates: give at most one"
            )
        order = plan.rows(vocabulary)
        tokenize = packaged_tokenizer().words
        names = tokenize_names(tokenize, [plan.fill(vocabulary.names[row])[0] for row in order])
        self._chunks = plan.chunks(len(order), [len(ids) + 1 for ids in names.ids], overhead=2)
        together = self._chunks if self._chunked else [range(len(order))]
        self._captions = [self._encoded(caption_of_names(names.ids[chunk.start : chunk.stop])) for chunk in together]
        self._ids = [vocabulary.ids[row] for row in order]
        self.card = dataclasses.replace(self._plain_card, notes=(*self._plain_card.notes, *names.notes))

    def class_vectors(self) -> ClassVectors:
        """See ``detectors.interface.TextDetector``: projected names."""
        if not self._captions:
            raise DetectorError(f"detector '{self.card.name}': no vocabulary was set")
        with torch.inference_mode():
            rows = torch.cat([self._model.named(captions)[0] for captions in self._captions])
        return dict(zip(self._ids, rows.cpu().numpy(), strict=True))

    def detect(self, images: Sequence[Image]) -> list[Detections]:
        """See ``detectors.interface.Detector``."""
        if not self._captions:
            raise DetectorError(f"detector '{self.card.name}': no vocabulary was set")
        with torch.inference_mode():
            return [self._detect(image) for image in images]

    def _encoded(self, caption: Caption) -> Captions:
        ids = np.array([caption.ids], np.int32)
        return self._encoder(ids, np.ones(ids.shape, np.bool_)).to(self._settings.device)

    def _see(self, image: Image) -> tuple[Any, int, int]:
        """What depends only on the image, with height and width of the network's input."""
        height, width = shorter_side_size(image, self._shorter, self._longest)
        pixels = torch.from_numpy(resized(image, height, width))[None]
        return self._model.see(normalised(pixels.to(self._settings.device))), height, width

    def _detect(self, image: Image) -> Detections:
        seen, height, width = self._seen(image)
        found = [self._model.find(seen, captions) for captions in self._captions]
        boxes_of = [one.boxes_xyxy.cpu().numpy() for one in found]
        scores = [
            without_duplicates(one.scores.cpu().numpy(), boxes, self._nms_iou)
            for one, boxes in zip(found, boxes_of, strict=True)
        ]
        top_k, chunk_top_k = self._settings.top_k, self._settings.chunk_top_k
        if self._chunked:
            choice = ChunkedChoice(chunk_top_k or top_k)
            for values, boxes in zip(scores, boxes_of, strict=True):
                choice.add(values, boxes)
            pairs, boxes = choice.best(top_k)
        else:
            pairs, boxes = best_pairs_of_chunks(scores[0], self._chunks, top_k, chunk_top_k), boxes_of[0]
        pairs = pairs.above(NOTHING)
        frame = np.array([image.width, image.height] * 2, np.float32)
        scale = frame / np.array([width, height] * 2, np.float32)
        return detections(image, pairs, np.minimum(np.maximum(boxes * scale, np.float32(0)), frame), self._ids)


def _usual_nms_iou(config: ContestantConfig) -> float:
    """Where several places learn an object, there are duplicates; regions have no duplicates when they are named."""
    several = config.kind == "glip" or (config.kind == "owl" and config.assignment == "one_to_many")
    return NMS_IOU if several else NO_SUPPRESSION
