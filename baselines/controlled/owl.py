"""OWL-style: every image token is compared with every phrase and gives one box.

After Minderer et al. 2022, *Simple Open-Vocabulary Object Detection with Vision Transformers*, section 3: image and
text interact in one product, so the score of a class does not depend on other classes. Shift and scale of the logits
are predicted from the image, as in ``scenic/projects/owl_vit/layers.py``.
"""

from __future__ import annotations

import math
from typing import Any

from torch import Tensor, nn
from torch.nn import functional

from ovd_bench.baselines.controlled.captions import Captions
from ovd_bench.baselines.controlled.config import ContestantConfig
from ovd_bench.baselines.controlled.parts import Found, Grid, Likeness, Places
from ovd_bench.baselines.owl_nano.assign import Targets
from ovd_bench.baselines.owl_nano.model import Output, cell_boxes, tower
from ovd_bench.baselines.owl_nano.train import detection_losses
from ovd_bench.baselines.swin import Swin

_PRIOR_PROBABILITY = 0.01


class Owl(nn.Module):  # type: ignore[misc]
    """The network; see ``baselines.controlled.parts.Contestant``."""

    def __init__(self, config: ContestantConfig) -> None:
        super().__init__()
        self.backbone = Swin(config.backbone)
        self.grid = Grid(config)
        self.looks = tower(config.width)
        self.places = Places(config.width, quality=config.assignment == "one_to_many")
        self.likeness = Likeness(config.width, config.text_width, config.width)
        self.scale = nn.Linear(config.width, 1)
        self.shift = nn.Linear(config.width, 1)
        for layer in (self.scale, self.shift):
            nn.init.zeros_(layer.weight)
        nn.init.constant_(self.scale.bias, 9.0)  # elu(9) + 1 = 10
        nn.init.constant_(self.shift.bias, -math.log(1 / _PRIOR_PROBABILITY - 1) / 10.0)

    def see(self, pixels: Tensor) -> Tensor:
        """(B, 3, H, W) to tokens (B, H / 8, W / 8, width)."""
        return self.grid(self.backbone(pixels))

    def named(self, captions: Captions) -> Tensor:
        """See ``Contestant.named``."""
        return self.likeness.text(captions.phrase_vectors())

    def forward(self, tokens: Tensor, captions: Captions) -> Output:
        """Output of ``see`` and B captions of K phrases to logits (B, N, K), boxes and their quality."""
        looks = self.looks(tokens).flatten(1, 2)
        likeness = self.likeness(looks, captions.phrase_vectors())
        logits = (likeness + self.shift(looks)) * (functional.elu(self.scale(looks)) + 1)
        offsets, quality = self.places(tokens)
        return Output(logits, cell_boxes(offsets, *tokens.shape[1:3]), quality)

    def losses(self, pixels: Tensor, captions: Captions, targets: Targets) -> dict[str, Tensor]:
        """See ``Contestant.losses``; those of ``owl-nano``."""
        return detection_losses(self(self.see(pixels), captions), targets, (pixels.shape[3], pixels.shape[2]))

    def find(self, seen: Any, captions: Captions) -> Found:
        """See ``Contestant.find``; probability, times the expected IoU if there is that branch."""
        output = self(seen, captions)
        scores = output.logits[0].sigmoid().T
        if output.quality is not None:
            scores = scores * output.quality[0].sigmoid()
        return Found(output.boxes_xyxy[0], scores)
