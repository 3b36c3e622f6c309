"""Grounding DINO (Liu et al. 2023): from images and captions to boxes with a logit per token."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from grounding_dino_jt.bert import Bert
from grounding_dino_jt.clip import Clip
from grounding_dino_jt.config import Config
from grounding_dino_jt.decoder import Decoded, Decoder, ExtraQueries, Memory
from grounding_dino_jt.encoder import Encoder
from grounding_dino_jt.features import ImageFeatures, TextFeatures
from grounding_dino_jt.layers import MLP, LayerNorm, Linear, inverse_sigmoid, xavier_uniform
from grounding_dino_jt.positions import image_positions, word_positions
from grounding_dino_jt.selection import Selection, best_places, cells, take
from grounding_dino_jt.swin import Swin
from grounding_dino_jt.tokens import BERT_SEPARATORS, CLIP_SEPARATORS, TokenBatch, phrase_means, prompt_masks
from kernels.bases import Module
from kernels.linear import linear
from kernels.matmul import bmm
from kernels.norms import group_norm
from kernels.runtime import jittor

jt = jittor()
nn = jt.nn


@dataclass(frozen=True)
class Output:
    """What the network says of B pairs of image and caption (Q queries).

    Attributes:
        pred_logits: (B, Q, max_text_len), -inf beyond the tokens of the caption.
        pred_boxes: (B, Q, 4) cxcywh, relative to the image.
    """

    pred_logits: Any
    pred_boxes: Any


class GroundingDino(Module):
    """The network; parameters are named as in the official checkpoint.

    ``encode_image`` and ``encode_text`` each know nothing of the other and may be kept; calling the model with both
    gives boxes. One image may be asked several captions at once.
    """

    def __init__(self, config: Config) -> None:
        self.config = config
        d = config.hidden_dim
        self.backbone = nn.ModuleList([Swin(config.backbone)])
        channels = [config.backbone.channels(stage) for stage in config.backbone.out_stages]
        self.input_proj = nn.ModuleList([_projection(width, d, 1) for width in channels])
        for extra in range(config.num_feature_levels - len(channels)):
            self.input_proj.append(_projection(channels[-1] if extra == 0 else d, d, 3))
        if config.text.kind == "clip":
            self.clip = Clip(config.text)
        else:
            self.bert = Bert(config.text)
        self.feat_map = Linear(config.text.hidden_size, d)
        self.transformer = Transformer(config)
        heads = 1 if config.shared_box_head else config.dec_layers
        self.bbox_embed = nn.ModuleList([box_head(d) for _ in range(heads)])
        if config.class_bias:
            self.class_embed = nn.ModuleList([_ClassBias() for _ in range(config.dec_layers)])

    def encode_image(
        self, pixels: npt.NDArray[np.float32], padding: npt.NDArray[np.bool_] | None = None
    ) -> ImageFeatures:
        """Everything about images that no text changes.

        Args:
            pixels: float32 (B, 3, H, W), RGB, normalised.
            padding: bool (B, H, W), true where a smaller image was padded; None = all images fill the batch.
        """
        maps = self.backbone[0](jt.array(pixels))
        levels = [self._project(level, feature) for level, feature in enumerate(maps)]
        for level in range(len(levels), self.config.num_feature_levels):
            below = maps[-1] if level == len(maps) else levels[-1]
            levels.append(self._project(level, below))
        shapes = [(int(level.shape[1]), int(level.shape[2])) for level in levels]
        padded = padding is not None and bool(padding.any())
        hidden = padding if padding is not None and padded else np.zeros((1, *pixels.shape[2:]), np.bool_)
        masks = [_nearest(hidden, *shape) for shape in shapes]
        ratios = np.stack([_valid_ratio(mask) for mask in masks], 1)
        d, temperature = self.config.hidden_dim, self.config.pe_temperature
        positions = [
            jt.array(image_positions(mask, d, temperature).reshape(len(mask), -1, d)) + self.transformer.level_embed[n]
            for n, mask in enumerate(masks)
        ]
        flat_padding = np.concatenate([mask.reshape(len(mask), -1) for mask in masks], 1) if padded else None
        geometry = cells(shapes, ratios, flat_padding)
        features = jt.concat([level.reshape(level.shape[0], -1, d) for level in levels], dim=1)
        return ImageFeatures(
            features=self.transformer.encoder.normalised(features),
            positions=jt.concat(positions, dim=1),
            shapes=shapes,
            valid_ratios=ratios,
            references=jt.array(geometry.references),
            proposals=jt.array(geometry.proposals),
            usable=jt.array(geometry.usable),
            padding=None if flat_padding is None else jt.array(flat_padding),
        )

    def encode_tokens(self, tokens: TokenBatch) -> TextFeatures:
        """Everything about captions that no image changes; tokens past ``max_text_len`` are cut, as officially."""
        return self.text_features(tokens, self.read_tokens(tokens))

    def read_tokens(self, tokens: TokenBatch) -> Any:
        """Output of the text encoder, (B, n, hidden_size); tokens past ``max_text_len`` are cut."""
        mask, positions = self._prompt_masks(tokens)
        kept = self._kept(tokens)
        encoder = self.clip if self.config.text.kind == "clip" else self.bert
        return encoder(jt.array(kept.ids), _bias(mask), jt.array(positions))

    def text_features(self, tokens: TokenBatch, encoded: Any) -> TextFeatures:
        """What ``read_tokens`` gave, made ready for ``execute``.

        Args:
            tokens: of B captions.
            encoded: (B, n, hidden_size).
        """
        mask, positions = self._prompt_masks(tokens)
        kept = self._kept(tokens)
        if self.config.prompt == "sentence":
            encoded = bmm(jt.array(phrase_means(kept, mask, self._separators)), encoded)
        return TextFeatures(
            ids=kept.ids,
            real=kept.real,
            features=self.feat_map(encoded),
            positions=jt.array(word_positions(positions, self.config.hidden_dim)),
            bias=_bias(mask),
            padding=None if kept.real.all() else jt.array(~kept.real),
        )

    @property
    def _separators(self) -> tuple[int, ...]:
        return CLIP_SEPARATORS if self.config.text.kind == "clip" else BERT_SEPARATORS

    def _prompt_masks(self, tokens: TokenBatch) -> tuple[npt.NDArray[np.bool_], npt.NDArray[np.int32]]:
        limit = self.config.max_text_len
        mask, positions = prompt_masks(tokens, self.config.prompt, self._separators)
        return mask[:, :limit, :limit], positions[:, :limit]

    def _kept(self, tokens: TokenBatch) -> TokenBatch:
        limit = self.config.max_text_len
        return TokenBatch(tokens.ids[:, :limit], tokens.real[:, :limit])

    def execute(self, image: ImageFeatures, text: TextFeatures) -> Output:
        """Boxes and logits of B captions, each with its own image, or all with the same.

        Args:
            image: of B images or of one.
            text: of B captions.
        """
        seen, words = self.transformer.encoder(image, text)
        selection = self.transformer.select(seen, words, image, text)
        decoded = self.decode(seen, words, selection, image, text)
        return self.output(decoded, len(decoded.hidden) - 1, words, text)

    def decode(
        self,
        seen: Any,
        words: Any,
        selection: Selection,
        image: ImageFeatures,
        text: TextFeatures,
        extra: ExtraQueries | None = None,
    ) -> Decoded:
        """Run the decoder from the selected boxes, and from those of ``extra``, which come first in the results.

        See ``Encoder.execute`` for ``seen`` and ``words``.
        """
        queries = self.transformer.tgt_embed.weight[: selection.boxes.shape[1]]
        queries = queries.unsqueeze(0).expand(len(text), *queries.shape)
        # learned boxes learn from the decoder, selected ones only from the encoder's own loss
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
        """Logits and boxes that a decoder layer gives; see ``token_logits`` for ``pad``."""
        hidden = decoded.hidden[layer]
        logits = token_logits(hidden, words, text, self.config, pad=pad)
        if self.config.class_bias:
            logits = logits + self.class_embed[layer].bias
        before = inverse_sigmoid(decoded.references[layer], self.config.box_epsilon)
        return Output(logits, jt.sigmoid(self.box_head(layer)(hidden) + before))

    def box_head(self, layer: int) -> Any:
        """The box head of a decoder layer."""
        return self.bbox_embed[0 if self.config.shared_box_head else layer]

    def _project(self, level: int, feature: Any) -> Any:
        """A map (B, H, W, C) to width d: convolution and GroupNorm, (B, H', W', d)."""
        conv, norm = self.input_proj[level][0], self.input_proj[level][1]
        if conv.weight.shape[-1] == 1:
            x = linear(feature, conv.weight.reshape(conv.weight.shape[:2]), conv.bias).permute(0, 3, 1, 2)
        else:
            x = conv(feature.permute(0, 3, 1, 2))
        return group_norm(x, 32, norm.weight, norm.bias, 1e-5).permute(0, 2, 3, 1)


class Transformer(Module):
    """Encoder, query selection and decoder."""

    def __init__(self, config: Config) -> None:
        d = config.hidden_dim
        self.level_embed = jt.randn((config.num_feature_levels, d))
        self.tgt_embed = nn.Embedding(config.num_queries, d)
        self.encoder = Encoder(config)
        self.decoder = Decoder(config)
        if config.query_selection == "language":
            self.enc_output = Linear(d, d)
            self.enc_output_norm = LayerNorm(d)
            self.enc_out_bbox_embed = box_head(d)
            if config.class_bias:
                self.enc_out_class_embed = _ClassBias()
        else:
            self.refpoint_embed = nn.Embedding(config.num_queries, 4)
        self._config = config

    def select(self, seen: Any, words: Any, image: ImageFeatures, text: TextFeatures) -> Selection:
        """Boxes to start from: around the places that match any token best, or the learned ones."""
        config = self._config
        if config.query_selection == "static":
            boxes = jt.sigmoid(self.refpoint_embed.weight).unsqueeze(0)
            return Selection(boxes.expand(len(text), *boxes.shape[1:]))
        hidden = self.enc_output_norm(self.enc_output(seen * image.usable))
        best = token_logits(hidden, words, text, config, pad=False).max(dim=-1)
        places = best_places(best, config.num_queries)
        chosen = take(hidden, places)
        logits = self.enc_out_bbox_embed(chosen) + take(image.proposals, places)
        return Selection(jt.sigmoid(logits), chosen)

    def selected_logits(self, selection: Selection, words: Any, text: TextFeatures) -> Any:
        """Logits (B, Q, n) of the selected places, for the encoder's own loss in training."""
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
    """A mask (B, n, n), true where a token sees another, as what is added to logits (B, 1, n, n)."""
    return jt.array(np.where(mask, np.float32(0), np.float32(-np.inf))[:, None])


