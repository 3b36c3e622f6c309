"""Operations of DINO, counted from its sizes, as in ``grounding_dino_jt.flops``."""

from __future__ import annotations

import math

from ovd_bench.grounding_dino_jt.config import SwinConfig
from ovd_bench.grounding_dino_jt.dino.config import DinoConfig, ResNetConfig
from ovd_bench.grounding_dino_jt.flops import (
    projection_flops,
    swin_flops,
    swin_maps,
    transformer_flops,
    with_levels_below,
)


def dino_flops(config: DinoConfig, height: int, width: int) -> int:
    """Operations for an image of ``height`` x ``width`` pixels; a multiply-add counts as two."""
    backbone = config.backbone
    if isinstance(backbone, SwinConfig):
        maps, total = swin_maps(backbone, height, width), swin_flops(backbone, height, width)
    else:
        maps, total = _resnet_maps(height, width), resnet_flops(backbone, height, width)
    shapes = with_levels_below([maps[stage] for stage in backbone.out_stages], config.num_feature_levels)
    total += projection_flops([backbone.channels(stage) for stage in backbone.out_stages], config.hidden_dim, shapes)
    return total + transformer_flops(config.transformer(), shapes, config.num_classes)


def resnet_flops(config: ResNetConfig, height: int, width: int) -> int:
    """Operations of a ResNet for an image, up to its last output."""
    total = _half(height) * _half(width) * 64 * 3 * 49
    maps = _resnet_maps(height, width)
    before = maps[0]
    for stage in range(max(config.out_stages) + 1):
        cells, outputs = math.prod(maps[stage]), config.channels(stage)
        inner, inputs = outputs // 4, config.channels(stage - 1) if stage else 64
        first = math.prod(before) * inputs * inner + cells * (9 * inner**2 + inner * outputs + inputs * outputs)
        total += first + (config.blocks[stage] - 1) * cells * (2 * inner * outputs + 9 * inner**2)
        before = maps[stage]
    return 2 * total


def _resnet_maps(height: int, width: int) -> list[tuple[int, int]]:
    """Height and width of the map of each stage."""
    rows, columns = _half(_half(height)), _half(_half(width))
    maps = []
    for _ in range(4):
        maps.append((rows, columns))
        rows, columns = _half(rows), _half(columns)
    return maps


def _half(side: int) -> int:
    return (side + 1) // 2
