"""The detector: a grid of image tokens, each compared with every phrase and giving one box.

After Minderer et al. 2022, *Simple Open-Vocabulary Object Detection with Vision Transformers*, section 3: no
interaction between image and text before the dot product, so the score of a class does not depend on other classes.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional

from ovd_bench.baselines.owl_nano.backbone import NanoSwin, TokenConv
from ovd_bench.baselines.owl_nano.config import OwlNanoConfig

STRIDE = 8
#: Side of a box before training, in cells.
_PRIOR_CELLS = 4.0
#: Class probability before training.
_PRIOR_PROBABILITY = 0.01
_MAX_LOG_SIZE = 4.0


class Output(NamedTuple):
    """Output of the network for B images with N cells and K classes.

    Attributes:
        logits: (B, N, K) before the sigmoid.
        boxes_xyxy: (B, N, 4), pixels of the network input; may extend over its border.
        quality: (B, N), logit of the expected IoU of the box; None without that branch.
    """

    logits: Tensor
    boxes_xyxy: Tensor
    quality: Tensor | None


class OwlNano(nn.Module):  # type: ignore[misc]
    """The network.

    Attributes:
        text_mean: (text_width,), mean phrase vector of the classes seen in training; subtracted from every phrase.
    """

    text_mean: Tensor

    def __init__(self, config: OwlNanoConfig) -> None:
        super().__init__()
        self.config = config
        self.backbone = NanoSwin(config.widths, config.depths, config.window)
        fine, middle, coarse = config.widths
        self.from_fine = TokenConv(fine, config.neck, 3, 2)
        self.from_middle = nn.Linear(middle, config.neck)
        self.from_coarse = nn.Linear(coarse, config.neck)
        self.norm = nn.LayerNorm(config.neck)
        self.class_tower = tower(config.neck)
        self.box_tower = tower(config.neck)
        self.embed = nn.Linear(config.neck, config.embedding)
        self.scale = nn.Linear(config.neck, 1)
        self.shift = nn.Linear(config.neck, 1)
        self.box = nn.Linear(config.neck, 4)
        self.quality = nn.Linear(config.neck, 1) if config.assignment == "one_to_many" else None
        if config.classifier == "text":
            self.text_projection = nn.Linear(config.text_width, config.embedding)
        else:
            self.class_vectors = nn.Parameter(torch.randn(config.classes, config.embedding))
        self.register_buffer("text_mean", torch.zeros(config.text_width))
        self._start()

    def _start(self) -> None:
        """Initialise: boxes of the prior size at their cell, low class probabilities."""
        nn.init.zeros_(self.box.weight)
        nn.init.zeros_(self.box.bias)
        for layer in (self.scale, self.shift):
            nn.init.zeros_(layer.weight)
        nn.init.constant_(self.scale.bias, 9.0)  # elu(9) + 1 = 10
        nn.init.constant_(self.shift.bias, -math.log(1 / _PRIOR_PROBABILITY - 1) / 10.0)

    def queries(self, phrases: Tensor | None) -> Tensor:
        """Class vectors (K, embedding) of norm 1.

        Args:
            phrases: (K, text_width) phrase vectors; None with learned classes, which are then all returned.
        """
        if self.config.classifier == "learned":
            return functional.normalize(self.class_vectors, dim=-1)
        if phrases is None:
            raise ValueError("owl-nano: classifier 'text' needs phrase vectors")
        return functional.normalize(self.text_projection(phrases - self.text_mean), dim=-1)

    def forward(self, images: Tensor, queries: Tensor) -> Output:
        """Detect.

        Args:
            images: (B, H, W, 3), see ``normalize``; H and W are multiples of ``config.multiple``.
            queries: (K, embedding), from ``queries``.
        """
        return self.find(self.see(images), queries)

    def see(self, images: Tensor) -> Tensor:
        """What depends only on the images (B, H, W, 3): (B, H/8, W/8, neck)."""
        fine, middle, coarse = self.backbone(images)
        up = self.from_coarse(coarse).repeat_interleave(2, 1).repeat_interleave(2, 2)
        tokens: Tensor = self.norm(self.from_fine(fine) + self.from_middle(middle) + up)
        return tokens

    def find(self, tokens: Tensor, queries: Tensor) -> Output:
        """Detect in images that were seen; see ``forward``."""
        height, width = tokens.shape[1:3]
        looks = self.class_tower(tokens).flatten(1, 2)
        places = self.box_tower(tokens).flatten(1, 2)
        similarity = functional.normalize(self.embed(looks), dim=-1) @ queries.T  # (B, N, K)
        logits = (similarity + self.shift(looks)) * (functional.elu(self.scale(looks)) + 1)
        boxes = cell_boxes(self.box(places).float(), height, width)
        return Output(logits, boxes, None if self.quality is None else self.quality(places)[..., 0])


def tower(width: int) -> nn.Sequential:
    """A 3 x 3 convolution with norm and activation, (B, H, W, C) to the same."""
    return nn.Sequential(TokenConv(width, width, 3), nn.LayerNorm(width), nn.SiLU())


def normalize(images: Tensor) -> Tensor:
    """uint8 pixels to about -1 … 1, float32, same shape."""
    return images.float() / 127.5 - 1


def cell_centres(height: int, width: int, device: torch.device | None = None) -> Tensor:
    """Centres of a grid of cells in row order, (height * width, 2) x y, pixels of the network input."""
    rows = torch.arange(height, device=device).repeat_interleave(width)
    columns = torch.arange(width, device=device).repeat(height)
    return (torch.stack([columns, rows], dim=1).float() + 0.5) * STRIDE


def cell_boxes(offsets: Tensor, height: int, width: int) -> Tensor:
    """Boxes (B, N, 4) xyxy in pixels from the predictions of each cell.

    Args:
        offsets: (B, N, 4): shift of the centre in cells (x, y), logarithm of width and height relative to the prior.
        height: height of the grid in cells.
        width: width of the grid, N = height * width.
    """
    centres = cell_centres(height, width, offsets.device) + offsets[..., :2] * STRIDE
    halves = 0.5 * _PRIOR_CELLS * STRIDE * offsets[..., 2:].clamp(-_MAX_LOG_SIZE, _MAX_LOG_SIZE).exp()
    return torch.cat([centres - halves, centres + halves], dim=-1)