class _ClassBias(Module):
    """MM-Grounding-DINO's bias of a class head, the logit of a probability of 0.01 at first."""

    def __init__(self) -> None:
        self.bias = jt.array(np.array([-np.log(99.0)], np.float32))


def box_head(width: int) -> Any:
    """Three layers to four box changes; they start at no change."""
    head = MLP(width, width, 4, 3)
    last = head.layers[2]
    last.weight, last.bias = jt.zeros(last.weight.shape), jt.zeros(last.bias.shape)
    return head


def _projection(inputs: int, outputs: int, kernel: int) -> Any:
    conv = nn.Conv2d(inputs, outputs, kernel, stride=1 if kernel == 1 else 2, padding=kernel // 2)
    conv.weight = xavier_uniform(
        outputs, inputs, kernel, kernel, fan_in=inputs * kernel**2, fan_out=outputs * kernel**2
    )
    conv.bias = jt.zeros((outputs,))
    return nn.Sequential(conv, nn.GroupNorm(32, outputs))


def _nearest(mask: npt.NDArray[np.bool_], height: int, width: int) -> npt.NDArray[np.bool_]:
    """A mask (B, H, W) at another size, as ``interpolate`` with mode nearest."""
    rows = (np.arange(height) * np.float32(mask.shape[1] / height)).astype(np.int64)
    columns = (np.arange(width) * np.float32(mask.shape[2] / width)).astype(np.int64)
    return mask[:, rows.clip(max=mask.shape[1] - 1)][:, :, columns.clip(max=mask.shape[2] - 1)]


def _valid_ratio(mask: npt.NDArray[np.bool_]) -> npt.NDArray[np.float32]:
    """Share of the first row and column that shows the image, x and y: (B, 2)."""
    real = ~mask
    ratios: npt.NDArray[np.float32] = np.stack([real[:, 0].mean(1), real[:, :, 0].mean(1)], -1).astype(np.float32)
    return ratios
