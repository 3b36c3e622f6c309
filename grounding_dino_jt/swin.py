"""Swin transformer (Liu et al. 2021), as in ``groundingdino/models/GroundingDINO/backbone/swin_transformer.py``."""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np
import numpy.typing as npt

from ovd_bench.grounding_dino_jt.config import SwinConfig
from ovd_bench.grounding_dino_jt.layers import FeedForward, LayerNorm, Linear, drop_path
from ovd_bench.kernels.bases import Module
from ovd_bench.kernels.runtime import jittor
from ovd_bench.kernels.window_attention import window_attention

jt = jittor()
nn = jt.nn


class Swin(Module):
    """Images to feature maps, one per ``out_stages``, each normalised by ``norm{stage}``."""

    def __init__(self, config: SwinConfig) -> None:
        self._config = config
        self.patch_embed = _PatchEmbed(config)
        rates = np.linspace(0, config.drop_path_rate, sum(config.depths)).tolist()
        self.layers = nn.ModuleList()
        for stage, depth in enumerate(config.depths):
            last = stage == len(config.depths) - 1
            begin = sum(config.depths[:stage])
            self.layers.append(_Stage(config, stage, rates[begin : begin + depth], downsample=not last))
        for stage in config.out_stages:
            setattr(self, f"norm{stage}", LayerNorm(config.channels(stage)))

    def execute(self, pixels: Any) -> list[Any]:
        """(B, 3, H, W) normalised pixels to maps (B, H / s, W / s, C), sides rounded up, one per output stage."""
        x = self.patch_embed(pixels)
        maps = []
        for stage, layer in enumerate(self.layers):
            seen, x = layer(x)
            if stage in self._config.out_stages:
                maps.append(getattr(self, f"norm{stage}")(seen))
        return maps


class _PatchEmbed(Module):
    """Patches to tokens; the image is padded with zeros on the right and at the bottom to whole patches."""

    def __init__(self, config: SwinConfig) -> None:
        self.proj = nn.Conv2d(3, config.embed_dim, config.patch_size, config.patch_size)
        self.norm = LayerNorm(config.embed_dim)
        self._patch = config.patch_size

    def execute(self, pixels: Any) -> Any:
        """(B, 3, H, W) to (B, H / patch, W / patch, C)."""
        below, right = -pixels.shape[2] % self._patch, -pixels.shape[3] % self._patch
        if below or right:
            pixels = nn.pad(pixels, (0, right, 0, below))
        return self.norm(self.proj(pixels).permute(0, 2, 3, 1))


class _Stage(Module):
    """Blocks of one resolution, every other one with shifted windows, and the downsampling to the next stage."""

    def __init__(self, config: SwinConfig, stage: int, rates: list[float], *, downsample: bool) -> None:
        channels = config.channels(stage)
        self.blocks = nn.ModuleList(
            [
                _Block(channels, config.num_heads[stage], config.window_size, number % 2 == 1, rate)
                for number, rate in enumerate(rates)
            ]
        )
        if downsample:
            self.downsample = _PatchMerging(channels)
        self._downsample = downsample

    def execute(self, x: Any) -> tuple[Any, Any]:
        """(B, H, W, C) to that of this stage, (B, H, W, C), and of the next, (B, H / 2, W / 2, 2C)."""
        for block in self.blocks:
            x = block(x)
        return x, self.downsample(x) if self._downsample else x


class _Block(Module):
    def __init__(self, channels: int, heads: int, window: int, shifted: bool, rate: float) -> None:
        self.norm1 = LayerNorm(channels)
        self.attn = _WindowAttention(channels, heads, window, window // 2 if shifted else 0)
        self.norm2 = LayerNorm(channels)
        self.mlp = _Mlp(channels)
        self._rate = rate

    def execute(self, x: Any) -> Any:
        x = x + drop_path(self.attn(self.norm1(x)), self._rate, self.is_training())
        return x + drop_path(self.mlp(self.norm2(x)), self._rate, self.is_training())


class _WindowAttention(Module):
    """Attention within windows; the map is padded with zeros to whole windows, and padding takes part as keys."""

    def __init__(self, channels: int, heads: int, window: int, shift: int) -> None:
        self.relative_position_bias_table = jt.randn(((2 * window - 1) ** 2, heads)) * 0.02
        self.qkv = Linear(channels, 3 * channels)
        self.proj = Linear(channels, channels)
        self._heads, self._window, self._shift = heads, window, shift

    def execute(self, x: Any) -> Any:
        tokens = self._window**2
        rows = jt.array(relative_position_index(self._window).reshape(-1))
        bias = self.relative_position_bias_table[rows].reshape(tokens, tokens, self._heads).permute(2, 0, 1)
        mixed = window_attention(self.qkv(x), self.qkv.bias, bias, self._window, self._shift, self._heads)
        return self.proj(mixed)


class _Mlp(Module):
    def __init__(self, channels: int) -> None:
        self.fc1 = Linear(channels, 4 * channels)
        self.fc2 = Linear(4 * channels, channels)
        self._both = FeedForward("gelu")

    def execute(self, x: Any) -> Any:
        return self._both(x, self.fc1, self.fc2)


class _PatchMerging(Module):
    """Four neighbours to one token: channels in the order (0, 0), (1, 0), (0, 1), (1, 1) of (row, column)."""

    def __init__(self, channels: int) -> None:
        self.norm = LayerNorm(4 * channels)
        self.reduction = Linear(4 * channels, 2 * channels, bias=False)

    def execute(self, x: Any) -> Any:
        """(B, H, W, C) to (B, H / 2, W / 2, 2C), sides rounded up."""
        below, right = x.shape[1] % 2, x.shape[2] % 2
        if below or right:
            x = nn.pad(x, (0, 0, 0, right, 0, below))
        batch, height, width, channels = x.shape
        quads = x.reshape(batch, height // 2, 2, width // 2, 2, channels).permute(0, 1, 3, 4, 2, 5)
        return self.reduction(self.norm(quads.reshape(batch, height // 2, width // 2, 4 * channels)))


@cache
def relative_position_index(window: int) -> npt.NDArray[np.int32]:
    """Row of the bias table for each pair of tokens in a window, (window², window²)."""
    rows, columns = np.divmod(np.arange(window**2), window)
    vertical = rows[:, None] - rows[None] + window - 1
    horizontal = columns[:, None] - columns[None] + window - 1
    index: npt.NDArray[np.int32] = (vertical * (2 * window - 1) + horizontal).astype(np.int32)
    return index
