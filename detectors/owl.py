"""OWL-ViT and OWLv2 through transformers, by the rules of the published results.

The text is encoded once per vocabulary, the image once per image; the class head is one matrix product for any number
of classes. Preprocessing, prompts, ensembling and selection follow ``scenic/projects/owl_vit/evaluator.py``;
``docs/detectors.md`` lists the differences to the processors of transformers.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, cast

import torch
from torch import nn
from torch.nn import functional
from transformers import Owlv2ForObjectDetection, OwlViTForObjectDetection, PreTrainedTokenizerBase

from ovd_bench.detectors.card import DetectorCard
from ovd_bench.detectors.class_vectors import ClassVectors
from ovd_bench.detectors.image_tensors import float_pixels, from_padded_square
from ovd_bench.detectors.interface import DetectorSettings
from ovd_bench.detectors.last_image import LastImage
from ovd_bench.detectors.owl_prompts import CLIP_SAMPLE, OwlTexts, owl_texts
from ovd_bench.detectors.prompts import Ensemble, PromptPlan
from ovd_bench.detectors.selection import best_pairs_of_chunks, detections
from ovd_bench.detectors.transformers_loading import LoadedModel, load_model
from ovd_bench.detectors.types import Detections, DetectorError, Image, Vocabulary

_MODELS: dict[str, type[Any]] = {"owlvit": OwlViTForObjectDetection, "owlv2": Owlv2ForObjectDetection}

#: CLIP's, which scenic applies after padding, so that padding is black instead of grey.
_MEAN = (0.48145466, 0.4578275, 0.40821073)
_STD = (0.26862954, 0.26130258, 0.27577711)

#: Guard of the two normalisations in the class head.
_EPSILON = 1e-6
_PROMPTS_PER_BATCH = 256


def load(card: DetectorCard, settings: DetectorSettings) -> OwlDetector:
    """Load OWL-ViT (family ``owlvit``) or OWLv2 (family ``owlv2``).

    Raises:
        DetectorError: see ``detectors.transformers_loading.load_model``; an image size that is no multiple of a patch.
    """
    loaded = load_model(card, settings, _MODELS[card.family], model_type=card.family)
    return OwlDetector(loaded, settings)


@dataclass(frozen=True)
class OwlOutput:
    """Output of the network for a batch (B images, K classes, n boxes).

    Attributes:
        logits: float32 (B, K, n).
        boxes_cxcywh: float32 (B, n, 4), relative to the padded square.
    """

    logits: torch.Tensor
    boxes_cxcywh: torch.Tensor


@dataclass(frozen=True)
class _Queries:
    category_ids: tuple[int, ...]
    vectors: torch.Tensor  # float32 (K, d): factors of unit image vectors
    chunks: list[range]


class OwlDetector:
    """OWL-ViT or OWLv2; the objectness of OWLv2 is not used, as in its evaluation."""

    def __init__(self, loaded: LoadedModel, settings: DetectorSettings) -> None:
        vision = loaded.module.config.vision_config
        self._loaded, self._settings, self._model = loaded, settings, loaded.module
        self._side = int(settings.image_size or vision.image_size)
        if self._side % vision.patch_size:
            raise DetectorError(
                f"detector '{loaded.card.name}': image_size is {self._side}, not a multiple of {vision.patch_size}"
            )
        self._resized = self._side != vision.image_size
        self._tokenizer: PreTrainedTokenizerBase = loaded.tokenizer(*CLIP_SAMPLE)
        self._card = loaded.card
        self._queries: _Queries | None = None
        self._seen = LastImage(lambda image: self._grids([image]))

    @property
    def card(self) -> DetectorCard:
        """With weights, sha256, parameters, and notes on the vocabulary's prompts."""
        return self._card

    def set_vocabulary(self, vocabulary: Vocabulary, plan: PromptPlan) -> None:
        """Encode all prompts of all classes."""
        rows = plan.rows(vocabulary)
        names = [vocabulary.names[row] for row in rows]
        longest = int(self._model.config.text_config.max_position_embeddings)
        texts = owl_texts(self._tokenizer, [plan.fill(name) for name in names], longest)
        self._card = dataclasses.replace(self._loaded.card, notes=(*self._loaded.card.notes, *texts.notes))
        self._queries = _Queries(
            category_ids=tuple(vocabulary.ids[row] for row in rows),
            vectors=ensembled(self.text_vectors(texts), plan.ensemble),
            chunks=plan.chunks(len(rows)),
        )

    def text_vectors(self, texts: OwlTexts) -> torch.Tensor:
        """Unit vectors of the prompts, float32 (K, templates, d), as the class head normalises them.

        Every distinct prompt is encoded once, together with others of its length. Attention is causal and the vector is
        that of the end-of-text token, so tokens after it have no effect.
        """
        length = torch.tensor([len(ids) for ids in texts.distinct])
        order = torch.argsort(length, stable=True)
        vectors = torch.empty(len(order), int(self._model.config.projection_dim))
        for batch in order.split(_PROMPTS_PER_BATCH):
            rows = [texts.distinct[row] for row in batch.tolist()]
            ids = nn.utils.rnn.pad_sequence([torch.tensor(row) for row in rows], batch_first=True)
            with self._loaded.inference():
                encoded = self._base.get_text_features(input_ids=ids.to(self._loaded.device)).pooler_output
            vectors[batch] = _unit(_unit(encoded.float(), 0.0), _EPSILON).cpu()
        return vectors[torch.tensor(texts.rows)].to(self._loaded.device)

    def class_vectors(self) -> ClassVectors:
        """See ``detectors.interface.TextDetector``: vectors that unit image vectors are multiplied with."""
        queries = self._asked()
        return dict(zip(queries.category_ids, queries.vectors.float().cpu().numpy(), strict=True))

    def detect(self, images: Sequence[Image]) -> list[Detections]:
        """See ``detectors.interface.Detector``."""
        queries = self._asked()
        if not images:
            return []
        output = self._found(self._seen(images[0]) if len(images) == 1 else self._grids(images))
        found = []
        for image, logits, boxes in zip(images, output.logits, output.boxes_cxcywh, strict=True):
            top_k, chunk_top_k = self._settings.top_k, self._settings.chunk_top_k
            pairs = best_pairs_of_chunks(logits.cpu().numpy(), queries.chunks, top_k, chunk_top_k)
            scores = torch.from_numpy(pairs.scores).to(logits.device).sigmoid()
            pairs = dataclasses.replace(pairs, scores=scores.cpu().numpy())
            corners = from_padded_square(boxes.cpu().numpy(), image)
            found.append(detections(image, pairs, corners, queries.category_ids))
        return found

    def prepare(self, image: Image) -> torch.Tensor:
        """Network input of one image: float32 (3, side, side)."""
        mean, std = (torch.tensor(values).view(3, 1, 1) for values in (_MEAN, _STD))
        return (_padded_square(image, self._side) - mean) / std

    def predict(self, pixels: torch.Tensor) -> OwlOutput:
        """Class logits and boxes of prepared images (B, 3, side, side); the heads are computed in float32."""
        return self._found(self._embedded(pixels))

    def _grids(self, images: Sequence[Image]) -> torch.Tensor:
        return self._embedded(torch.stack([self.prepare(image) for image in images]))

    def _embedded(self, pixels: torch.Tensor) -> torch.Tensor:
        with self._loaded.inference():
            grid, _ = self._model.image_embedder(pixels.to(self._loaded.device), self._resized)
        return cast(torch.Tensor, grid)

    def _found(self, grid: torch.Tensor) -> OwlOutput:
        queries, head = self._asked(), self._model.class_head
        with torch.inference_mode():
            grid = grid.float()
            features = grid.flatten(1, 2)
            boxes = self._model.box_predictor(features, grid, self._resized)
            shift = head.logit_shift(features).transpose(1, 2)
            scale = head.elu(head.logit_scale(features)).transpose(1, 2) + 1
            cosines = queries.vectors @ _unit(head.dense0(features), _EPSILON).transpose(1, 2)
            return OwlOutput((cosines + shift) * scale, boxes)

    def _asked(self) -> _Queries:
        if self._queries is None:
            raise DetectorError(f"detector '{self._card.name}': no vocabulary was set")
        return self._queries

    @property
    def _base(self) -> Any:
        return self._model.owlvit if self._card.family == "owlvit" else self._model.owlv2


