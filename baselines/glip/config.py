"""Sizes of GLIP. The variants are those of ``configs/pretrain/*.yaml`` of microsoft/GLIP."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from ovd_bench.baselines.bert import BertConfig
from ovd_bench.baselines.swin import SwinConfig

#: Offsets of the branch from the coarser level; see ``baselines.glip.dyhead``.
CoarseOffsets = Literal["prefix", "resized"]
#: P6 and P7.
MOST_EXTRA_LEVELS = 2


@dataclass(frozen=True)
class GlipConfig:
    """Sizes of the detector; the defaults are GLIP-T's.

    Attributes:
        swin: backbone; its output stages become the finest levels of the pyramid.
        bert: text encoder. The language layers of the head have its width, heads and intermediate channels too.
        text_pooler: whether the encoder has BERT's pooler, which is unused but may be in the weights.
        channels: channels of the pyramid and the head.
        blocks: number of blocks of the head.
        fused: whether image and text are fused in every block; otherwise (variant A) only in the dot product.
        fusion_width, fusion_heads: width and number of heads of the attention between image and text.
        norm_groups: number of groups of the normalisation after each deformable convolution.
        classes: number of classes of the closed-set head, which is unused but may be in the weights; 0 = none.
        max_tokens: maximum number of tokens of a caption, [CLS] and [SEP] included.
        anchor_sizes: side of the one square anchor of each level, pixels; as many as levels.
        extra_levels: number of levels of the pyramid below those of the backbone, each of half the side of the one
            before; 2 in GLIP.
        fusion_gate: initial factor of a fusion's residuals; None = 1 / ``blocks``, as in GLIP.
        dropout: dropout rate of fusion and language layers, in training.
        coarse_offsets: ``prefix`` is what the released weights were trained with.
        image_size, image_longest: shorter side of the image, and the maximum of the longer one, pixels.
    """

    swin: SwinConfig = field(default_factory=SwinConfig)
    bert: BertConfig = field(default_factory=BertConfig)
    text_pooler: bool = True
    channels: int = 256
    blocks: int = 6
    fused: bool = True
    fusion_width: int = 2048
    fusion_heads: int = 8
    norm_groups: int = 16
    classes: int = 80
    max_tokens: int = 256
    anchor_sizes: tuple[int, ...] = (64, 128, 256, 512, 1024)
    extra_levels: int = 2
    fusion_gate: float | None = None
    dropout: float = 0.1
    coarse_offsets: CoarseOffsets = "prefix"
    image_size: int = 800
    image_longest: int = 1333

    def __post_init__(self) -> None:
        if not 0 <= self.extra_levels <= MOST_EXTRA_LEVELS:
            raise ValueError(f"GlipConfig: extra_levels is {self.extra_levels}, 0 to {MOST_EXTRA_LEVELS} is needed")
        levels = len(self.swin.out_stages) + self.extra_levels
        if len(self.anchor_sizes) != levels:
            raise ValueError(
                f"GlipConfig: {len(self.anchor_sizes)} anchor_sizes, {levels} levels: as many as output stages of the "
                "backbone and extra_levels together are needed"
            )
        if self.fusion_gate is not None and not 0 <= self.fusion_gate <= 1:
            raise ValueError(f"GlipConfig: fusion_gate is {self.fusion_gate}, 0 to 1 is needed")
        for name, whole, parts in (
            ("fusion_width", self.fusion_width, self.fusion_heads),
            ("bert.width", self.bert.width, self.bert.heads),
            ("channels", self.channels, self.norm_groups),
        ):
            if whole % parts:
                raise ValueError(f"GlipConfig: {name} is {whole}, a multiple of {parts} is needed")
        if self.coarse_offsets not in ("prefix", "resized"):
            raise ValueError(f"GlipConfig: coarse_offsets is {self.coarse_offsets!r}, 'prefix' or 'resized' is needed")

    @property
    def strides(self) -> tuple[int, ...]:
        """Pixels between locations of each level."""
        strides = [self.swin.stride(stage) for stage in self.swin.out_stages]
        return (*strides, *(strides[-1] << level for level in range(1, self.extra_levels + 1)))

    @property
    def first_gate(self) -> float:
        """Initial factor of a fusion's residuals."""
        return 1 / self.blocks if self.fusion_gate is None else self.fusion_gate


_SWIN_L = SwinConfig(embed_dim=192, depths=(2, 2, 18, 2), num_heads=(6, 12, 24, 48), window_size=12, drop_path_rate=0.4)

#: ``tiny``: GLIP-T (B), (C) and GLIP-T, which differ only in their training data.
VARIANTS: dict[str, GlipConfig] = {
    "tiny-a": GlipConfig(fused=False),
    "tiny": GlipConfig(),
    "large": GlipConfig(swin=_SWIN_L, blocks=8),
}
