"""Parts that several contestants share, and their common interface."""

from __future__ import annotations

from typing import Any, NamedTuple, Protocol

import torch
from torch import Tensor, nn
from torch.nn import functional

from ovd_bench.baselines.controlled.captions import Captions
from ovd_bench.baselines.controlled.config import ContestantConfig
from ovd_bench.baselines.owl_nano.assign import Targets
from ovd_bench.baselines.owl_nano.model import tower
from ovd_bench.baselines.swin import Swin


class Found(NamedTuple):
    """Detections of a contestant in one image (N boxes, K phrases).

    Attributes:
        boxes_xyxy: (N, 4), pixels of the network input; may extend over its border.
        scores: (K, N), 0 … 1, higher is more certain.
    """

    boxes_xyxy: Tensor
    scores: Tensor


class Contestant(Protocol):
    """A detector of the study; a ``torch.nn.Module``.

    Attributes:
        backbone: the part that all contestants share.
    """

    backbone: Swin

    def losses(self, pixels: Tensor, captions: Captions, targets: Targets) -> dict[str, Tensor]:
        """Weighted parts of the loss.

        Args:
            pixels: (B, 3, H, W), normalised for the backbone.
            captions: captions of the B images.
            targets: objects; ``rows`` are numbers of phrases, ``sure`` those that the caption has.
        """
        ...

    def see(self, pixels: Tensor) -> Any:
        """Features of one image (1, 3, H, W) that do not depend on captions, for ``find``."""
        ...

    def named(self, captions: Captions) -> Tensor:
        """Phrases before any interaction with the image, (B, K, C)."""
        ...

    def find(self, seen: Any, captions: Captions) -> Found:
        """Boxes of one image for one caption."""
        ...


class Grid(nn.Module):  # type: ignore[misc]
    """Maps of the backbone as one grid of tokens at the finest of their strides, coarser ones added from above."""

    def __init__(self, config: ContestantConfig) -> None:
        super().__init__()
        channels = [config.backbone.channels(stage) for stage in config.backbone.out_stages]
        self.lateral = nn.ModuleList(nn.Linear(width, config.width) for width in channels)
        self.norm = nn.LayerNorm(config.width)

    def forward(self, maps: list[Tensor]) -> Tensor:
        """Maps (B, H / s, W / s, C) to (B, H / 8, W / 8, width)."""
        above: Tensor | None = None
        for lateral, tokens in zip(reversed(self.lateral), reversed(maps), strict=True):
            tokens = lateral(tokens)
            if above is not None:
                up = above.repeat_interleave(2, 1).repeat_interleave(2, 2)
                tokens = tokens + up[:, : tokens.shape[1], : tokens.shape[2]]
            above = tokens
        return self.norm(above)


class Places(nn.Module):  # type: ignore[misc]
    """Box and expected IoU of each token."""

    def __init__(self, width: int, *, quality: bool) -> None:
        super().__init__()
        self.tower = tower(width)
        self.box = nn.Linear(width, 4)
        self.quality = nn.Linear(width, 1) if quality else None
        nn.init.zeros_(self.box.weight)
        nn.init.zeros_(self.box.bias)

    def forward(self, tokens: Tensor) -> tuple[Tensor, Tensor | None]:
        """(B, H, W, C) to offsets (B, N, 4), see ``owl_nano.model.cell_boxes``, and logits (B, N) of the IoU."""
        seen = self.tower(tokens).flatten(1, 2)
        return self.box(seen), None if self.quality is None else self.quality(seen)[..., 0]


class Likeness(nn.Module):  # type: ignore[misc]
    """Cosine of image and phrase vectors, both projected.

    Args:
        inputs: width of the image vectors.
        text_width: width of phrase vectors.
        width: in which they are compared.
    """

    def __init__(self, inputs: int, text_width: int, width: int) -> None:
        super().__init__()
        self.embed = nn.Linear(inputs, width)
        self.text = nn.Linear(text_width, width)

    def forward(self, seen: Tensor, phrases: Tensor) -> Tensor:
        """(B, N, inputs) and (B, K, text_width) to (B, N, K), -1 … 1."""
        a = functional.normalize(self.embed(seen), dim=-1)
        b = functional.normalize(self.text(phrases), dim=-1)
        return torch.bmm(a, b.transpose(1, 2))
