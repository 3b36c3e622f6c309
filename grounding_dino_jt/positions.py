"""Sine embeddings of positions: of image cells, of words in a phrase, of boxes."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import numpy.typing as npt

from ovd_bench.kernels.runtime import jittor

jt = jittor()


def image_positions(padding: npt.NDArray[np.bool_], channels: int, temperature: float) -> npt.NDArray[np.float32]:
    """Embedding of the cells of a map (``PositionEmbeddingSineHW``; normalised, scale 2 pi, no half-cell offset).

    Args:
        padding: (B, H, W), true outside the image.
        channels: d; the first half encodes y, the second x, sine and cosine alternating.
        temperature: 20 in Grounding DINO.

    Returns:
        (B, H, W, d).
    """
    real = (~padding).astype(np.float32)
    axes = []
    for axis in (1, 2):
        counts = real.cumsum(axis, dtype=np.float32)
        last = counts[:, -1:, :] if axis == 1 else counts[:, :, -1:]
        scaled = counts / (last + np.float32(1e-6)) * np.float32(2 * math.pi)
        axes.append(_waves(scaled, channels // 2, temperature))
    return np.concatenate(axes, axis=-1)


def word_positions(ids: npt.NDArray[np.int32], channels: int) -> npt.NDArray[np.float32]:
    """Embedding of the position of a token within its phrase, (B, n) to (B, n, d); temperature 10000, scale 2 pi."""
    return _waves(ids.astype(np.float32) * np.float32(2 * math.pi), channels, 10000.0)


def _waves(values: npt.NDArray[np.float32], channels: int, temperature: float) -> npt.NDArray[np.float32]:
    """(...) to (..., channels): sine and cosine alternating, wavelengths from 1 to the temperature."""
    angles = values[..., None] / _wavelengths(channels, temperature)
    waves = np.empty_like(angles)
    waves[..., 0::2], waves[..., 1::2] = np.sin(angles[..., 0::2]), np.cos(angles[..., 1::2])
    return waves


def _wavelengths(channels: int, temperature: float) -> npt.NDArray[np.float32]:
    pairs = np.arange(channels, dtype=np.float32) // 2
    return np.float32(temperature) ** (2 * pairs / np.float32(channels))


def box_positions(boxes_cxcywh: Any, channels: int) -> Any:
    """Embedding of boxes (``gen_sineembed_for_position``): temperature 10000, scale 2 pi.

    Args:
        boxes_cxcywh: (..., 4), relative to the image.
        channels: per coordinate.

    Returns:
        (..., 4 * channels), in the order y, x, w, h.
    """
    coordinates = boxes_cxcywh[..., jt.array([1, 0, 2, 3])] * (2 * math.pi)
    angles = coordinates.unsqueeze(-1) / jt.array(_wavelengths(channels, 10000.0))
    # cos(a) = sin(a + pi / 2) would add a rounding error, so both are computed and each channel selects one.
    even = jt.array((np.arange(channels) % 2 == 0).astype(np.float32))
    waves = jt.sin(angles) * even + jt.cos(angles) * (1 - even)
    return waves.reshape(*boxes_cxcywh.shape[:-1], 4 * channels)
