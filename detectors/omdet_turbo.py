"""OmDet-Turbo through transformers.

Backbone and encoder run once per image and do not depend on the text. Class embeddings, one per class, are computed
once per vocabulary. The decoder runs once per image and chunk of classes, because two things in it depend on all
classes of the chunk: the task text "Detect a, b, c.", whose tokens take part in the self-attention of the queries, and
the selection of the initial queries, the positions most similar to *any* class of the chunk. Scores of one class
therefore depend on the other classes, and chunks are part of the protocol.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from typing import cast

import torch
from transformers import OmDetTurboForObjectDetection

from ovd_bench.detectors.card import DetectorCard
from ovd_bench.detectors.class_vectors import ClassVectors
from ovd_bench.detectors.image_tensors import from_unit_square, resized
from ovd_bench.detectors.interface import DetectorSettings
from ovd_bench.detectors.last_image import LastImage
from ovd_bench.detectors.owl_prompts import CLIP_SAMPLE
from ovd_bench.detectors.prompts import PromptPlan
from ovd_bench.detectors.selection import ChunkedChoice, detections
from ovd_bench.detectors.transformers_loading import LoadedModel, load_model
from ovd_bench.detectors.types import Detections, DetectorError, Image, Vocabulary

_PROMPTS_PER_BATCH = 256


def load(card: DetectorCard, settings: DetectorSettings) -> OmDetTurboDetector:
    """Load OmDet-Turbo.

    Raises:
        DetectorError: see ``detectors.transformers_loading.load_model``; an image size other than the model's own.
    """
    return OmDetTurboDetector(
        load_model(card, settings, OmDetTurboForObjectDetection, model_type="omdet-turbo"), settings
    )


@dataclass(frozen=True)
class ChunkTexts:
    """Text side of one chunk (k classes, t task tokens).

    Attributes:
        classes: float32 (k, e), class embeddings.
        task: (t, w), output of the text encoder for the task's tokens.
    """

    classes: torch.Tensor
    task: torch.Tensor


@dataclass(frozen=True)
class OmDetOutput:
    """Output of the network for a batch and a chunk (B images, Q queries, k classes).

    Attributes:
        logits: float32 (B, Q, k).
        boxes_cxcywh: float32 (B, Q, 4), relative to the image.
    """

    logits: torch.Tensor
    boxes_cxcywh: torch.Tensor


@dataclass(frozen=True)
class _Queries:
    category_ids: tuple[int, ...]
    chunks: list[ChunkTexts]


class OmDetTurboDetector:
    """OmDet-Turbo in PyTorch."""

    def __init__(self, loaded: LoadedModel, settings: DetectorSettings) -> None:
        self._loaded, self._settings = loaded, settings
        self._model = loaded.module
        self._preprocessing = loaded.preprocessing()
        self._size = self._preprocessing.edges("height", "width")
        if settings.image_size not in (None, self._size[0]):
            raise DetectorError(
                f"detector '{loaded.card.name}': image_size is {settings.image_size}, "
                f"its network is built for {self._size[0]}"
            )
        self._tokenizer = loaded.tokenizer(*CLIP_SAMPLE)
        self._longest = int(self._model.config.text_config.max_position_embeddings)
        self._queries: _Queries | None = None
        self._seen = LastImage(lambda image: self._features([image]))

    @property
    def card(self) -> DetectorCard:
        """With weights, sha256 and parameters."""
        return self._loaded.card

    def set_vocabulary(self, vocabulary: Vocabulary, plan: PromptPlan) -> None:
        """Encode classes and tasks.

        Classes are split into chunks whose task fits the text encoder; the library truncates the task's text instead.
        """
        if len(plan.templates) > 1:
            raise DetectorError(
                f"detector '{self.card.name}': prompt plan '{plan.name}' has {len(plan.templates)} templates; "
                "classes share a task: give at most one"
            )
        rows = plan.rows(vocabulary)
        prompts = [plan.fill(vocabulary.names[row])[0] for row in rows]
        chunks = self._chunks(prompts, plan)
        classes = self.class_embeddings(prompts)
        texts = [
            ChunkTexts(classes[chunk.start : chunk.stop], self.task_features(prompts[chunk.start : chunk.stop]))
            for chunk in chunks
        ]
        self._queries = _Queries(tuple(vocabulary.ids[row] for row in rows), texts)

    def class_vectors(self) -> ClassVectors:
        """See ``detectors.interface.TextDetector``: the class embeddings."""
        if self._queries is None:
            raise DetectorError(f"detector '{self.card.name}': no vocabulary was set")
        vectors = torch.cat([chunk.classes for chunk in self._queries.chunks]).float().cpu().numpy()
        return dict(zip(self._queries.category_ids, vectors, strict=True))

    def detect(self, images: Sequence[Image]) -> list[Detections]:
        """See ``detectors.interface.Detector``."""
        if self._queries is None:
            raise DetectorError(f"detector '{self.card.name}': no vocabulary was set")
        if not images:
            return []
        features = self._seen(images[0]) if len(images) == 1 else self._features(images)
        choices = [ChunkedChoice(self._settings.chunk_top_k or self._settings.top_k) for _ in images]
        for texts in self._queries.chunks:
            output = self.predict(features, texts)
            for choice, logits, boxes in zip(choices, output.logits, output.boxes_cxcywh, strict=True):
                choice.add(logits.sigmoid().T.cpu().numpy(), boxes.cpu().numpy())
        found = []
        for image, choice in zip(images, choices, strict=True):
            pairs, boxes = choice.best(self._settings.top_k)
            found.append(detections(image, pairs, from_unit_square(boxes, image), self._queries.category_ids))
        return found

    def _features(self, images: Sequence[Image]) -> tuple[torch.Tensor, ...]:
        return self.image_features(torch.stack([self.prepare(image) for image in images]))

    def prepare(self, image: Image) -> torch.Tensor:
        """Network input of one image, squashed to the network's size: float32 (3, height, width)."""
        return self._preprocessing.normalise(torch.from_numpy(resized(image, *self._size)))

    def class_embeddings(self, prompts: Sequence[str]) -> torch.Tensor:
        """Float32 (classes, e); attention is causal, so padding after the text has no effect."""
        found = []
        for begin in range(0, len(prompts), _PROMPTS_PER_BATCH):
            batch = list(prompts[begin : begin + _PROMPTS_PER_BATCH])
            ids = self._tokenizer(batch, padding=True, return_tensors="pt").input_ids.to(self._loaded.device)
            with self._loaded.inference():
                found.append(self._model.language_backbone(ids, encode_type="class").float())
        return torch.cat(found)

    def task_features(self, prompts: Sequence[str]) -> torch.Tensor:
        """Features (t, w) of the task for the given classes."""
        ids = torch.tensor([self._tokenizer(task_text(prompts)).input_ids], device=self._loaded.device)
        if ids.shape[1] > self._longest:
            raise DetectorError(
                f"detector '{self.card.name}': a task has {ids.shape[1]} tokens of {self._longest}: use a smaller "
                "token_budget"
            )
        with self._loaded.inference():
            features, _ = self._model.language_backbone(ids, mask=torch.ones_like(ids), encode_type="task")
        return cast(torch.Tensor, features[:, 0])

    def image_features(self, pixels: torch.Tensor) -> tuple[torch.Tensor, ...]:
        """Encoder levels of prepared images (B, 3, height, width)."""
        with self._loaded.inference():
            levels = self._model.vision_backbone(pixels.to(self._loaded.device))
            return tuple(self._model.encoder(levels, return_dict=True).extracted_states)

    def predict(self, levels: tuple[torch.Tensor, ...], texts: ChunkTexts) -> OmDetOutput:
        """Run the decoder for one chunk of classes."""
        batch = len(levels[0])
        with self._loaded.inference():
            output = self._model.decoder(
                levels,
                texts.classes[:, None].expand(-1, batch, -1),
                texts.task[:, None].expand(-1, batch, -1),
                torch.ones(batch, len(texts.task), dtype=torch.int64, device=self._loaded.device),
                return_dict=True,
            )
        return OmDetOutput(output.decoder_classes[-1].float(), output.decoder_coords[-1].float())

    def _chunks(self, prompts: Sequence[str], plan: PromptPlan) -> list[range]:
        """Chunks whose task fits both the plan's budget and the text encoder."""
        frame = len(self._tokenizer(task_text([])).input_ids)
        counts = [len(ids) - 2 for ids in self._tokenizer([f"{prompt}," for prompt in prompts]).input_ids]
        budget = dataclasses.replace(plan, token_budget=min(plan.token_budget, self._longest))
        return budget.chunks(len(prompts), counts, overhead=frame)


def task_text(prompts: Sequence[str]) -> str:
    """Task text of the model (``run_demo.py`` of om-ai-lab/OmDet)."""
    return f"Detect {', '.join(prompts)}."
