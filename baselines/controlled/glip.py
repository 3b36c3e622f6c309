"""GLIP-style: image and text are fused in every block of the head; each location is compared with each token.

After Li et al. 2022, *Grounded Language-Image Pre-training*, section 3, from the parts of ``baselines.glip``: pyramid,
deep fusion, language layers, dynamic head, anchors, ATSS and losses, on the study's backbone and text. There are two
differences: no threshold is applied to probabilities, since a threshold before AP can only lower AP; and tokens are
projected before the head, so that its language layers have their own width.
"""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn

from ovd_bench.baselines.bert import BertConfig
from ovd_bench.baselines.controlled.captions import Captions
from ovd_bench.baselines.controlled.config import HEAD_WIDTH, ContestantConfig
from ovd_bench.baselines.controlled.parts import Found
from ovd_bench.baselines.glip.anchors import anchor_boxes, decode
from ovd_bench.baselines.glip.assign import Targets as GlipTargets
from ovd_bench.baselines.glip.config import GlipConfig
from ovd_bench.baselines.glip.fpn import Fpn
from ovd_bench.baselines.glip.losses import glip_losses
from ovd_bench.baselines.glip.model import GlipOutput, ImageFeatures, TextFeatures, VlDyHead
from ovd_bench.baselines.owl_nano.assign import Targets
from ovd_bench.baselines.swin import Swin

#: Intermediate channels of a language layer divided by its width, as in BERT.
_GROWTH = 4


class GlipStyle(nn.Module):  # type: ignore[misc]
    """The network; see ``baselines.controlled.parts.Contestant``."""

    def __init__(self, config: ContestantConfig) -> None:
        super().__init__()
        swin, words = config.backbone, config.language_width
        strides = [swin.stride(stage) for stage in swin.out_stages]
        strides += [strides[-1] << level for level in range(1, config.extra_levels + 1)]
        self._sizes = GlipConfig(
            swin=swin,
            bert=BertConfig(width=words, heads=words // HEAD_WIDTH, intermediate=_GROWTH * words),
            channels=config.width,
            blocks=config.blocks,
            fusion_width=config.fusion_width,
            fusion_heads=4,
            classes=0,
            anchor_sizes=tuple(config.anchor * stride for stride in strides),
            extra_levels=config.extra_levels,
            fusion_gate=config.fusion_gate,
            dropout=config.dropout,
            coarse_offsets=config.coarse_offsets,
        )
        self.backbone = Swin(swin)
        self.fpn = Fpn([swin.channels(stage) for stage in swin.out_stages], config.width, config.extra_levels)
        self.words = nn.Linear(config.text_width, words)
        self.head = VlDyHead(self._sizes)

    def see(self, pixels: Tensor) -> ImageFeatures:
        """(B, 3, H, W) to the levels of the pyramid."""
        maps = [tokens.permute(0, 3, 1, 2) for tokens in self.backbone(pixels)]
        return ImageFeatures(tuple(self.fpn(maps)), None)

    def named(self, captions: Captions) -> Tensor:
        """See ``Contestant.named``."""
        return captions.shares() @ self.words(captions.tokens)

    def forward(self, seen: ImageFeatures, captions: Captions) -> GlipOutput:
        """Output of ``see`` and B captions of T tokens to logits (B, N, T), boxes and their centerness."""
        output: GlipOutput = self.head(seen, TextFeatures(self.words(captions.tokens), captions.real))
        return output

    def losses(self, pixels: Tensor, captions: Captions, targets: Targets) -> dict[str, Tensor]:
        """See ``Contestant.losses``; those of GLIP, whose boxes contain their last pixel."""
        output = self(self.see(pixels), captions)
        words = captions.words.gather(1, targets.rows[..., None].expand(-1, -1, captions.words.shape[2]))  # (B, G, T)
        legacy = targets.boxes_xyxy - targets.boxes_xyxy.new_tensor([0, 0, 1, 1])
        objects = GlipTargets(legacy, words & targets.valid[..., None], targets.valid)
        return glip_losses(output, captions.real, self._anchors(output), objects)._asdict()

    def find(self, seen: Any, captions: Captions) -> Found:
        """See ``Contestant.find``: root of the mean probability of a phrase's words times the centerness."""
        output = self(seen, captions)
        words = captions.shares()[0] @ output.logits[0].sigmoid().T
        boxes = decode(output.deltas[0], self._anchors(output))
        return Found(boxes + boxes.new_tensor([0, 0, 1, 1]), (words * output.centerness[0].sigmoid()).sqrt())

    def _anchors(self, output: GlipOutput) -> Tensor:
        sizes = self._sizes
        return anchor_boxes(output.shapes, sizes.strides, sizes.anchor_sizes, output.logits.device)
