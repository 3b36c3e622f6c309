"""Adapter of ``owl-nano`` (``baselines.owl_nano``): pixels and class names in, boxes of the original image out."""

from __future__ import annotations

import dataclasses
import hashlib
import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image as Pillow
from torch import Tensor

from ovd_bench.baselines.owl_nano.model import OwlNano, normalize
from ovd_bench.baselines.owl_nano.weights import load_weights
from ovd_bench.baselines.text import packaged_encoder
from ovd_bench.detectors.card import DetectorCard
from ovd_bench.detectors.class_vectors import ClassVectors
from ovd_bench.detectors.interface import DetectorSettings
from ovd_bench.detectors.last_image import LastImage
from ovd_bench.detectors.prompts import PromptPlan
from ovd_bench.detectors.selection import best_pairs_of_chunks, detections
from ovd_bench.detectors.shipped import check_sum, shipped_file
from ovd_bench.detectors.suppression import NMS_IOU, NO_SUPPRESSION, NOTHING, without_duplicates
from ovd_bench.detectors.types import Detections, DetectorError, Image, Vocabulary

#: Longer side of the network's input, pixels.
IMAGE_SIZE = 192
_SIZE_LIMIT = 4096


def load(card: DetectorCard, settings: DetectorSettings) -> OwlNanoDetector:
    """Load the weights of the settings, else those of the card.

    Raises:
        DetectorError: no such file, another sha256 than the card's, not a weights file of owl-nano.
    """
    if settings.device == "cpu":
        # Its layers are too small for several threads: an image takes 25 ms with one thread, 40 with two on an idle
        # machine of two processors, and a whole second if another process runs, since the threads wait for each other.
        torch.set_num_threads(1)
    source = settings.weights or card.weights
    path = shipped_file(source) or Path(source)
    try:
        model, about = load_weights(path)
    except ValueError as error:
        raise DetectorError(str(error)) from error
    sha256 = hashlib.sha256(path.read_bytes()).hexdigest()
    if settings.weights is None:
        check_sum(card, path, sha256)
    card = dataclasses.replace(card, weights=source, weights_sha256=sha256, parameters=count_parameters(model))
    return OwlNanoDetector(card, model, about.classes, settings)


def count_parameters(model: OwlNano) -> int:
    """Number of trained scalars."""
    return sum(parameter.numel() for parameter in model.parameters())


