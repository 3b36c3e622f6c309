"""Configuration of a contestant."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal, get_args

from ovd_bench.baselines.glip.config import MOST_EXTRA_LEVELS, CoarseOffsets
from ovd_bench.baselines.owl_nano.model import STRIDE
from ovd_bench.baselines.swin import SwinConfig
from ovd_bench.baselines.text import WIDTH, Frame

#: Upper limit of numbers of layers, heads or tokens per side.
_MOST = 64

#: Channels of a head of the language layers, as in the packaged sentence encoder.
HEAD_WIDTH = 32

Kind = Literal["owl", "region", "glip"]

#: The backbone of the embedded benchmark: that of grounding-dino-nano.
NANO_SWIN = SwinConfig(32, (2, 2, 2), (2, 4, 8), window_size=6, out_stages=(1, 2), drop_path_rate=0.0)


@dataclass(frozen=True)
class ContestantConfig:
    """Sizes and choices.

    Attributes:
        kind: ``owl``: each image token is compared with each phrase and gives a box (OWL-ViT). ``region``: boxes are
            found without text and their content is compared with each phrase (CLIP on regions). ``glip``: image and
            text are fused in every block of a pyramid's head, and each location is compared with each token (GLIP).
        backbone: with two or more neighbouring stages as outputs; the first, of stride 8, is the grid of tokens.
        width: width of everything after the backbone.
        text_width: width of the text encoder.
        phrase_frame, centred: how its output is obtained, see ``baselines.controlled.captions.CaptionEncoder``; the
            mean of the training vocabulary is the buffer ``text_mean`` of the model.
        assignment: positive tokens of an object, of ``owl``: ``one_to_many`` or ``hungarian``, see
            ``baselines.owl_nano``.
        regions: boxes that are classified per image, of ``region``.
        blocks: number of blocks of the head, of ``glip``.
        fusion_width: width of the attention between image and words, of ``glip``.
        language_width: width of the words in the head, of ``glip``; 768 in GLIP, as in BERT.
        anchor: side of an anchor divided by the stride of its level, of ``glip``; 8 in GLIP, for larger images.
        extra_levels: number of levels of the pyramid beyond the maps of the backbone, of ``glip``; 2 in GLIP.
        coarse_offsets: of the head's deformable convolutions of coarser levels, of ``glip``: ``prefix`` is what GLIP's
            released weights were trained with, ``resized`` the intended behaviour; see ``baselines.glip.dyhead``.
        fusion_gate: initial factor of a fusion's residuals, of ``glip``; None = 1 / ``blocks``, as in GLIP.
        dropout: dropout rate of fusion and language layers, of ``glip``; 0.1 in GLIP.
        nms_iou: overlap above which, in detection, the lower-scoring of two boxes of one class is dropped; 1 = no
            suppression. None = default: 0.6 with several positives per object (``glip``, ``owl`` with
            ``one_to_many``), else 1.
        image_size, image_longest: shorter side of the network's input, and the maximum of the longer one, pixels.

    Raises:
        ValueError: invalid sizes or choices.
    """

    kind: Kind = "owl"
    backbone: SwinConfig = field(default_factory=lambda: NANO_SWIN)
    width: int = 64
    text_width: int = 384
    phrase_frame: Frame = "bare"
    centred: bool = False
    assignment: Literal["one_to_many", "hungarian"] = "one_to_many"
    regions: int = 100
    blocks: int = 2
    fusion_width: int = 128
    language_width: int = 128
    anchor: int = 4
    extra_levels: int = 2
    coarse_offsets: CoarseOffsets = "prefix"
    fusion_gate: float | None = None
    dropout: float = 0.0
    nms_iou: float | None = None
    image_size: int = 192
    image_longest: int = 192

    def __post_init__(self) -> None:
        stages_out = self.backbone.out_stages
        if self.kind not in get_args(Kind) or self.assignment not in ("one_to_many", "hungarian"):
            raise ValueError(f"no contestant is of kind '{self.kind}' with assignment '{self.assignment}'")
        if len(stages_out) < 2 or list(stages_out) != list(range(stages_out[0], stages_out[0] + len(stages_out))):
            raise ValueError(f"backbone.out_stages are {list(stages_out)}: two or more neighbouring stages are needed")
        swin = self.backbone  # a weights file may state any size, and modules are made before shapes are compared
        counts = (*swin.depths, *swin.num_heads, swin.window_size, swin.patch_size, self.blocks)
        stages = len(swin.depths)
        if not 1 <= min(counts) <= max(counts) <= _MOST or not 1 <= swin.embed_dim <= 4096 or not 2 <= stages <= 8:
            raise ValueError(f"backbone or blocks: counts must be 1 to {_MOST}, embed_dim at most 4096, 2 to 8 stages")
        if len(swin.num_heads) != stages or not set(stages_out) <= set(range(stages)):
            raise ValueError("backbone: depths, num_heads and out_stages do not fit together")
        if swin.stride(stages_out[0]) != STRIDE:
            raise ValueError(f"the first of backbone.out_stages must have tokens every {STRIDE} pixels")
        if any(swin.channels(stage) % heads for stage, heads in enumerate(swin.num_heads)):
            raise ValueError("backbone: num_heads must divide the channels of each stage")
        sizes = (
            *(self.width, self.text_width, self.regions, self.fusion_width, self.language_width, self.anchor),
            *(self.image_size, self.image_longest),
        )
        if not 1 <= min(sizes) <= max(sizes) <= 65_536 or not 0 <= self.dropout < 1:
            raise ValueError(
                "width, text_width, regions, fusion_width, language_width, anchor, dropout or image size: out of range"
            )
        if not 0 <= self.extra_levels <= MOST_EXTRA_LEVELS or self.coarse_offsets not in get_args(CoarseOffsets):
            raise ValueError(
                f"extra_levels is {self.extra_levels}, coarse_offsets '{self.coarse_offsets}': 0 to "
                f"{MOST_EXTRA_LEVELS} and one of {', '.join(get_args(CoarseOffsets))} are needed"
            )
        if self.fusion_gate is not None and not 0 <= self.fusion_gate <= 1:
            raise ValueError(f"fusion_gate is {self.fusion_gate}, 0 to 1 is needed")
        if self.nms_iou is not None and not 0 < self.nms_iou <= 1:
            raise ValueError(f"nms_iou is {self.nms_iou}, more than 0 and at most 1 is needed")
        if self.phrase_frame not in get_args(Frame) or self.text_width != WIDTH:
            raise ValueError(
                f"phrase_frame is '{self.phrase_frame}', text_width {self.text_width}: one of "
                f"{', '.join(get_args(Frame))} and {WIDTH}, that of the packaged encoder, are needed"
            )
        if self.language_width % HEAD_WIDTH:
            raise ValueError(f"language_width {self.language_width} is not a multiple of {HEAD_WIDTH}")
