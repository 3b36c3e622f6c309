"""The network: image and caption to a logit per location and token, a box and a centerness per location.

Source: ``modeling/detector/generalized_vl_rcnn.py`` and ``modeling/rpn/vldyhead.py`` of microsoft/GLIP. The modules
have the official names. It is split where results can be reused: ``encode_text`` does not depend on images,
``encode_image`` not on text; without fusion this is everything except one matrix product.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional

from ovd_bench.baselines.bert import Bert, BertLayer
from ovd_bench.baselines.glip.config import GlipConfig
from ovd_bench.baselines.glip.dyhead import DyConv
from ovd_bench.baselines.glip.fpn import Fpn
from ovd_bench.baselines.glip.fusion import CLAMP, Fusion
from ovd_bench.baselines.swin import Swin

#: Probability of a token at a location before training.
_PRIOR = 0.01


@dataclass(frozen=True)
class TextFeatures:
    """Captions for the head (B captions, n tokens).

    Attributes:
        hidden: (B, n, D), last hidden states of BERT.
        mask: bool (B, n), False for padding.
    """

    hidden: Tensor
    mask: Tensor


@dataclass(frozen=True)
class Boxes:
    """Output of the head per location, without tokens (B images, N locations of all levels).

    Attributes:
        deltas: (B, N, 4), see ``baselines.glip.anchors``.
        centerness: (B, N), logits.
    """

    deltas: Tensor
    centerness: Tensor


@dataclass(frozen=True)
class ImageFeatures:
    """Images for the head (B images).

    Attributes:
        levels: (B, C, H, W) each, finest first: of the pyramid; without fusion, output of the whole head.
        boxes: without fusion, the boxes; else None.
    """

    levels: tuple[Tensor, ...]
    boxes: Boxes | None

    @property
    def shapes(self) -> tuple[tuple[int, int], ...]:
        """Height and width of the levels, in locations."""
        return tuple((int(level.shape[2]), int(level.shape[3])) for level in self.levels)


@dataclass(frozen=True)
class GlipOutput:
    """Output of the network (B pairs of image and caption, N locations of all levels, n tokens).

    Attributes:
        logits: (B, N, n).
        deltas: (B, N, 4).
        centerness: (B, N), logits.
        shapes: height and width of the levels, whose locations are concatenated, row by row.
    """

    logits: Tensor
    deltas: Tensor
    centerness: Tensor
    shapes: tuple[tuple[int, int], ...]


class Glip(nn.Module):  # type: ignore[misc]
    """GLIP."""

    def __init__(self, config: GlipConfig) -> None:
        super().__init__()
        self.config = config
        stages = [config.swin.channels(stage) for stage in config.swin.out_stages]
        self.backbone = nn.ModuleDict(
            {"body": Swin(config.swin), "fpn": Fpn(stages, config.channels, config.extra_levels)}
        )
        bert = Bert(config.bert, config.dropout, pooler=config.text_pooler)
        self.language_backbone = nn.ModuleDict({"body": nn.ModuleDict({"model": bert})})
        self.rpn = nn.ModuleDict({"head": VlDyHead(config)})

    @property
    def _head(self) -> VlDyHead:
        return cast(VlDyHead, self.rpn["head"])

    def encode_text(self, ids: Tensor, mask: Tensor) -> TextFeatures:
        """Int64 (B, n) tokens with [CLS] and [SEP], and bool (B, n), False for padding.

        Padding does not affect any token; the amount of padding changes at most rounding.
        """
        return TextFeatures(self.language_backbone["body"]["model"](ids, mask), mask)

    def encode_image(self, pixels: Tensor) -> ImageFeatures:
        """(B, 3, H, W), normalised BGR; see ``normalize``."""
        maps = [tokens.permute(0, 3, 1, 2) for tokens in self.backbone["body"](pixels)]
        levels = tuple(self.backbone["fpn"](maps))
        return ImageFeatures(levels, None) if self.config.fused else self._head.see(levels)

    def forward(self, image: ImageFeatures, text: TextFeatures) -> GlipOutput:
        """Every image with its caption, or one of one side with all of the other. Neither is modified."""
        return cast(GlipOutput, self._head(image, text))


def normalize(pixels: Tensor) -> Tensor:
    """RGB 0 … 255 of shape (..., 3, H, W) as network input: BGR, with the statistics of ``INPUT``."""
    mean = pixels.new_tensor([103.530, 116.280, 123.675]).view(3, 1, 1)
    std = pixels.new_tensor([57.375, 57.120, 58.395]).view(3, 1, 1)
    return (pixels.flip(-3) - mean) / std


class VlDyHead(nn.Module):  # type: ignore[misc]
    """The head: blocks of fusion, language layer and convolutions, then box, centerness and dot product."""

    def __init__(self, config: GlipConfig) -> None:
        super().__init__()
        width, channels = config.bert.width, config.channels
        self._fused = config.fused
        tower: list[nn.Module] = []
        for _ in range(config.blocks):
            if config.fused:
                fusion = Fusion(
                    channels, width, config.fusion_width, config.fusion_heads, config.dropout, config.first_gate
                )
                tower += [nn.ModuleDict({"b_attn": fusion}), BertLayer(config.bert, config.dropout, CLAMP)]
            tower.append(DyConv(channels, config.norm_groups, config.coarse_offsets))
        self.dyhead_tower = nn.ModuleList(tower)
        self.cls_logits = nn.Conv2d(channels, config.classes, 1) if config.classes else None
        self.bbox_pred = nn.Conv2d(channels, 4, 1)
        self.centerness = nn.Conv2d(channels, 1, 1)
        self.dot_product_projection_text = nn.Linear(width, channels)
        self.log_scale = nn.Parameter(torch.zeros(1))
        self.bias_lang = nn.Parameter(torch.zeros(width))
        self.bias0 = nn.Parameter(torch.full((1,), -math.log((1 - _PRIOR) / _PRIOR)))
        self.scales = nn.ModuleList(_Scale() for _ in config.anchor_sizes)
        for layer in (self.bbox_pred, self.centerness):
            nn.init.normal_(layer.weight, std=0.01)
            nn.init.zeros_(layer.bias)

    def see(self, levels: Sequence[Tensor]) -> ImageFeatures:
        """Without fusion: the part of the head that does not need text."""
        for convolutions in self.dyhead_tower:
            levels = convolutions(levels)
        return ImageFeatures(tuple(levels), self._boxes(levels))

    def forward(self, image: ImageFeatures, text: TextFeatures) -> GlipOutput:
        """See ``Glip.forward``."""
        levels, hidden, boxes = image.levels, text.hidden, image.boxes
        if boxes is None:
            batch = max(len(levels[0]), len(hidden))
            levels = tuple(level.expand(batch, -1, -1, -1) for level in levels)
            hidden, mask = hidden.expand(batch, -1, -1), text.mask.expand(batch, -1)
            levels, hidden = self._blocks(levels, hidden, mask)
            boxes = self._boxes(levels)
        else:
            # Variant A reads ``embedded``, whose padding is zero; the columns of padding are not used.
            hidden = hidden * text.mask[..., None]
        logits = self._dot_product(_flat(levels), hidden)
        batch = len(logits)
        deltas, centerness = boxes.deltas.expand(batch, -1, -1), boxes.centerness.expand(batch, -1)
        return GlipOutput(logits, deltas, centerness, image.shapes)

    def _blocks(self, levels: Sequence[Tensor], hidden: Tensor, mask: Tensor) -> tuple[tuple[Tensor, ...], Tensor]:
        for number in range(0, len(self.dyhead_tower), 3):
            fusion, language, convolutions = self.dyhead_tower[number : number + 3]
            flat, hidden = fusion["b_attn"](_flat(levels), hidden, mask)
            hidden = language(hidden, mask)
            levels = convolutions(_unflat(flat, levels))
        return tuple(levels), hidden

    def _boxes(self, levels: Sequence[Tensor]) -> Boxes:
        deltas = [scale(self.bbox_pred(level)) for scale, level in zip(self.scales, levels, strict=True)]
        return Boxes(_flat(deltas), _flat([self.centerness(level) for level in levels]).squeeze(2))

    def _dot_product(self, image: Tensor, hidden: Tensor) -> Tensor:
        """(B, N, C) and (B, n, D) to logits (B, N, n); only the text is normalised."""
        unit = functional.normalize(hidden, dim=-1)
        tokens = self.dot_product_projection_text(unit / 2) / self.log_scale.exp()
        bias = unit @ self.bias_lang + self.bias0
        return (image @ tokens.transpose(-1, -2) + bias[:, None]).clamp(-CLAMP, CLAMP)


class _Scale(nn.Module):  # type: ignore[misc]
    """A learned factor."""

    def __init__(self) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.ones(1))

    def forward(self, values: Tensor) -> Tensor:
        return values * self.scale


def _flat(levels: Sequence[Tensor]) -> Tensor:
    """Levels (B, C, H, W) to (B, N, C), one after the other, row by row."""
    return torch.cat([level.flatten(2).transpose(1, 2) for level in levels], dim=1)


def _unflat(flat: Tensor, levels: Sequence[Tensor]) -> list[Tensor]:
    """(B, N, C) to levels of the given sizes."""
    parts = flat.split([level.shape[2] * level.shape[3] for level in levels], dim=1)
    return [part.transpose(1, 2).unflatten(2, level.shape[2:]) for part, level in zip(parts, levels, strict=True)]
