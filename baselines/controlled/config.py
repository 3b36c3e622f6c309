"""What a contestant is made of."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from baselines.owl_nano.model import STRIDE
from baselines.swin import SwinConfig

Kind = Literal["owl", "region"]

#: The backbone of the embedded benchmark: that of grounding-dino-nano.
NANO_SWIN = SwinConfig(32, (2, 2, 2), (2, 4, 8), window_size=6, out_stages=(1, 2), drop_path_rate=0.0)


@dataclass(frozen=True)
class ContestantConfig:
    """Sizes and choices.

    Attributes:
        kind: ``owl``: each image token is compared with each phrase and gives a box (OWL-ViT). ``region``: boxes are
            found without text and what is in them is compared with each phrase (CLIP on regions).
        backbone: with two or more neighbouring stages as outputs; the first, of stride 8, is the grid of tokens.
        width: of everything behind the backbone.
        text_width: of the text encoder.
        assignment: which tokens learn an object, of ``owl``: ``one_to_many`` or ``hungarian``, see
            ``baselines.owl_nano``.
        regions: boxes that are classified per image, of ``region``.
        image_size, image_longest: shorter side of the network's input, and the most of the longer one, pixels.

    Raises:
        ValueError: sizes or choices of no contestant.
    """

    kind: Kind = "owl"
    backbone: SwinConfig = field(default_factory=lambda: NANO_SWIN)
    width: int = 64
    text_width: int = 384
    assignment: Literal["one_to_many", "hungarian"] = "one_to_many"
    regions: int = 100
    image_size: int = 192
    image_longest: int = 192

    def __post_init__(self) -> None:
        stages = self.backbone.out_stages
        if self.kind not in ("owl", "region") or self.assignment not in ("one_to_many", "hungarian"):
            raise ValueError(f"no contestant is of kind '{self.kind}' with assignment '{self.assignment}'")
        if len(stages) < 2 or list(stages) != list(range(stages[0], stages[0] + len(stages))):
            raise ValueError(f"backbone.out_stages are {list(stages)}: two or more neighbouring stages are needed")
        if self.backbone.stride(stages[0]) != STRIDE:
            raise ValueError(f"the first of backbone.out_stages must have tokens every {STRIDE} pixels")
        if not 1 <= min(self.width, self.text_width, self.regions) <= max(self.width, self.text_width) <= 65_536:
            raise ValueError("width, text_width or regions is out of range")
