"""GLIP (``baselines.glip``): pixels and class names in, boxes of the original image out.

BERT runs once per chunk of the vocabulary, Swin and pyramid once per image. The fused variants run their head per image
and chunk; variant (A) runs it once per image and is left with a matrix product per chunk.

Choosing boxes is part of GLIP: a threshold on the class probability, centerness, the best of each level, suppression of
duplicates within a class (``baselines.glip.postprocess``). It happens per chunk, as in the official evaluation.
"""

from __future__ import annotations

import dataclasses
import functools
import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from ovd_bench.baselines.glip.anchors import anchor_boxes, decode
from ovd_bench.baselines.glip.config import VARIANTS
from ovd_bench.baselines.glip.model import Glip, GlipOutput, ImageFeatures, TextFeatures, normalize
from ovd_bench.baselines.glip.postprocess import Found, select_boxes
from ovd_bench.baselines.glip.weights import read_weights
from ovd_bench.detectors.captions import (
    CLS,
    SEP,
    Caption,
    caption_of_text,
    joined_spans,
    planned_captions,
    span_tokens,
)
from ovd_bench.detectors.card import DetectorCard
from ovd_bench.detectors.class_vectors import ClassVectors, of_captions
from ovd_bench.detectors.hub import keyed_notes, keyed_sha256
from ovd_bench.detectors.image_tensors import resized, shorter_side_size
from ovd_bench.detectors.interface import CAPTIONS, DetectorSettings, Spans
from ovd_bench.detectors.last_image import LastImage
from ovd_bench.detectors.prompts import PromptPlan
from ovd_bench.detectors.selection import Pairs, detections
from ovd_bench.detectors.tensor_scores import mean_probabilities
from ovd_bench.detectors.types import Detections, DetectorError, Grounding, Image, Vocabulary
from ovd_bench.grounding_dino_jt.tokenizer import packaged_tokenizer

#: Sizes by card.
_SIZES = {
    "glip-tiny-a": "tiny-a",
    "glip-tiny-b": "tiny",
    "glip-tiny-c": "tiny",
    "glip-tiny": "tiny",
    "glip-large": "large",
}
#: The input's sides are padded to a multiple of this (``DATALOADER.SIZE_DIVISIBILITY``).
_MULTIPLE = 32
#: Maximum shorter side of an image, in pixels, for which several chunks go through the head at once.
_SMALL = 320


def load(card: DetectorCard, settings: DetectorSettings) -> GlipDetector:
    """Load weights of any layout that ``baselines.glip.weights`` reads.

    Raises:
        DetectorError: no weights named, no such file, weights that do not fit the card, a device or precision that is
            not there.
    """
    source = settings.weights or card.weights
    if not source:
        raise DetectorError(f"detector '{card.name}' names no weights: give --weights FILE.pth, see {card.url}")
    path = Path(source)
    try:
        model, about = read_weights(path, key=settings.weights_key)
    except ValueError as error:
        raise DetectorError(str(error)) from error
    size = VARIANTS.get(_SIZES.get(card.name, ""))
    if size is not None and (about.config.fused, about.config.swin) != (size.fused, size.swin):
        raise DetectorError(
            f"{path}: is a GLIP of another size than '{card.name}': choose the detector of these weights"
        )
    with path.open("rb") as file:
        sha256 = hashlib.file_digest(file, "sha256").hexdigest()
    filled = dataclasses.replace(
        card,
        weights=source,
        weights_sha256=keyed_sha256(sha256, settings.weights_key),
        notes=(*card.notes, *keyed_notes(settings.weights_key)),
    )
    return GlipDetector(filled, model, settings)


def untrained(card: DetectorCard, settings: DetectorSettings, seed: int = 0) -> GlipDetector:
    """A detector of the card's size with random weights, for timings; its boxes have no meaning."""
    torch.manual_seed(seed)
    model: Glip = Glip(VARIANTS[_SIZES[card.name]]).requires_grad_(False).eval()
    model.rpn["head"].bias0.zero_()  # probabilities of 0.5 instead of 0.01, so that some pass the threshold
    return GlipDetector(card, model, settings)


