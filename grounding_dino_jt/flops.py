"""Operations of the network, computed from its sizes: those of matrix products and convolutions.

A multiply-add counts as two. Norms, softmax, activations and bilinear sampling do not count, as in torch's
``FlopCounterMode``. The numbers are those of this implementation, whose fusion has no projections of the image.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from ovd_bench.grounding_dino_jt.config import Config, SwinConfig


def image_flops(config: Config, height: int, width: int) -> int:
    """Operations once per image of ``height`` x ``width`` pixels."""
    swin = config.backbone
    widths = [swin.channels(stage) for stage in swin.out_stages]
    projected = projection_flops(widths, config.hidden_dim, level_shapes(config, height, width))
    return swin_flops(swin, height, width) + projected


def swin_flops(swin: SwinConfig, height: int, width: int) -> int:
    """Operations of a Swin transformer for an image."""
    maps, total = swin_maps(swin, height, width), 0
    for stage, (rows, columns) in enumerate(maps):
        channels, tokens = swin.channels(stage), rows * columns
        padded = _padded(rows, swin.window_size) * _padded(columns, swin.window_size)
        each = tokens * channels * channels * (3 + 1 + 4 + 4) + 2 * padded * swin.window_size**2 * channels
        total += swin.depths[stage] * each
        if stage + 1 < len(maps):
            total += math.prod(maps[stage + 1]) * 4 * channels * 2 * channels
    total += math.prod(maps[0]) * 3 * swin.patch_size**2 * swin.embed_dim
    return 2 * total


def projection_flops(widths: Sequence[int], d: int, shapes: Sequence[tuple[int, int]]) -> int:
    """Operations of the projections of maps with these channels, and of extra levels, to width ``d``.

    Args:
        widths: channels of the backbone's maps.
        d: width of all levels.
        shapes: height and width of each level.
    """
    total = sum(math.prod(shape) * inputs * d for shape, inputs in zip(shapes, widths, strict=False))
    extra = shapes[len(widths) :]
    total += sum(math.prod(shape) * 9 * (d if n else widths[-1]) * d for n, shape in enumerate(extra))
    return 2 * total


def pair_flops(config: Config, height: int, width: int, tokens: int) -> int:
    """Operations per image and caption."""
    return transformer_flops(config, level_shapes(config, height, width), tokens)


def transformer_flops(config: Config, shapes: Sequence[tuple[int, int]], tokens: int) -> int:
    """Operations of encoder, query selection and decoder.

    Args:
        config: sizes and switches; its backbone does not matter.
        shapes: height and width of each level.
        tokens: number of tokens of the caption; for a model without text, columns of its class head.
    """
    d, wide = config.hidden_dim, config.dim_feedforward
    cells = sum(math.prod(shape) for shape in shapes)
    queries = min(config.num_queries, cells)
    total = 0
    if config.use_fusion:
        heads, embed = config.num_heads // 2, wide // 2
        total += config.enc_layers * (3 * cells * heads * tokens * d + 6 * tokens * d * embed)
    if config.use_text_enhancer:
        total += config.enc_layers * (tokens * d * (4 * d + wide) + 2 * tokens * tokens * d)
    total += config.enc_layers * (_image_attention(config, cells, cells, config.enc_points) + 2 * cells * d * wide)
    if config.query_selection == "language":  # with static queries the encoder has predictions only in training
        total += cells * d * d + cells * d * tokens + queries * (2 * d * d + 4 * d)
    layer = queries * d * 4 * d + 2 * queries * queries * d + 2 * queries * d * wide
    layer += _image_attention(config, queries, cells, config.dec_points)
    if config.use_text_cross_attention:
        layer += 2 * queries * d * d + 2 * tokens * d * d + 2 * queries * tokens * d
    layer += queries * (2 * d * d + d * d) + queries * (2 * d * d + 4 * d)
    total += config.dec_layers * layer + queries * (2 * d * d + 4 * d) + queries * d * tokens
    return 2 * total


def level_shapes(config: Config, height: int, width: int) -> list[tuple[int, int]]:
    """Height and width of each feature level."""
    maps = swin_maps(config.backbone, height, width)
    return with_levels_below([maps[stage] for stage in config.backbone.out_stages], config.num_feature_levels)


def with_levels_below(shapes: Sequence[tuple[int, int]], levels: int) -> list[tuple[int, int]]:
    """Height and width of each level; the given ones are those of the first levels."""
    found = list(shapes)
    while len(found) < levels:
        rows, columns = found[-1]
        found.append(((rows + 1) // 2, (columns + 1) // 2))
    return found


def swin_maps(swin: SwinConfig, height: int, width: int) -> Sequence[tuple[int, int]]:
    """Height and width of the map of each stage."""
    rows, columns = math.ceil(height / swin.patch_size), math.ceil(width / swin.patch_size)
    maps = []
    for _ in swin.depths:
        maps.append((rows, columns))
        rows, columns = (rows + 1) // 2, (columns + 1) // 2
    return maps


def _padded(side: int, window: int) -> int:
    return math.ceil(side / window) * window


def _image_attention(config: Config, queries: int, cells: int, points: int) -> int:
    d = config.hidden_dim
    if config.attention == "dense":
        return 2 * queries * d * d + 2 * cells * d * d + 2 * queries * cells * d
    samples = config.num_heads * config.num_feature_levels * points
    return queries * d * (3 * samples + d) + cells * d * d
