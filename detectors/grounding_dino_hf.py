"""Grounding DINO, MM-Grounding-DINO and LLMDet through transformers: the PyTorch reference of the suite.

What depends only on the text (BERT, projection, masks) is computed once per vocabulary, what depends only on the image
(Swin, projections, positions) once per image; the fused encoder, query selection and decoder run per image and chunk of
classes. The network's own sub-modules are called; nothing is reimplemented.

Images of one batch are never padded: Swin attends to padding and GroupNorm averages over it, so a padded image gives
other boxes than the same image alone. Instead, images of equal network size are grouped and run together.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, cast

import torch
from transformers import GroundingDinoForObjectDetection, MMGroundingDinoForObjectDetection, PreTrainedTokenizerBase
from transformers.models.grounding_dino.modeling_grounding_dino import (
    generate_masks_with_special_tokens_and_transfer_map as phrase_masks,
)

from ovd_bench.detectors.captions import (
    SAMPLE,
    UNCASED,
    UNCASED_SIZE,
    Caption,
    Marks,
    Tokenize,
    caption_of_text,
    lower_case,
    planned_captions,
)
from ovd_bench.detectors.card import DetectorCard
from ovd_bench.detectors.class_vectors import ClassVectors, of_captions
from ovd_bench.detectors.image_tensors import from_unit_square, groups, resized, shorter_side_size
from ovd_bench.detectors.interface import CAPTIONS, DetectorSettings, Spans
from ovd_bench.detectors.last_image import LastImage
from ovd_bench.detectors.prompts import PromptPlan
from ovd_bench.detectors.selection import ChunkedChoice, detections
from ovd_bench.detectors.tensor_scores import mean_probabilities
from ovd_bench.detectors.token_scores import grounded, phrase_boxes, span_scores
from ovd_bench.detectors.transformers_loading import LoadedModel, Preprocessing, load_model
from ovd_bench.detectors.types import Detections, DetectorError, Grounding, Image, Vocabulary

_MODELS: dict[str, tuple[str, type[Any]]] = {
    "grounding-dino": ("grounding-dino", GroundingDinoForObjectDetection),
    "mm-grounding-dino": ("mm-grounding-dino", MMGroundingDinoForObjectDetection),
    "llmdet": ("mm-grounding-dino", MMGroundingDinoForObjectDetection),
}

#: Guard of the inverse sigmoid in transformers; the official code has 1e-3, see ``docs/detectors.md``.
_LOGIT_EPSILON = 1e-5


def load(card: DetectorCard, settings: DetectorSettings) -> GroundingDinoDetector:
    """Load a model of the families ``grounding-dino``, ``mm-grounding-dino`` or ``llmdet``.

    Raises:
        DetectorError: see ``detectors.transformers_loading.load_model``.
    """
    model_type, model_class = _MODELS[card.family]
    return GroundingDinoDetector(load_model(card, settings, model_class, model_type=model_type), settings)


@dataclass(frozen=True)
class TextFeatures:
    """Text features of one caption (n tokens); independent of images.

    Attributes:
        caption: its tokens.
        features: (1, n, d), projected output of BERT.
        phrase_mask: bool (1, n, n), which tokens attend to each other.
        position_ids: int64 (1, n), counted from the start of each phrase.
        shares: float32 (phrases, n); a row has equal shares at the phrase's own tokens that sum to 1.
    """

    caption: Caption
    features: torch.Tensor
    phrase_mask: torch.Tensor
    position_ids: torch.Tensor
    shares: torch.Tensor


@dataclass(frozen=True)
class ImageFeatures:
    """Features of a batch of images of one size (B images, N positions, L levels); independent of text.

    Attributes:
        features, positions: (B, N, d), all levels one after the other.
        mask: bool (B, N), true everywhere: there is no padding.
        shapes: height and width of each level.
        ratios: (B, L, 2), valid share of each level, 1 everywhere.
    """

    features: torch.Tensor
    positions: torch.Tensor
    mask: torch.Tensor
    shapes: list[tuple[int, int]]
    ratios: torch.Tensor


@dataclass(frozen=True)
class GroundingOutput:
    """Output of the network for a batch and a caption (B images, Q queries, n tokens).

    Attributes:
        logits: float32 (B, Q, n).
        boxes_cxcywh: float32 (B, Q, 4), relative to the image.
    """

    logits: torch.Tensor
    boxes_cxcywh: torch.Tensor


@dataclass(frozen=True)
class _Queries:
    category_ids: tuple[int, ...]
    texts: list[TextFeatures]


class GroundingDinoDetector:
    """Grounding DINO in PyTorch, also with the heads of MM-Grounding-DINO."""

    def __init__(self, loaded: LoadedModel, settings: DetectorSettings) -> None:
        self._loaded, self._settings = loaded, settings
        self._model = loaded.module
        self._core = self._model.model
        self._preprocessing: Preprocessing = loaded.preprocessing()
        shorter, longest = self._preprocessing.edges("shortest_edge", "longest_edge")
        self._shorter = settings.image_size or shorter
        self._longest = max(round(longest * self._shorter / shorter), self._shorter)
        self._tokenize, self._marks = _text_reader(loaded)
        for layer in self._core.encoder.layers:
            layer.fusion_layer.attn.forward = _in_float32(layer.fusion_layer.attn.forward)
        self._card = loaded.card
        self._queries: _Queries | None = None
        self._features = LastImage(lambda image: self.image_features(self.prepare(image)[None]))
        self._captions = functools.lru_cache(CAPTIONS)(self._encoded_caption)

    @property
    def card(self) -> DetectorCard:
        """With weights, sha256, parameters, and notes on the vocabulary's names."""
        return self._card

    def set_vocabulary(self, vocabulary: Vocabulary, plan: PromptPlan) -> None:
        """Split the classes into captions and encode these."""
        limit = int(self._model.config.max_text_len)
        planned = planned_captions(self._card.name, vocabulary, plan, self._tokenize, limit, self._marks)
        texts = [self.text_features(caption) for caption in planned.captions]
        self._card = dataclasses.replace(self._loaded.card, notes=(*self._loaded.card.notes, *planned.notes))
        self._queries = _Queries(planned.category_ids, texts)

    def class_vectors(self) -> ClassVectors:
        """See ``detectors.interface.TextDetector``: means over a class's words, projected, before fusion."""
        if self._queries is None:
            raise DetectorError(f"detector '{self._card.name}': no vocabulary was set")
        texts = self._queries.texts
        features = [text.features[0].float().cpu().numpy() for text in texts]
        return of_captions(self._queries.category_ids, [text.caption for text in texts], features)

    def detect(self, images: Sequence[Image]) -> list[Detections]:
        """See ``detectors.interface.Detector``."""
        if self._queries is None:
            raise DetectorError(f"detector '{self._card.name}': no vocabulary was set")
        found: dict[int, Detections] = {}
        for group in groups([self.network_size(image) for image in images]):
            batch = [images[position] for position in group]
            for position, result in zip(group, self._detect(batch, self._queries), strict=True):
                found[position] = result
        return [found[position] for position in range(len(images))]

    def ground(self, images: Sequence[Image], captions: Sequence[str]) -> list[Grounding]:
        """Boxes of each image for the phrases of its caption, best first; at most ``top_k`` of them.

        A phrase is what stands between separators (``. ?``). A (box, phrase) pair scores the highest probability among
        the phrase's tokens, as the official ``predict`` scores a box; its spans are the tokens above
        ``token_scores.TEXT_THRESHOLD``, or the whole phrase if none is. No threshold removes boxes.

        Raises:
            DetectorError: a caption is empty or longer than the model reads, or there are not as many as images.
        """
        if len(images) != len(captions):
            raise DetectorError(f"detector '{self._card.name}': {len(images)} images, {len(captions)} captions")
        return [self._ground(image, text) for image, text in zip(images, captions, strict=True)]

    def ground_spans(self, image: Image, caption: str, phrases: Sequence[Spans]) -> Detections:
        """See ``detectors.interface.SpanDetector``; scores are those of ``token_scores.span_scores``."""
        words = self._captions(caption)
        output = self.predict(self._features(image), words)
        scores = span_scores(output.logits[0].sigmoid().cpu().numpy(), words.caption, phrases)
        return phrase_boxes(image, scores, output.boxes_cxcywh[0].cpu().numpy(), self._settings.top_k)

    def network_size(self, image: Image) -> tuple[int, int]:
        """Height and width of the network's input."""
        return shorter_side_size(image, self._shorter, self._longest)

    def prepare(self, image: Image) -> torch.Tensor:
        """Network input of one image: float32 (3, height, width)."""
        return self._preprocessing.normalise(torch.from_numpy(resized(image, *self.network_size(image))))

    def text_features(self, caption: Caption) -> TextFeatures:
        """Encode one caption.

        Raises:
            DetectorError: it is longer than the model's limit and would be cut.
        """
        device, limit = self._loaded.device, int(self._model.config.max_text_len)
        if len(caption.ids) > limit:
            raise DetectorError(f"detector '{self._card.name}': a caption has {len(caption.ids)} tokens of {limit}")
        ids = torch.tensor([caption.ids], device=device)
        separators = torch.tensor(sorted(self._marks.separators), device=device)
        with self._loaded.inference():
            mask, positions = phrase_masks(ids, separators)
            encoded = self._core.text_backbone(
                input_ids=ids,
                attention_mask=mask[:, None],
                token_type_ids=torch.zeros_like(ids),
                position_ids=positions,
            )
            features = self._core.text_projection(encoded.last_hidden_state)
        return TextFeatures(caption, features, mask, positions, torch.from_numpy(caption.shares()).to(device))

    def image_features(self, pixels: torch.Tensor) -> ImageFeatures:
        """Encode prepared images of one size (B, 3, height, width)."""
        core = self._core
        with self._loaded.inference():
            pixels = pixels.to(self._loaded.device)
            valid = torch.ones_like(pixels[:, 0], dtype=torch.bool)
            backbone, positions = core.backbone(pixels, valid)
            levels = [core.input_proj_vision[level](feature) for level, (feature, _) in enumerate(backbone)]
            masks, positions = [mask for _, mask in backbone], list(positions)
            for level in range(len(levels), self._model.config.num_feature_levels):
                below = backbone[-1][0] if level == len(backbone) else levels[-1]
                levels.append(core.input_proj_vision[level](below))
                masks.append(torch.ones_like(levels[-1][:, 0], dtype=torch.bool))
                positions.append(core.backbone.position_embedding(levels[-1], masks[-1]).to(levels[-1].dtype))
            positions = [position + core.level_embed[n].view(1, -1, 1, 1) for n, position in enumerate(positions)]
            return ImageFeatures(
                features=_flat(levels),
                positions=_flat(positions),
                mask=torch.cat([mask.flatten(1) for mask in masks], dim=1),
                shapes=[(int(level.shape[2]), int(level.shape[3])) for level in levels],
                ratios=torch.stack([core.get_valid_ratio(mask, dtype=levels[0].dtype) for mask in masks], dim=1),
            )

    def predict(self, images: ImageFeatures, text: TextFeatures) -> GroundingOutput:
        """Run what depends on both: encoder, query selection, decoder, last heads. The arguments are not changed."""
        core, batch = self._core, len(images.features)
        with self._loaded.inference():
            shapes = torch.tensor(images.shapes, device=self._loaded.device)
            starts = torch.cat((shapes.new_zeros(1), shapes.prod(dim=1).cumsum(0)[:-1]))
            geometry = {
                "spatial_shapes": shapes,
                "spatial_shapes_list": images.shapes,
                "level_start_index": starts,
                "valid_ratios": images.ratios,
            }
            words = text.features.expand(batch, -1, -1)
            real = torch.ones(words.shape[:2], dtype=torch.bool, device=words.device)
            memory = core.encoder(
                vision_features=images.features,
                vision_attention_mask=~images.mask,
                vision_position_embedding=images.positions,
                text_features=words,
                text_attention_mask=~real,
                text_self_attention_masks=~text.phrase_mask.expand(batch, -1, -1),
                text_position_ids=text.position_ids.expand(batch, -1),
                **geometry,
            )
            seen, fused = memory.last_hidden_state_vision, memory.last_hidden_state_text
            reference = self._selected(seen, fused, real, images)
            decoded = core.decoder(
                inputs_embeds=core.query_position_embeddings.weight.expand(batch, -1, -1),
                vision_encoder_hidden_states=seen,
                vision_encoder_attention_mask=images.mask,
                text_encoder_hidden_states=fused,
                text_encoder_attention_mask=~real,
                reference_points=reference,
                **geometry,
            )
            hidden = decoded.intermediate_hidden_states[:, -1]
            refined = decoded.intermediate_reference_points
            before = refined[:, -2] if refined.shape[1] > 1 else reference
            logits = self._model.class_embed[-1](hidden, fused, real)[..., : real.shape[1]]
            boxes = self._model.bbox_embed[-1](hidden) + torch.special.logit(before, eps=_LOGIT_EPSILON)
            return GroundingOutput(logits.float(), boxes.float().sigmoid())

    def _selected(
        self, seen: torch.Tensor, fused: torch.Tensor, real: torch.Tensor, images: ImageFeatures
    ) -> torch.Tensor:
        """Initial boxes (B, Q, 4) of the queries: those of the positions that match any token best."""
        core = self._core
        candidates, proposals = core.generate_encoder_output_proposals(seen, ~images.mask, images.shapes)
        best_token = core.encoder_output_class_embed(candidates, fused, real).max(dim=-1).values
        queries = min(int(self._model.config.num_queries), best_token.shape[1])
        chosen = best_token.topk(queries, dim=1).indices[..., None].expand(-1, -1, 4)
        boxes = core.encoder_output_bbox_embed(candidates) + proposals
        return cast(torch.Tensor, torch.gather(boxes, 1, chosen).sigmoid())

    def _detect(self, images: Sequence[Image], queries: _Queries) -> list[Detections]:
        features = self.image_features(torch.stack([self.prepare(image) for image in images]))
        choices = [ChunkedChoice(self._settings.chunk_top_k or self._settings.top_k) for _ in images]
        for text in queries.texts:
            output = self.predict(features, text)
            scores = mean_probabilities(output.logits, text.shares).cpu().numpy()
            for choice, of_image, boxes in zip(choices, scores, output.boxes_cxcywh.cpu().numpy(), strict=True):
                choice.add(of_image, boxes)
        found = []
        for image, choice in zip(images, choices, strict=True):
            pairs, boxes = choice.best(self._settings.top_k)
            found.append(detections(image, pairs, from_unit_square(boxes, image), queries.category_ids))
        return found

    def _encoded_caption(self, text: str) -> TextFeatures:
        return self.text_features(caption_of_text(self._tokenize, text, self._marks))

    def _ground(self, image: Image, text: str) -> Grounding:
        words = self._captions(text)
        caption, output = words.caption, self.predict(self._features(image), words)
        probabilities, boxes = output.logits[0].sigmoid().cpu().numpy(), output.boxes_cxcywh[0].cpu().numpy()
        return grounded(image, text, caption, probabilities, boxes, self._settings.top_k)


