"""Grounding DINO (Liu et al. 2023): from images and captions to boxes with a logit per token."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from ovd_bench.grounding_dino_jt.bert import Bert
from ovd_bench.grounding_dino_jt.clip import Clip
from ovd_bench.grounding_dino_jt.config import Config
from ovd_bench.grounding_dino_jt.decoder import Decoded, Decoder, ExtraQueries, Memory
from ovd_bench.grounding_dino_jt.encoder import Encoder
from ovd_bench.grounding_dino_jt.features import ImageFeatures, TextFeatures
from ovd_bench.grounding_dino_jt.layers import MLP, LayerNorm, Linear
from ovd_bench.grounding_dino_jt.positions import word_positions
from ovd_bench.grounding_dino_jt.pyramid import image_features, project, projections
from ovd_bench.grounding_dino_jt.query_selection import SelectedQueries, best_places, take
from ovd_bench.grounding_dino_jt.swin import Swin
from ovd_bench.grounding_dino_jt.tokens import (
    BERT_SEPARATORS,
    CLIP_SEPARATORS,
    TokenBatch,
    phrase_frames,
    phrase_masks,
    phrase_means,
    prompt_masks,
)
from ovd_bench.kernels.bases import Module
from ovd_bench.kernels.matmul import bmm
from ovd_bench.kernels.runtime import jittor

jt = jittor()
nn = jt.nn

#: Lower bound of the length by which a phrase vector is divided.
_SHORTEST = 1e-6


@dataclass(frozen=True)
class Output:
    """Output of the network for B pairs of image and caption (Q queries).

    Attributes:
        pred_logits: (B, Q, max_text_len), -inf beyond the tokens of the caption.
        pred_boxes: (B, Q, 4) cxcywh, relative to the image.
    """

    pred_logits: Any
    pred_boxes: Any


class GroundingDino(Module):
    """The network; parameters are named as in the official checkpoint.

    ``encode_image`` and ``encode_text`` are independent and their results can be cached; calling the model with both
    gives boxes. One image can be combined with several captions in one call.

    Attributes:
        config: its configuration.
        separators: token ids that end a phrase; set them for a vocabulary other than BERT's uncased one.
    """

    def __init__(self, config: Config) -> None:
        self.config = config
        self.separators: tuple[int, ...] = CLIP_SEPARATORS if config.text.kind == "clip" else BERT_SEPARATORS
        d = config.hidden_dim
        self.backbone = nn.ModuleList([Swin(config.backbone)])
        channels = [config.backbone.channels(stage) for stage in config.backbone.out_stages]
        self.input_proj = projections(channels, d, config.num_feature_levels)
        if config.text.kind == "clip":
            self.clip = Clip(config.text)
        else:
            self.bert = Bert(config.text)
        if config.text.centred:
            self.text_mean = jt.zeros((config.text.hidden_size,))
        self.feat_map = Linear(config.text.hidden_size, d)
        self.transformer = Transformer(config)
        heads = 1 if config.shared_box_head else config.dec_layers
        self.bbox_embed = nn.ModuleList([box_head(d) for _ in range(heads)])
        if config.class_bias:
            self.class_embed = nn.ModuleList([_ClassBias() for _ in range(config.dec_layers)])

    def encode_image(
        self, pixels: npt.NDArray[np.float32], padding: npt.NDArray[np.bool_] | None = None
    ) -> ImageFeatures:
        """Features of images, independent of text.

        Args:
            pixels: float32 (B, 3, H, W), RGB, normalised.
            padding: bool (B, H, W), true where a smaller image was padded; None = all images fill the batch.
        """
        levels = project(self.input_proj, self.backbone[0](jt.array(pixels)))
        transformer, (height, width) = self.transformer, pixels.shape[2:]
        return image_features(
            levels,
            (height, width),
            padding,
            transformer.level_embed,
            self.config.pe_temperature,
            transformer.encoder.normalised,
        )

    def encode_tokens(self, tokens: TokenBatch) -> TextFeatures:
        """Features of captions, independent of images; tokens past ``max_text_len`` are cut, as officially."""
        return self.text_features(tokens, self.read_tokens(tokens))

    def read_tokens(self, tokens: TokenBatch) -> Any:
        """Output of the text encoder, (B, n, hidden_size); tokens past ``max_text_len`` are cut.

        See ``TextConfig.phrase_frame`` for the encoding of phrases. ``centred`` output is
        ``token / |mean of its phrase's words| - text_mean``; a separator counts as its own phrase. The mean over the
        words of a phrase is thus its unit vector minus the mean of all names.
        """
        text = self.config.text
        framed = text.phrase_frame == "framed" and self.config.prompt != "word"
        encoded = self._read_frames(tokens) if framed else self._read_bare(tokens)
        return self._centred(tokens, encoded) if text.centred else encoded

    def _read_bare(self, tokens: TokenBatch) -> Any:
        mask, positions = self._prompt_masks(tokens)
        kept = self._kept(tokens)
        encoder = self.clip if self.config.text.kind == "clip" else self.bert
        return encoder(jt.array(kept.ids), _bias(mask), jt.array(positions))

    def _read_frames(self, tokens: TokenBatch) -> Any:
        frames, places = phrase_frames(tokens, self.separators)
        mask, positions = prompt_masks(frames, "word")  # attention within a frame is not masked
        read = self.bert(jt.array(frames.ids), _bias(mask), jt.array(positions))
        places = places[:, : self.config.max_text_len]
        rows = read.reshape(-1, read.shape[-1])[jt.array(np.ascontiguousarray(places.reshape(-1)))]
        return rows.reshape(*places.shape, read.shape[-1])

    def _centred(self, tokens: TokenBatch, encoded: Any) -> Any:
        limit = self.config.max_text_len
        mask = phrase_masks(tokens.ids, self.separators)[0][:, :limit, :limit]
        means = bmm(jt.array(phrase_means(self._kept(tokens), mask, self.separators)), encoded)
        lengths = (means * means).sum(dim=-1, keepdims=True).sqrt()
        return encoded / lengths.maximum(_SHORTEST) - self.text_mean

    def text_features(self, tokens: TokenBatch, encoded: Any) -> TextFeatures:
        """Output of ``read_tokens``, prepared for ``execute``.

        Args:
            tokens: tokens of B captions.
            encoded: (B, n, hidden_size).
        """
        mask, positions = self._prompt_masks(tokens)
        kept = self._kept(tokens)
        if self.config.prompt == "sentence":
            encoded = bmm(jt.array(phrase_means(kept, mask, self.separators)), encoded)
        return TextFeatures(
            ids=kept.ids,
            real=kept.real,
            features=self.feat_map(encoded),
            positions=jt.array(word_positions(positions, self.config.hidden_dim)),
            bias=_bias(mask),
            padding=None if kept.real.all() else jt.array(~kept.real),
        )

    def _prompt_masks(self, tokens: TokenBatch) -> tuple[npt.NDArray[np.bool_], npt.NDArray[np.int32]]:
        limit = self.config.max_text_len
        mask, positions = prompt_masks(tokens, self.config.prompt, self.separators)
        return mask[:, :limit, :limit], positions[:, :limit]

    def _kept(self, tokens: TokenBatch) -> TokenBatch:
        limit = self.config.max_text_len
        return TokenBatch(tokens.ids[:, :limit], tokens.real[:, :limit])

    def execute(self, image: ImageFeatures, text: TextFeatures) -> Output:
        """Boxes and logits of B captions, each with its own image, or all with the same.

        Args:
            image: features of B images or of one.
            text: features of B captions.
        """
        seen, words = self.transformer.encoder(image, text)
        selection = self.transformer.select(seen, words, image, text)
        decoded = self.decode(seen, words, selection, image, text)
        return self.output(decoded, len(decoded.hidden) - 1, words, text)

    def decode(
        self,
        seen: Any,
        words: Any,
        selection: SelectedQueries,
        image: ImageFeatures,
        text: TextFeatures,
        extra: ExtraQueries | None = None,
    ) -> Decoded:
        """Run the decoder from the selected boxes, and from those of ``extra``, which come first in the results.

        See ``Encoder.execute`` for ``seen`` and ``words``.
        """
        queries = self.transformer.tgt_embed.weight[: selection.boxes.shape[1]]
        queries = queries.unsqueeze(0).expand(len(text), *queries.shape)
        # learned boxes get gradients from the decoder, selected ones only from the encoder's own loss
        boxes = selection.boxes if selection.hidden is None else selection.boxes.detach()
        if extra is not None:
            queries, boxes = jt.concat([extra.content, queries], dim=1), jt.concat([extra.boxes, boxes], dim=1)
        bias = None
        if text.padding is not None:
            bias = jt.array(np.where(text.real, np.float32(0), np.float32(-np.inf))[:, None, None])
        heads = [self.box_head(layer) for layer in range(self.config.dec_layers)]
        memory = Memory(seen, words, bias, image, None if extra is None else extra.bias)
        decoded: Decoded = self.transformer.decoder(queries, boxes, memory, heads)
        return decoded

    def output(self, decoded: Decoded, layer: int, words: Any, text: TextFeatures, *, pad: bool = True) -> Output:
        """Logits and boxes of a decoder layer; see ``token_logits`` for ``pad``."""
        hidden = decoded.hidden[layer]
        logits = token_logits(hidden, words, text, self.config, pad=pad)
        if self.config.class_bias:
            logits = logits + self.class_embed[layer].bias
        return Output(logits, decoded.boxes(layer, self.box_head(layer), self.config.box_epsilon))

    def box_head(self, layer: int) -> Any:
        """The box head of a decoder layer."""
        return self.bbox_embed[0 if self.config.shared_box_head else layer]


class Transformer(Module):
    """Encoder, query selection and decoder."""

    def __init__(self, config: Config) -> None:
        d = config.hidden_dim
        self.level_embed = jt.randn((config.num_feature_levels, d))
        self.tgt_embed = nn.Embedding(config.num_queries, d)
        self.encoder = Encoder(config)
        self.decoder = Decoder(config)
        if config.query_selection != "language":
            self.refpoint_embed = nn.Embedding(config.num_queries, 4)
        if config.query_selection != "static":
            self.enc_output = Linear(d, d)
            self.enc_output_norm = LayerNorm(d)
            self.enc_out_bbox_embed = box_head(d)
            if config.class_bias:
                self.enc_out_class_embed = _ClassBias()
        self._config = config

    def select(self, seen: Any, words: Any, image: ImageFeatures, text: TextFeatures) -> SelectedQueries:
        """Initial boxes: around the positions that match any token best, or the learned ones."""
        if self._config.query_selection == "language":
            return self._select_by_words(seen, words, image, text)
        boxes = jt.sigmoid(self.refpoint_embed.weight).unsqueeze(0)
        return SelectedQueries(boxes.expand(len(text), *boxes.shape[1:]))

    def encoder_predictions(
        self, selection: SelectedQueries, seen: Any, words: Any, image: ImageFeatures, text: TextFeatures
    ) -> SelectedQueries | None:
        """Input of the encoder's own loss: positions that match the text best, with their boxes; None without it.

        Args:
            selection: result of ``select`` for the other arguments.
            seen: (B, N, d), memory of the encoder.
            words: (B, n, d), fused text.
            image: features of B images or of one.
            text: features of B captions.
        """
        if self._config.query_selection == "static_encoder_loss":
            return self._select_by_words(seen, words, image, text)
        return None if selection.hidden is None else selection

    def _select_by_words(self, seen: Any, words: Any, image: ImageFeatures, text: TextFeatures) -> SelectedQueries:
        return self.select_by(lambda hidden: token_logits(hidden, words, text, self._config, pad=False), seen, image)

    def select_by(self, head: Callable[[Any], Any], seen: Any, image: ImageFeatures) -> SelectedQueries:
        """Initial boxes: around the positions with the highest best logits.

        Args:
            head: logits (B, N, n) of encoder output (B, N, d).
            seen: (B, N, d), memory of the encoder.
            image: features of B images or of one.
        """
        hidden = self.enc_output_norm(self.enc_output(seen * image.usable))
        places = best_places(head(hidden).max(dim=-1), self._config.num_queries)
        chosen = take(hidden, places)
        logits = self.enc_out_bbox_embed(chosen) + take(image.proposals, places)
        return SelectedQueries(jt.sigmoid(logits), chosen)

    def selected_logits(self, selection: SelectedQueries, words: Any, text: TextFeatures) -> Any:
        """Logits (B, Q, n) of the selected positions, for the encoder's own loss in training."""
        logits = token_logits(selection.hidden, words, text, self._config, pad=False)
        return logits + self.enc_out_class_embed.bias if self._config.class_bias else logits