@dataclass(frozen=True)
class _Chunks:
    """Captions that go through the head at once, padded to the longest of them."""

    text: TextFeatures
    captions: tuple[Caption, ...]


class GlipDetector:
    """GLIP in PyTorch.

    Images go through the network one by one, so results do not depend on the batch.

    Args:
        card: what it is.
        model: the network, float32.
        settings: device, sizes and limits.
    """

    def __init__(self, card: DetectorCard, model: Glip, settings: DetectorSettings) -> None:
        if settings.dtype != "float32":
            raise DetectorError(f"detector '{card.name}': dtype is {settings.dtype}, it computes in float32")
        try:
            self._model = model.to(settings.device)
        except (RuntimeError, AssertionError) as error:
            reason = str(error).splitlines()[0][:200]
            raise DetectorError(f"detector '{card.name}': device '{settings.device}': {reason}") from error
        config = model.config
        card = dataclasses.replace(card, parameters=sum(parameter.numel() for parameter in model.parameters()))
        self._settings, self._plain_card, self._card = settings, card, card
        self._shorter = settings.image_size or config.image_size
        self._longest = max(round(config.image_longest * self._shorter / config.image_size), self._shorter)
        # On the CPU a large image alone uses all cores; for a small one overhead dominates.
        large = self._shorter > _SMALL
        self._at_once = settings.chunk_batch or (1 if settings.device == "cpu" and large else 8)
        try:
            self._tokenizer = packaged_tokenizer()
        except ValueError as error:
            raise DetectorError(f"detector '{card.name}': {error}") from error
        self._chunks: list[_Chunks] = []
        self._category_ids: tuple[int, ...] = ()
        self._features = LastImage(self.image_features)
        self._captions = functools.lru_cache(CAPTIONS)(self._encoded_caption)

    @property
    def card(self) -> DetectorCard:
        """With weights, sha256, parameters, and notes on the vocabulary's names."""
        return self._card

    def set_vocabulary(self, vocabulary: Vocabulary, plan: PromptPlan) -> None:
        """Split the classes into captions ``a. b. c`` and encode these."""
        limit = self._model.config.max_tokens
        planned = planned_captions(self._card.name, vocabulary, plan, self._tokenizer.words, limit)
        captions = [_without_last_dot(caption) for caption in planned.captions]
        groups = [tuple(captions[begin : begin + self._at_once]) for begin in range(0, len(captions), self._at_once)]
        self._chunks = [_Chunks(self._text([caption.ids for caption in group]), group) for group in groups]
        self._category_ids = planned.category_ids
        self._card = dataclasses.replace(self._plain_card, notes=(*self._plain_card.notes, *planned.notes))

    def class_vectors(self) -> ClassVectors:
        """See ``detectors.interface.TextDetector``: means over a class's words in its caption, before fusion."""
        if not self._chunks:
            raise DetectorError(f"detector '{self._card.name}': no vocabulary was set")
        captions = [caption for chunks in self._chunks for caption in chunks.captions]
        features = [row for chunks in self._chunks for row in chunks.text.hidden.cpu().numpy()]
        return of_captions(self._category_ids, captions, features)

    def detect(self, images: Sequence[Image]) -> list[Detections]:
        """See ``detectors.interface.Detector``; pairs that GLIP's own selection removes are not returned."""
        if not self._chunks:
            raise DetectorError(f"detector '{self._card.name}': no vocabulary was set")
        return [self._detect(image) for image in images]

    def ground(self, images: Sequence[Image], captions: Sequence[str]) -> list[Grounding]:
        """Boxes of each image for the phrases of its caption, best first; at most ``top_k`` of them.

        A phrase is what stands between separators (``. ?``); it is treated as a class is, scored by the mean over its
        tokens, and a box belongs to the whole of it (``engine/inference.py``, task ``grounding``).

        Raises:
            DetectorError: a caption without words or longer than the model reads, or not as many as images.
        """
        if len(images) != len(captions):
            raise DetectorError(f"detector '{self._card.name}': {len(images)} images, {len(captions)} captions")
        return [self._ground(image, text) for image, text in zip(images, captions, strict=True)]

    def ground_spans(self, image: Image, caption: str, phrases: Sequence[Spans]) -> Detections:
        """See ``detectors.interface.SpanDetector``: each phrase is treated as a class is, also a whole caption.

        It scores the mean over its tokens (``maskrcnn_benchmark/modeling/rpn/inference.py``, Flickr30k's evaluation).
        """
        words, text = self._captions(caption)
        shares = np.zeros((len(phrases), len(words.ids)), np.float32)
        for row, spans in enumerate(phrases):
            tokens = span_tokens(words, spans)
            shares[row, tokens] = 1 / len(tokens)
        output = self._predict(self._features(image), text)
        anchors, top_k = self._anchors(output), self._settings.top_k
        found = [self._selected(image, output, anchors, 0, own[None], top_k) for own in shares]
        return Detections.of(
            image,
            torch.cat([one.boxes_xyxy for one in found]).cpu().numpy(),
            torch.cat([one.scores for one in found]).cpu().numpy(),
            np.repeat(np.arange(len(found)), [len(one.scores) for one in found]),
        )

    def raw(self, image: Image, caption: str) -> dict[str, npt.NDArray[Any]]:
        """Every location, for comparison with other implementations; see ``detectors.interface.RawDetector``.

        The caption is treated as the official code does: taken as it is, cut and padded to 256 tokens.

        Returns:
            Of N locations, levels one after the other and row by row: ``pred_logits`` float32 (N, 256), ``centerness``
            float32 (N,), logits, ``deltas`` float32 (N, 4) as the network gives them, ``pred_boxes`` float32 (N, 4)
            xyxy decoded from them, pixels of the network's input, not cut at its border. ``level_shapes`` int64 (L, 2),
            ``input_ids`` int64 (256,), ``image_size`` int64 (2,), height and width without padding.
        """
        size = self._model.config.max_tokens
        ids = [CLS, *self._tokenizer.words(caption)[0][: size - 2], SEP]
        output = self._predict(self.image_features(image), self._text([ids], size))
        return {
            "pred_logits": output.logits[0].cpu().numpy(),
            "centerness": output.centerness[0].cpu().numpy(),
            "deltas": output.deltas[0].cpu().numpy(),
            "pred_boxes": decode(output.deltas[0], self._anchors(output)).cpu().numpy(),
            "level_shapes": torch.tensor(output.shapes).numpy(),
            "input_ids": torch.tensor([*ids, *[0] * (size - len(ids))]).numpy(),
            "image_size": torch.tensor(self.network_size(image)).numpy(),
        }

    def network_size(self, image: Image) -> tuple[int, int]:
        """Height and width of the network's input without padding."""
        return shorter_side_size(image, self._shorter, self._longest)

    def prepare(self, image: Image) -> torch.Tensor:
        """Network input of one image, zeros on the right and at the bottom: float32 (3, height, width)."""
        height, width = self.network_size(image)
        pixels = normalize(torch.from_numpy(resized(image, height, width)))
        return torch.nn.functional.pad(pixels, (0, -width % _MULTIPLE, 0, -height % _MULTIPLE))

    def image_features(self, image: Image) -> ImageFeatures:
        """Features that depend only on the image."""
        with torch.inference_mode():
            features: ImageFeatures = self._model.encode_image(self.prepare(image)[None].to(self._settings.device))
        return features

    def _text(self, rows: Sequence[Sequence[int]], padded: int = 0) -> TextFeatures:
        """Encode captions, padded to the length of the longest one or more."""
        longest = max(padded, *(len(row) for row in rows))
        ids = torch.tensor([[*row, *[0] * (longest - len(row))] for row in rows])
        mask = torch.arange(longest) < torch.tensor([len(row) for row in rows])[:, None]
        with torch.inference_mode():
            text: TextFeatures = self._model.encode_text(ids.to(self._settings.device), mask.to(self._settings.device))
        return text

    def _predict(self, features: ImageFeatures, text: TextFeatures) -> GlipOutput:
        with torch.inference_mode():
            output: GlipOutput = self._model(features, text)
        return output

    def _anchors(self, output: GlipOutput) -> torch.Tensor:
        config = self._model.config
        return anchor_boxes(output.shapes, config.strides, config.anchor_sizes, output.deltas.device)

    def _found(self, image: Image, features: ImageFeatures, chunks: _Chunks, top_k: int) -> Iterator[Found]:
        """Detections of each caption in an image, boxes in pixels of the original image."""
        output = self._predict(features, chunks.text)
        anchors = self._anchors(output)
        for row, caption in enumerate(chunks.captions):
            yield self._selected(image, output, anchors, row, caption.shares(), top_k)

    def _selected(
        self,
        image: Image,
        output: GlipOutput,
        anchors: torch.Tensor,
        row: int,
        shares: npt.NDArray[np.float32],
        top_k: int,
    ) -> Found:
        """Detections of one caption of the output, in pixels of the original image.

        Args:
            image: what was looked at.
            output: of the network.
            anchors: of its locations.
            row: of the caption.
            shares: (classes, tokens), weights of the tokens of each class.
            top_k: limit of all classes together.
        """
        size = self.network_size(image)
        weights = torch.from_numpy(shares).to(output.logits.device)
        scores = mean_probabilities(output.logits[row, :, : shares.shape[1]], weights).T
        if not torch.isfinite(scores).all():
            raise DetectorError("the network returned scores that are not finite: check the weights")
        deltas, centerness = output.deltas[row], output.centerness[row]
        found = select_boxes(scores, deltas, centerness, anchors, output.shapes, size, top_k)
        # with the last pixel included, a box narrower than a pixel ends before it begins
        corners = torch.cat((found.boxes_xyxy[:, :2], found.boxes_xyxy[:, 2:].maximum(found.boxes_xyxy[:, :2])), 1)
        scale = output.deltas.new_tensor([image.width / size[1], image.height / size[0]] * 2)
        return Found(corners * scale, found.scores, found.classes)

    def _detect(self, image: Image) -> Detections:
        features = self._features(image)
        boxes, scores, classes = [], [], []
        begin = 0
        for chunks in self._chunks:
            found = self._found(image, features, chunks, self._settings.chunk_top_k or self._settings.top_k)
            for caption, part in zip(chunks.captions, found, strict=True):
                boxes.append(part.boxes_xyxy)
                scores.append(part.scores)
                classes.append(part.classes + begin)
                begin += len(caption.phrases)
        values, order = torch.cat(scores).sort(descending=True, stable=True)
        order = order[: self._settings.top_k]
        values, rows = values[: self._settings.top_k].cpu().numpy(), torch.cat(classes)[order].cpu().numpy()
        pairs = Pairs(values, order.cpu().numpy(), rows)
        return detections(image, pairs, torch.cat(boxes).cpu().numpy(), self._category_ids)

    def _encoded_caption(self, text: str) -> tuple[Caption, TextFeatures]:
        caption = self._caption(text)
        if not caption.phrases:
            raise DetectorError(f"the caption {text!r:.200} has no words")
        if len(caption.ids) > self._model.config.max_tokens:
            raise DetectorError(
                f"detector '{self._card.name}': a caption has {len(caption.ids)} tokens of "
                f"{self._model.config.max_tokens}"
            )
        return caption, self._text([caption.ids])

    def _ground(self, image: Image, text: str) -> Grounding:
        caption, encoded = self._captions(text)
        (found,) = self._found(image, self._features(image), _Chunks(encoded, (caption,)), self._settings.top_k)
        whole = [joined_spans(spans, text) for spans in caption.spans]
        spans = tuple(whole[number] for number in found.classes.tolist())
        return Grounding(image.id, text, found.boxes_xyxy.cpu().numpy(), found.scores.cpu().numpy(), spans)

    def _caption(self, text: str) -> Caption:
        """A free caption without the final dot that the Grounding DINO family adds."""
        caption = caption_of_text(self._tokenizer.words, text)
        own = len(self._tokenizer.words(text)[0]) + 2
        return caption if len(caption.ids) == own else _without_last_dot(caption)


def _without_last_dot(caption: Caption) -> Caption:
    """GLIP writes separators only between names (``create_queries_and_maps`` in ``engine/inference.py``)."""
    return Caption((*caption.ids[:-2], SEP), caption.phrases, caption.spans)
