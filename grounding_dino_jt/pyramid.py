"""From the maps of a backbone to feature levels: projections, positions, geometry (official ``groundingdino.py``)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from ovd_bench.grounding_dino_jt.features import ImageFeatures
from ovd_bench.grounding_dino_jt.layers import xavier_uniform
from ovd_bench.grounding_dino_jt.positions import image_positions
from ovd_bench.grounding_dino_jt.query_selection import cells
from ovd_bench.kernels.linear import linear
from ovd_bench.kernels.norms import group_norm
from ovd_bench.kernels.runtime import jittor

jt = jittor()
nn = jt.nn


def projections(channels: Sequence[int], width: int, levels: int) -> Any:
    """Convolution and GroupNorm of each level: 1 x 1 for those of the backbone, 3 x 3 for extra ones below them.

    Args:
        channels: channels of the backbone's maps.
        width: d.
        levels: how many, at least as many as maps.
    """
    modules = nn.ModuleList([_projection(inputs, width, 1) for inputs in channels])
    for extra in range(levels - len(channels)):
        modules.append(_projection(channels[-1] if extra == 0 else width, width, 3))
    return modules


def project(modules: Any, maps: Sequence[Any]) -> list[Any]:
    """Maps (B, H, W, C) to levels (B, H', W', d); the first extra level is computed from the backbone's last map."""
    levels = [_project(modules[level], feature) for level, feature in enumerate(maps)]
    for level in range(len(levels), len(modules)):
        levels.append(_project(modules[level], maps[-1] if level == len(maps) else levels[-1]))
    return levels


def image_features(
    levels: Sequence[Any],
    size: tuple[int, int],
    padding: npt.NDArray[np.bool_] | None,
    level_embed: Any,
    temperature: float,
    normalised: Callable[[Any], Any] = lambda features: features,
) -> ImageFeatures:
    """Image features for the encoder.

    Args:
        levels: (B, H, W, d) each.
        size: height and width of the padded images, pixels.
        padding: bool (B, height, width), true where a smaller image was padded; None = all images fill the batch.
        level_embed: (L, d).
        temperature: temperature of the sine positions.
        normalised: applied to the features of all levels together, (B, N, d).
    """
    d = levels[0].shape[-1]
    shapes = [(int(level.shape[1]), int(level.shape[2])) for level in levels]
    padded = padding is not None and bool(padding.any())
    hidden = padding if padding is not None and padded else np.zeros((1, *size), np.bool_)
    masks = [_nearest(hidden, *shape) for shape in shapes]
    ratios = np.stack([_valid_ratio(mask) for mask in masks], 1)
    positions = [
        jt.array(image_positions(mask, d, temperature).reshape(len(mask), -1, d)) + level_embed[n]
        for n, mask in enumerate(masks)
    ]
    flat_padding = np.concatenate([mask.reshape(len(mask), -1) for mask in masks], 1) if padded else None
    geometry = cells(shapes, ratios, flat_padding)
    features = jt.concat([level.reshape(level.shape[0], -1, d) for level in levels], dim=1)
    return ImageFeatures(
        features=normalised(features),
        positions=jt.concat(positions, dim=1),
        shapes=shapes,
        valid_ratios=ratios,
        references=jt.array(geometry.references),
        proposals=jt.array(geometry.proposals),
        usable=jt.array(geometry.usable),
        padding=None if flat_padding is None else jt.array(flat_padding),
    )


def _projection(inputs: int, outputs: int, kernel: int) -> Any:
    conv = nn.Conv2d(inputs, outputs, kernel, stride=1 if kernel == 1 else 2, padding=kernel // 2)
    conv.weight = xavier_uniform(
        outputs, inputs, kernel, kernel, fan_in=inputs * kernel**2, fan_out=outputs * kernel**2
    )
    conv.bias = jt.zeros((outputs,))
    return nn.Sequential(conv, nn.GroupNorm(32, outputs))


def _project(module: Any, feature: Any) -> Any:
    """A map (B, H, W, C) to width d: convolution and GroupNorm, (B, H', W', d)."""
    conv, norm = module[0], module[1]
    if conv.weight.shape[-1] == 1:
        x = linear(feature, conv.weight.reshape(conv.weight.shape[:2]), conv.bias).permute(0, 3, 1, 2)
    else:
        x = conv(feature.permute(0, 3, 1, 2))
    return group_norm(x, 32, norm.weight, norm.bias, 1e-5).permute(0, 2, 3, 1)


def _nearest(mask: npt.NDArray[np.bool_], height: int, width: int) -> npt.NDArray[np.bool_]:
    """A mask (B, H, W) at another size, as ``interpolate`` with mode nearest."""
    rows = (np.arange(height) * np.float32(mask.shape[1] / height)).astype(np.int64)
    columns = (np.arange(width) * np.float32(mask.shape[2] / width)).astype(np.int64)
    return mask[:, rows.clip(max=mask.shape[1] - 1)][:, :, columns.clip(max=mask.shape[2] - 1)]


def _valid_ratio(mask: npt.NDArray[np.bool_]) -> npt.NDArray[np.float32]:
    """Share of the first row and column that is not padding, x and y: (B, 2)."""
    real = ~mask
    ratios: npt.NDArray[np.float32] = np.stack([real[:, 0].mean(1), real[:, :, 0].mean(1)], -1).astype(np.float32)
    return ratios