def ensembled(vectors: torch.Tensor, rule: Ensemble) -> torch.Tensor:
    """One vector per class from its templates' unit vectors (K, templates, d).

    A logit is ``(image · text + shift) * scale`` with shift and scale of the box, hence affine in the text vector: the
    mean of the logits over templates (``logits``) is the logit of the mean vector, which is therefore *not* normalised
    again. ``embeddings`` normalises it.
    """
    mean = vectors.mean(dim=1)
    return mean if rule == "logits" else _unit(mean, _EPSILON)


def _unit(vectors: torch.Tensor, epsilon: float) -> torch.Tensor:
    return vectors / (torch.linalg.norm(vectors, dim=-1, keepdim=True) + epsilon)


def _padded_square(image: Image, side: int) -> torch.Tensor:
    """The image in the upper left of a black square: float32 (3, side, side), 0 … 1.

    The longer side becomes ``side``; bilinear without antialias, then zeros on the right and at the bottom, as
    ``ResizeWithPad`` in the evaluation of OWL-ViT (``scenic/projects/owl_vit/preprocessing/image_ops.py``).
    """
    longest = max(image.height, image.width)
    height, width = (max(edge * side // longest, 1) for edge in (image.height, image.width))
    pixels = torch.from_numpy(float_pixels(image))[None] / 255
    small = functional.interpolate(pixels, (height, width), mode="bilinear", align_corners=False)[0]
    return functional.pad(small, (0, side - width, 0, side - height))
