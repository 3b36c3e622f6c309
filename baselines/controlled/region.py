"""CLIP on regions: boxes are found without text, then the content of each is compared with the phrases.

As in RegionCLIP (Zhong et al. 2022, section 3) and ViLD (Gu et al. 2022, section 3), but with both parts learned from
the same batches: a class-agnostic detector, and an embedding of the region, compared with all phrases by a softmax
with a learned temperature (Radford et al. 2021, section 2.3).
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional
from torchvision.ops import nms, roi_align

from ovd_bench.baselines.controlled.captions import Captions
from ovd_bench.baselines.controlled.config import ContestantConfig
from ovd_bench.baselines.controlled.parts import Found, Grid, Likeness, Places
from ovd_bench.baselines.owl_nano.assign import Targets
from ovd_bench.baselines.owl_nano.boxes import iou
from ovd_bench.baselines.owl_nano.model import STRIDE, Output, cell_boxes
from ovd_bench.baselines.owl_nano.train import detection_losses
from ovd_bench.baselines.swin import Swin

#: Cells of a region's side.
_SIDE = 5
#: Minimum IoU of a proposal with an object to learn its name.
_SAME = 0.5
#: IoU above which the lower-scoring of two proposals is dropped.
_NMS = 0.7
_START_TEMPERATURE, _MAX_SCALE = 0.07, math.log(100.0)  # of CLIP
_PRIOR_PROBABILITY = 0.01


class Region(nn.Module):  # type: ignore[misc]
    """The network; see ``baselines.controlled.parts.Contestant``."""

    def __init__(self, config: ContestantConfig) -> None:
        super().__init__()
        self._count = config.regions
        self.backbone = Swin(config.backbone)
        self.grid = Grid(config)
        self.places = Places(config.width, quality=True)
        self.objectness = nn.Linear(config.width, 1)
        self.pooled = nn.Sequential(nn.Linear(_SIDE**2 * config.width, 4 * config.width), nn.GELU())
        self.likeness = Likeness(4 * config.width, config.text_width, config.width)
        self.log_scale = nn.Parameter(torch.tensor([-math.log(_START_TEMPERATURE)]))
        nn.init.zeros_(self.objectness.weight)
        nn.init.constant_(self.objectness.bias, -math.log(1 / _PRIOR_PROBABILITY - 1))

    def see(self, pixels: Tensor) -> tuple[Tensor, Output]:
        """(B, 3, H, W) to tokens (B, H / 8, W / 8, C) and boxes of one class, "anything"."""
        tokens = self.grid(self.backbone(pixels))
        offsets, quality = self.places(tokens)
        logits = self.objectness(tokens.flatten(1, 2))
        return tokens, Output(logits, cell_boxes(offsets, *tokens.shape[1:3]), quality)

    def named(self, captions: Captions) -> Tensor:
        """See ``Contestant.named``."""
        return self.likeness.text(captions.phrase_vectors())

    def names(self, tokens: Tensor, boxes_xyxy: list[Tensor], captions: Captions) -> list[Tensor]:
        """Logits (R, K) of the phrases for the R boxes of each image; -inf where a caption has fewer phrases.

        Args:
            tokens: (B, H / 8, W / 8, C).
            boxes_xyxy: per image (R, 4), pixels of the network input.
            captions: captions of the images.
        """
        maps = tokens.permute(0, 3, 1, 2)
        regions = roi_align(maps, boxes_xyxy, _SIDE, 1 / STRIDE, sampling_ratio=2, aligned=True)
        seen = self.pooled(regions.permute(0, 2, 3, 1).flatten(1))  # of all images, one below the other
        scale = self.log_scale.clamp(max=_MAX_SCALE).exp()
        phrases, known = captions.phrase_vectors(), captions.known()
        logits = []
        for image, own in enumerate(seen.split([len(boxes) for boxes in boxes_xyxy])):
            likeness = self.likeness(own[None], phrases[image : image + 1])[0]
            logits.append((scale * likeness).masked_fill(~known[image], -math.inf))
        return logits

    def losses(self, pixels: Tensor, captions: Captions, targets: Targets) -> dict[str, Tensor]:
        """See ``Contestant.losses``.

        Localisation has the losses of ``owl-nano`` with one class. Classification has a cross-entropy on the boxes of
        objects and on the proposals that overlap one.
        """
        tokens, output = self.see(pixels)
        anything = targets._replace(rows=torch.zeros_like(targets.rows), sure=torch.ones_like(targets.sure[:, :1]))
        parts = detection_losses(output, anything, (pixels.shape[3], pixels.shape[2]))
        boxes, rows = [], []
        for image in range(len(pixels)):
            valid = targets.valid[image]
            own, names = targets.boxes_xyxy[image][valid], targets.rows[image][valid]
            proposals = self._proposals(output, image)[0]
            if len(own):
                overlap, which = iou(proposals[:, None], own).max(1)
                near = overlap >= _SAME
                own, names = torch.cat([own, proposals[near]]), torch.cat([names, names[which[near]]])
            boxes.append(own)
            rows.append(names)
        logits = torch.cat(self.names(tokens, boxes, captions))
        wanted = torch.cat(rows)
        total = functional.cross_entropy(logits, wanted, reduction="sum") if len(wanted) else logits.sum()
        return {**parts, "name": total / max(len(wanted), 1)}

    def find(self, seen: Any, captions: Captions) -> Found:
        """See ``Contestant.find``: probability of an object times that of the phrase among all phrases."""
        tokens, output = seen
        boxes, scores = self._proposals(output, 0)
        shares = self.names(tokens, [boxes], captions)[0].softmax(-1)
        return Found(boxes, shares.T * scores)

    @torch.no_grad()  # type: ignore[untyped-decorator]
    def _proposals(self, output: Output, image: int) -> tuple[Tensor, Tensor]:
        """The best boxes of an image (R, 4), and their scores (R,), without duplicates."""
        assert output.quality is not None
        boxes = output.boxes_xyxy[image].detach()
        scores = output.logits[image, :, 0].sigmoid() * output.quality[image].sigmoid()
        kept = nms(boxes, scores, _NMS)[: self._count]
        return boxes[kept], scores[kept]