class OwlNanoDetector:
    """A detector whose classes do not see each other: chunks change nothing but ``chunk_top_k``.

    The image keeps its aspect, its longer side becomes ``image_size``, and grey is added at the bottom and on the
    right up to a square. Images go through the network one by one, so company cannot change a bit.

    The score of a class at a cell is its probability; with the IoU branch (one-to-many assignment), the product of
    probability and expected IoU, and duplicates within a class are removed by NMS unless the settings say otherwise.

    Args:
        card: what it is.
        model: the network, float32.
        classes: names of the learned class vectors; empty with text.
        settings: device, dtype, sizes and limits.
    """

    def __init__(self, card: DetectorCard, model: OwlNano, classes: Sequence[str], settings: DetectorSettings) -> None:
        self.card = card
        self._settings = settings
        self._size = settings.image_size or IMAGE_SIZE
        if self._size > _SIZE_LIMIT:
            raise DetectorError(f"detector '{card.name}': image size {self._size}, expected at most {_SIZE_LIMIT}")
        self._dtype: torch.dtype = getattr(torch, settings.dtype)
        try:
            self._model = model.to(settings.device, self._dtype)
        except (RuntimeError, AssertionError) as error:
            reason = str(error).splitlines()[0][:200]
            raise DetectorError(f"detector '{card.name}': device '{settings.device}': {reason}") from error
        self._learned = {name: row for row, name in enumerate(classes)}
        self._queries: Tensor | None = None
        self._ids: list[int] = []
        self._chunks: list[range] = []
        self._prompts = 1
        self._unknown: tuple[str, ...] = ()
        self._seen = LastImage(self._see)

    @property
    def unknown_classes(self) -> tuple[str, ...]:
        """Names of the vocabulary that a detector with learned classes does not know and never reports."""
        return self._unknown

    def set_vocabulary(self, vocabulary: Vocabulary, plan: PromptPlan) -> None:
        """Encode the text once; with learned classes, find the class vector of each cleaned name.

        Raises:
            DetectorError: templates for a detector with learned classes, which has no text.
        """
        if self._learned and plan.templates != ("{}",):
            raise DetectorError(
                f"detector '{self.card.name}' reads no text, so it has no templates: use the plan 'names'"
            )
        order = plan.rows(vocabulary)
        self._chunks = plan.chunks(len(order))
        self._ids = [vocabulary.ids[row] for row in order]
        names = [vocabulary.names[row] for row in order]
        with torch.inference_mode():
            if self._learned:
                self._queries = self._learned_queries([plan.clean(name) for name in names])
            else:
                self._queries = self._text_queries([plan.fill(name) for name in names], plan)

    def class_vectors(self) -> ClassVectors:
        """See ``detectors.interface.TextDetector``: projected names, of several prompts their mean."""
        if self._queries is None:
            raise DetectorError(f"detector '{self.card.name}': call set_vocabulary before class_vectors")
        if self._learned:
            return {}
        means = self._queries.float().view(len(self._ids), self._prompts, -1).mean(1)
        return dict(zip(self._ids, means.cpu().numpy(), strict=True))

    def detect(self, images: Sequence[Image]) -> list[Detections]:
        """Boxes of each image, best first.

        Raises:
            DetectorError: no vocabulary was set.
        """
        if self._queries is None:
            raise DetectorError(f"detector '{self.card.name}': call set_vocabulary before detect")
        with torch.inference_mode():
            return [self._detect(image, self._queries) for image in images]

    def _text_queries(self, prompts: list[list[str]], plan: PromptPlan) -> Tensor:
        """Class vectors, (K * prompts, embedding)."""
        flat = [prompt for group in prompts for prompt in group]
        vectors = torch.from_numpy(packaged_encoder().encode(flat))
        self._prompts = len(plan.templates)
        if plan.ensemble == "embeddings":
            mean = vectors.view(len(prompts), self._prompts, -1).mean(1)
            vectors, self._prompts = torch.nn.functional.normalize(mean, dim=-1), 1
        return self._model.queries(vectors.to(self._settings.device, self._dtype))

    def _learned_queries(self, names: list[str]) -> Tensor:
        """Class vectors, (K, embedding); zeros for names that the model does not know."""
        rows = [self._learned.get(name, -1) for name in names]
        self._unknown = tuple(name for name, row in zip(names, rows, strict=True) if row < 0)
        vectors = self._model.queries(None)
        known = torch.tensor(rows, device=vectors.device)
        return torch.where((known >= 0)[:, None], vectors[known.clamp(min=0)], 0.0)

    def _see(self, image: Image) -> tuple[Tensor, tuple[float, float]]:
        """What depends only on the image, and the factors by which x and y grew."""
        pixels, scale = fit(image.pixels, self._size, self._model.config.multiple)
        batch = normalize(torch.from_numpy(pixels[None]).to(self._settings.device)).to(self._dtype)
        return self._model.see(batch), scale

    def _detect(self, image: Image, queries: Tensor) -> Detections:
        tokens, scale = self._seen(image)
        output = self._model.find(tokens, queries)
        scores = output.logits[0].float().unflatten(1, (-1, self._prompts)).mean(-1).sigmoid().T  # (K, N)
        boxes = output.boxes_xyxy[0].float().cpu().numpy()
        usual = NO_SUPPRESSION
        if output.quality is not None:
            scores, usual = scores * output.quality[0].float().sigmoid(), NMS_IOU
        kept = without_duplicates(scores.cpu().numpy(), boxes, self._settings.nms_iou or usual)
        if self._learned:
            kept = np.where(queries.any(dim=1, keepdim=True).cpu().numpy(), kept, np.float32(NOTHING))
        pairs = best_pairs_of_chunks(kept, self._chunks, self._settings.top_k, self._settings.chunk_top_k)
        pairs = pairs.above(NOTHING)
        frame = np.array([image.width, image.height] * 2, np.float32)
        corners = np.maximum(boxes / np.array(scale * 2, np.float32), np.float32(0))
        return detections(image, pairs, np.minimum(corners, frame), self._ids)


def fit(pixels: npt.NDArray[np.uint8], size: int, multiple: int) -> tuple[npt.NDArray[np.uint8], tuple[float, float]]:
    """An image on a grey square: longer side ``size``, the square's side the next multiple of ``multiple``.

    Args:
        pixels: uint8 (H, W, 3).
        size: longer side of the image, pixels.
        multiple: what the network needs.

    Returns:
        uint8 (S, S, 3), and the factors by which x and y grew.
    """
    height, width = pixels.shape[:2]
    factor = size / max(height, width)
    new_width, new_height = max(1, round(width * factor)), max(1, round(height * factor))
    if (new_width, new_height) != (width, height):
        resized = Pillow.fromarray(pixels).resize((new_width, new_height), Pillow.Resampling.BILINEAR)
        pixels = np.asarray(resized)
    side = math.ceil(size / multiple) * multiple
    square = np.full((side, side, 3), 127, np.uint8)
    square[:new_height, :new_width] = pixels
    return square, (new_width / width, new_height / height)