def _text_reader(loaded: LoadedModel) -> tuple[Tokenize, Marks]:
    """How the model reads text: with BERT's uncased vocabulary, or with the folder's own, such as that of Chinese BERT.

    As in the official code, a phrase ends at ``[CLS] [SEP] . ?``, whatever numbers these have, and text is in lower
    case, whatever the tokeniser does.

    Raises:
        DetectorError: the tokenizer's files are missing, or are not those of the text encoder.
    """
    size = int(loaded.module.config.text_config.vocab_size)
    tokenizer = loaded.tokenizer(SAMPLE[0], SAMPLE[1] if size == UNCASED_SIZE else None)
    if list(tokenizer(SAMPLE[0]).input_ids) == SAMPLE[1]:
        return tokenize_with(tokenizer), UNCASED
    words = tokenizer.get_vocab()
    missing = [word for word in ("[CLS]", "[SEP]", "[UNK]", ".") if word not in words]
    if missing or len(words) < size // 2 or max(words.values()) >= size:
        raise DetectorError(
            f"{loaded.directory}: the tokenizer's files are missing or of another model: {len(words):,} words"
            + (f" without {' '.join(missing)}" if missing else "")
            + f", the text encoder has {size:,}"
        )
    marks = Marks(*(words.get(word, words["[UNK]"]) for word in ("[CLS]", "[SEP]", ".", "?", "[UNK]")))
    plain = tokenize_with(tokenizer)
    return lambda text: plain(lower_case(text)), marks


def tokenize_with(tokenizer: PreTrainedTokenizerBase) -> Tokenize:
    """Adapt a tokeniser of transformers for captions."""

    def tokenize(text: str) -> tuple[list[int], list[tuple[int, int]]]:
        encoded = tokenizer(text, add_special_tokens=False, return_offsets_mapping=True)
        return list(encoded.input_ids), [(int(begin), int(end)) for begin, end in encoded.offset_mapping]

    return tokenize


def _in_float32(forward: Callable[..., Any]) -> Callable[..., Any]:
    """A module's ``forward`` that computes in float32 even if half precision is requested.

    The fusion attention clamps its logits at 50,000 after sums over 1,024 channels, beyond the range of half precision.
    """

    def call(vision_features: torch.Tensor, text_features: torch.Tensor, **masks: Any) -> Any:
        with torch.autocast(vision_features.device.type, enabled=False):
            return forward(vision_features.float(), text_features.float(), **masks)

    return call


def _flat(levels: Sequence[torch.Tensor]) -> torch.Tensor:
    """Levels (B, d, h, w) one after the other: (B, N, d)."""
    return torch.cat([level.flatten(2).transpose(1, 2) for level in levels], dim=1)
