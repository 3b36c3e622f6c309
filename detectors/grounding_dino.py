"""Grounding DINO in Jittor (``grounding_dino_jt``): pixels and class names in, boxes of the original image out.

What depends only on the text is computed once per vocabulary, what depends only on the image once per image. Chunks of
classes go through the rest several at a time: one image, many captions.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from ovd_bench.detectors.captions import Caption, Marks, caption_of_text, planned_captions
from ovd_bench.detectors.card import DetectorCard
from ovd_bench.detectors.class_vectors import ClassVectors, of_captions
from ovd_bench.detectors.hub import keyed_notes, keyed_sha256, model_folder
from ovd_bench.detectors.image_tensors import from_unit_square, resized, shorter_side_size
from ovd_bench.detectors.interface import CAPTIONS, DetectorSettings, Spans
from ovd_bench.detectors.last_image import LastImage
from ovd_bench.detectors.prompts import PromptPlan
from ovd_bench.detectors.selection import ChunkedChoice, Floats, detections
from ovd_bench.detectors.shipped import check_sum, shipped_file
from ovd_bench.detectors.sigmoid import sigmoid
from ovd_bench.detectors.suppression import NO_SUPPRESSION, NOTHING, without_duplicates
from ovd_bench.detectors.token_scores import class_scores, grounded, phrase_boxes, span_scores
from ovd_bench.detectors.types import Detections, DetectorError, Grounding, Image, Vocabulary
from ovd_bench.grounding_dino_jt.device import use_device
from ovd_bench.grounding_dino_jt.flops import image_flops, pair_flops

if TYPE_CHECKING:  # Jittor's device is chosen before anything imports Jittor
    from ovd_bench.grounding_dino_jt.features import ImageFeatures, TextFeatures
    from ovd_bench.grounding_dino_jt.load import Predictor

#: Shorter side of an image up to which chunks go through the network together, pixels.
_SMALL = 320


def load(card: DetectorCard, settings: DetectorSettings) -> GroundingDinoDetector:
    """Load weights of any layout that ``grounding_dino_jt.weights`` reads.

    Raises:
        DetectorError: no such file, weights that do not fit, a device or precision that is not there.
    """
    source = settings.weights or card.weights
    shipped = shipped_file(source)
    path = shipped or Path(source)
    if shipped is None and not path.is_file():
        folder = model_folder(card, source)
        path, source = folder.path, folder.source
    if settings.dtype != "float32" and settings.device == "cpu":
        raise DetectorError(
            f"detector '{card.name}': {settings.dtype} needs a CUDA device; the CPU computes in float32"
        )
    try:
        use_device(settings.device)
        from ovd_bench.grounding_dino_jt.load import load as load_model
        from ovd_bench.grounding_dino_jt.precision import set_precision

        model = load_model(path, settings.weights_key)
        if settings.weights is None:
            check_sum(card, path, model.weights_sha256)
        if settings.dtype != "float32":
            set_precision(model.network, settings.dtype)
    except (ValueError, RuntimeError) as error:
        raise DetectorError(str(error)) from error
    parameters = sum(int(np.prod(variable.shape)) for variable in model.network.parameters())
    filled = dataclasses.replace(
        card,
        weights=source,
        weights_sha256=keyed_sha256(model.weights_sha256, settings.weights_key),
        parameters=parameters,
        notes=(*card.notes, *keyed_notes(settings.weights_key)),
    )
    return GroundingDinoDetector(filled, model, settings)


@dataclass(frozen=True)
class _Chunks:
    """Captions that go through the network together, padded to the longest of them."""

    text: TextFeatures
    captions: tuple[Caption, ...]


class GroundingDinoDetector:
    """Grounding DINO, also with the heads of MM-Grounding-DINO, in Jittor.

    Args:
        card: what it is.
        model: the network and its tokeniser.
        settings: device, sizes and limits.
    """

    def __init__(self, card: DetectorCard, model: Predictor, settings: DetectorSettings) -> None:
        self._model, self._settings, self._plain_card, self._card = model, settings, card, card
        config = model.config
        self._shorter = settings.image_size or config.image_size
        self._longest = max(round(config.image_longest * self._shorter / config.image_size), self._shorter)
        # On a processor a large image fills it alone, and memory is short; a small one is mostly overhead.
        large = self._shorter > _SMALL
        self._at_once = settings.chunk_batch or (1 if settings.device == "cpu" and large else 8)
        self._marks = Marks(*model.tokenizer.marks, model.tokenizer.unknown)
        self._nms_iou = settings.nms_iou or config.nms_iou
        self._chunks: list[_Chunks] = []
        self._category_ids: tuple[int, ...] = ()
        self._features = LastImage(self._image_features)
        self._captions = functools.lru_cache(CAPTIONS)(self._encoded_caption)

    @property
    def card(self) -> DetectorCard:
        """With weights, sha256, parameters, and notes on the vocabulary's names."""
        return self._card

    def set_vocabulary(self, vocabulary: Vocabulary, plan: PromptPlan) -> None:
        """Cut the classes into captions and encode those."""
        limit = self._model.config.max_text_len
        planned = planned_captions(self._card.name, vocabulary, plan, self._model.tokenizer.words, limit, self._marks)
        self._chunks = []
        for begin in range(0, len(planned.captions), self._at_once):
            captions = planned.captions[begin : begin + self._at_once]
            self._chunks.append(_Chunks(self._text([caption.ids for caption in captions]), captions))
        self._category_ids = planned.category_ids
        self._card = dataclasses.replace(self._plain_card, notes=(*self._plain_card.notes, *planned.notes))

    def class_vectors(self) -> ClassVectors:
        """See ``detectors.interface.TextDetector``: means over a class's words, projected, before fusion."""
        if not self._chunks:
            raise DetectorError(f"detector '{self._card.name}': no vocabulary was set")
        captions = [caption for chunks in self._chunks for caption in chunks.captions]
        features = [row for chunks in self._chunks for row in chunks.text.features.numpy()]
        return of_captions(self._category_ids, captions, features)

    def detect(self, images: Sequence[Image]) -> list[Detections]:
        """See ``detectors.interface.Detector``."""
        if not self._chunks:
            raise DetectorError(f"detector '{self._card.name}': no vocabulary was set")
        return [self._detect(image) for image in images]

    def ground(self, images: Sequence[Image], captions: Sequence[str]) -> list[Grounding]:
        """Boxes of each image for the phrases of its caption, best first; at most ``top_k`` of them.

        A phrase is what stands between separators (``. ?``); see ``token_scores.grounded``. Nothing is dropped by a
        threshold.

        Raises:
            DetectorError: a caption is empty or longer than the model reads, or there are not as many as images.
        """
        if len(images) != len(captions):
            raise DetectorError(f"detector '{self._card.name}': {len(images)} images, {len(captions)} captions")
        return [self._ground(image, text) for image, text in zip(images, captions, strict=True)]

    def ground_spans(self, image: Image, caption: str, phrases: Sequence[Spans]) -> Detections:
        """See ``detectors.interface.SpanDetector``; scores are those of ``token_scores.span_scores``."""
        words, text = self._captions(caption)
        output = self._model(self._features(image), text)
        scores = span_scores(sigmoid(output.pred_logits.numpy()[0]), words, phrases)
        return phrase_boxes(image, scores, output.pred_boxes.numpy()[0], self._settings.top_k)

    def raw(self, image: Image, caption: str) -> dict[str, npt.NDArray[Any]]:
        """Every query, for comparison with other implementations; see ``detectors.interface.RawDetector``.

        The caption is treated as the official code does: a final dot is added where there is none, and tokens beyond
        those that the model reads are cut.

        Returns:
            ``pred_logits`` float32 (Q, 256), -inf beyond the caption's tokens; ``pred_boxes`` float32 (Q, 4) cxcywh,
            relative to the image; ``input_ids`` int64 (n,), with [CLS] and [SEP].
        """
        text = self._model.encode_tokens([self._model.tokenizer.caption(caption)], cut=True)
        output = self._model(self._features(image), text)
        return {
            "pred_logits": output.pred_logits.numpy()[0],
            "pred_boxes": output.pred_boxes.numpy()[0],
            "input_ids": text.ids[0].astype(np.int64),
        }

    def flops(self, image: Image) -> int:
        """Operations of ``detect`` on one image; see ``detectors.interface.CountsFlops``."""
        config, size = self._model.config, self.network_size(image)
        captions = [chunks.text.ids.shape[1] for chunks in self._chunks for _ in chunks.captions]
        return image_flops(config, *size) + sum(pair_flops(config, *size, tokens) for tokens in captions)

    def network_size(self, image: Image) -> tuple[int, int]:
        """Height and width that the network sees."""
        return shorter_side_size(image, self._shorter, self._longest)

    def _image_features(self, image: Image) -> ImageFeatures:
        pixels = resized(image, *self.network_size(image))
        return self._model.encode_image(pixels[None])

    def _encoded_caption(self, text: str) -> tuple[Caption, TextFeatures]:
        caption = caption_of_text(self._model.tokenizer.words, text, self._marks)
        return caption, self._text([caption.ids])

    def _text(self, rows: Sequence[Sequence[int]]) -> TextFeatures:
        try:
            text = self._model.encode_tokens(rows)
        except ValueError as error:
            raise DetectorError(f"detector '{self._card.name}': {error}") from error
        text.features.sync()  # now, not at every image
        return text

    def _detect(self, image: Image) -> Detections:
        features = self._features(image)
        choice = ChunkedChoice(self._settings.chunk_top_k or self._settings.top_k)
        for caption, logits, boxes in self._answers(features):
            scores = class_scores(sigmoid(logits[:, : len(caption.ids)]), caption.phrases)
            if self._nms_iou < NO_SUPPRESSION:
                scores = without_duplicates(scores, from_unit_square(boxes, image), self._nms_iou)
            choice.add(scores, boxes)
        pairs, boxes = choice.best(self._settings.top_k)
        pairs = pairs.above(NOTHING)
        return detections(image, pairs, from_unit_square(boxes, image), self._category_ids)

    def _answers(self, features: ImageFeatures) -> Iterator[tuple[Caption, Floats, Floats]]:
        """Each chunk's caption, logits (Q, 256) and boxes (Q, 4) cxcywh.

        All groups of chunks are started before the first is waited for; each is started when the one before it is
        under way, so that no more than one group's activations are in memory.
        """
        outputs = []
        for chunks in self._chunks:
            output = self._model(features, chunks.text)
            output.pred_logits.sync(False)
            output.pred_boxes.sync(False)
            outputs.append(output)
        for chunks, output in zip(self._chunks, outputs, strict=True):
            yield from zip(chunks.captions, output.pred_logits.numpy(), output.pred_boxes.numpy(), strict=True)

    def _ground(self, image: Image, text: str) -> Grounding:
        caption, encoded = self._captions(text)
        output = self._model(self._features(image), encoded)
        probabilities, boxes = sigmoid(output.pred_logits.numpy()[0]), output.pred_boxes.numpy()[0]
        return grounded(image, text, caption, probabilities, boxes, self._settings.top_k)