def token_logits(hidden: Any, words: Any, text: TextFeatures, config: Config, *, pad: bool = True) -> Any:
    """Product of each row with each token (ContrastiveEmbed): no norm, -inf at padding.

    Args:
        hidden: (B, R, d).
        words: (B, n, d), fused text.
        text: for its padding.
        config: ``class_scale`` and ``max_text_len``.
        pad: whether to add columns of -inf up to ``max_text_len``.

    Returns:
        (B, R, n) or (B, R, max_text_len).
    """
    logits = bmm(hidden, words, transpose_b=True)
    if config.class_scale == "sqrt":
        logits = logits * config.hidden_dim**-0.5
    if text.padding is not None:
        logits = logits.masked_fill(text.padding.unsqueeze(1), float("-inf"))
    missing = config.max_text_len - logits.shape[-1]
    if pad and missing:
        logits = jt.concat([logits, jt.full((*logits.shape[:2], missing), float("-inf"))], dim=-1)
    return logits


def _bias(mask: npt.NDArray[np.bool_]) -> Any:
    """A mask (B, n, n), true where a token attends to another, as a bias of logits (B, 1, n, n)."""
    return jt.array(np.where(mask, np.float32(0), np.float32(-np.inf))[:, None])


class _ClassBias(Module):
    """MM-Grounding-DINO's bias of a class head, initially the logit of a probability of 0.01."""

    def __init__(self) -> None:
        self.bias = jt.array(np.array([-np.log(99.0)], np.float32))


def box_head(width: int) -> Any:
    """Three layers that predict four box changes, initially zero."""
    head = MLP(width, width, 4, 3)
    last = head.layers[2]
    last.weight, last.bias = jt.zeros(last.weight.shape), jt.zeros(last.bias.shape)
    return head
