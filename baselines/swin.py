"""Swin transformer (Liu et al. 2021), with the names of microsoft/Swin-Transformer's ``models/swin_transformer.py``.

As a backbone of detectors: any size of image, and maps of several stages, each with its own norm. The same network as
``grounding_dino_jt.swin``, so that detectors of both frameworks can start from the same weights.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

#: Added to the logits of pairs in a shifted window that are not neighbours in the image; not -inf, as officially.
_APART = -100.0


@dataclass(frozen=True)
class SwinConfig:
    """Sizes; the defaults are Swin-T's.

    Attributes:
        embed_dim: channels of the first stage; doubled at each later one.
        depths, num_heads: blocks and heads of each stage.
        window_size: side of an attention window, in tokens.
        patch_size: pixels of a token's side.
        out_stages: stages (from 0) whose outputs, normalised, are returned.
        drop_path_rate: rate of the last block in training; it rises linearly from 0 over the blocks.
    """

    embed_dim: int = 96
    depths: tuple[int, ...] = (2, 2, 6, 2)
    num_heads: tuple[int, ...] = (3, 6, 12, 24)
    window_size: int = 7
    patch_size: int = 4
    out_stages: tuple[int, ...] = (1, 2, 3)
    drop_path_rate: float = 0.2

    def channels(self, stage: int) -> int:
        """Channels of a stage."""
        return self.embed_dim << stage

    def stride(self, stage: int) -> int:
        """Pixels between the tokens of a stage."""
        return self.patch_size << stage


class Swin(nn.Module):  # type: ignore[misc]
    """Images to maps of tokens, one for each of ``out_stages``."""

    def __init__(self, config: SwinConfig) -> None:
        super().__init__()
        self.config = config
        self.patch_embed = _PatchEmbed(config)
        count = sum(config.depths)
        rates = [config.drop_path_rate * number / max(1, count - 1) for number in range(count)]
        self.layers = nn.ModuleList()
        for stage, depth in enumerate(config.depths):
            begin = sum(config.depths[:stage])
            last = stage == len(config.depths) - 1
            self.layers.append(_Stage(config, stage, rates[begin : begin + depth], downsample=not last))
        for stage in config.out_stages:
            self.add_module(f"norm{stage}", nn.LayerNorm(config.channels(stage)))

    def forward(self, pixels: Tensor) -> list[Tensor]:
        """(B, 3, H, W) normalised pixels to maps (B, H / s, W / s, C), sides rounded up, one per output stage."""
        tokens = self.patch_embed(pixels)
        maps = []
        for stage, layer in enumerate(self.layers):
            seen, tokens = layer(tokens)
            if stage in self.config.out_stages:
                maps.append(self.get_submodule(f"norm{stage}")(seen))
        return maps


class _PatchEmbed(nn.Module):  # type: ignore[misc]
    """Patches to tokens; the image is padded with zeros on the right and at the bottom to whole patches."""

    def __init__(self, config: SwinConfig) -> None:
        super().__init__()
        self.proj = nn.Conv2d(3, config.embed_dim, config.patch_size, config.patch_size)
        self.norm = nn.LayerNorm(config.embed_dim)
        self._patch = config.patch_size

    def forward(self, pixels: Tensor) -> Tensor:
        """(B, 3, H, W) to (B, H / patch, W / patch, C)."""
        height, width = pixels.shape[2:]
        pixels = functional.pad(pixels, (0, -width % self._patch, 0, -height % self._patch))
        return self.norm(self.proj(pixels).permute(0, 2, 3, 1))


class _Stage(nn.Module):  # type: ignore[misc]
    """Blocks of one resolution, every other one with shifted windows, and the downsampling to the next stage."""

    def __init__(self, config: SwinConfig, stage: int, rates: list[float], *, downsample: bool) -> None:
        super().__init__()
        channels, heads = config.channels(stage), config.num_heads[stage]
        self.blocks = nn.ModuleList(
            _Block(channels, heads, config.window_size, shifted=bool(number % 2), rate=rate)
            for number, rate in enumerate(rates)
        )
        self.downsample = _PatchMerging(channels) if downsample else None

    def forward(self, tokens: Tensor) -> tuple[Tensor, Tensor]:
        """(B, H, W, C) to that of this stage, (B, H, W, C), and of the next, (B, H / 2, W / 2, 2C)."""
        for block in self.blocks:
            tokens = block(tokens)
        return tokens, tokens if self.downsample is None else self.downsample(tokens)


class _Block(nn.Module):  # type: ignore[misc]
    def __init__(self, channels: int, heads: int, window: int, *, shifted: bool, rate: float) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(channels)
        self.attn = WindowAttention(channels, heads, window, window // 2 if shifted else 0)
        self.norm2 = nn.LayerNorm(channels)
        self.mlp = _Mlp(channels)
        self._rate = rate

    def forward(self, tokens: Tensor) -> Tensor:
        tokens = tokens + self._drop_path(self.attn(self.norm1(tokens)))
        return tokens + self._drop_path(self.mlp(self.norm2(tokens)))

    def _drop_path(self, tokens: Tensor) -> Tensor:
        """Stochastic depth (Huang et al. 2016): in training whole images become zero, the others grow."""
        if self._rate == 0 or not self.training:
            return tokens
        kept = torch.rand(len(tokens), 1, 1, 1, device=tokens.device) >= self._rate
        return tokens * kept / (1 - self._rate)


class _Mlp(nn.Module):  # type: ignore[misc]
    def __init__(self, channels: int) -> None:
        super().__init__()
        self.fc1 = nn.Linear(channels, 4 * channels)
        self.fc2 = nn.Linear(4 * channels, channels)

    def forward(self, tokens: Tensor) -> Tensor:
        return self.fc2(functional.gelu(self.fc1(tokens)))


class _PatchMerging(nn.Module):  # type: ignore[misc]
    """Four neighbours to one token: channels in the order (0, 0), (1, 0), (0, 1), (1, 1) of (row, column)."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(4 * channels)
        self.reduction = nn.Linear(4 * channels, 2 * channels, bias=False)

    def forward(self, tokens: Tensor) -> Tensor:
        """(B, H, W, C) to (B, H / 2, W / 2, 2C), sides rounded up."""
        tokens = functional.pad(tokens, (0, 0, 0, tokens.shape[2] % 2, 0, tokens.shape[1] % 2))
        batch, height, width, channels = tokens.shape
        quads = tokens.view(batch, height // 2, 2, width // 2, 2, channels).permute(0, 1, 3, 4, 2, 5)
        return self.reduction(self.norm(quads.reshape(batch, height // 2, width // 2, 4 * channels)))


class WindowAttention(nn.Module):  # type: ignore[misc]
    """Attention within windows; the map is padded with zeros to whole windows, and padding takes part as keys.

    Args:
        channels: C.
        heads: number of heads of the attention.
        window: side of a window, tokens.
        shift: by how many tokens the grid of windows is moved, cyclically.
    """

    relative_position_index: Tensor

    def __init__(self, channels: int, heads: int, window: int, shift: int) -> None:
        super().__init__()
        self.relative_position_bias_table = nn.Parameter(torch.randn((2 * window - 1) ** 2, heads) * 0.02)
        self.qkv = nn.Linear(channels, 3 * channels)
        self.proj = nn.Linear(channels, channels)
        self._heads, self._window, self._shift = heads, window, shift
        place = torch.arange(window**2)
        rows, columns = place // window, place % window
        apart = (rows[:, None] - rows + window - 1) * (2 * window - 1) + columns[:, None] - columns + window - 1
        self.register_buffer("relative_position_index", apart, persistent=False)

    def forward(self, tokens: Tensor) -> Tensor:
        """(B, H, W, C) to the same."""
        batch, height, width, channels = tokens.shape
        side, shift, heads = self._window, self._shift, self._heads
        tokens = functional.pad(tokens, (0, 0, 0, -width % side, 0, -height % side))
        grid = (tokens.shape[1] // side, tokens.shape[2] // side)
        bias = self.relative_position_bias_table[self.relative_position_index].permute(2, 0, 1)
        if shift:
            tokens = tokens.roll((-shift, -shift), (1, 2))
            bias = (bias + self._mask(grid, tokens)).repeat(batch, 1, 1, 1)
        windows = tokens.view(batch, grid[0], side, grid[1], side, channels).transpose(2, 3)
        qkv = self.qkv(windows.reshape(-1, side**2, channels))
        # (3, B * windows, heads, side², channels per head)
        query, key, value = qkv.view(-1, side**2, 3, heads, channels // heads).permute(2, 0, 3, 1, 4)
        mixed = functional.scaled_dot_product_attention(query, key, value, attn_mask=bias)
        mixed = self.proj(mixed.transpose(1, 2).reshape(-1, side**2, channels))
        tokens = mixed.view(batch, *grid, side, side, channels).transpose(2, 3)
        tokens = tokens.reshape(batch, grid[0] * side, grid[1] * side, channels)
        if shift:
            tokens = tokens.roll((shift, shift), (1, 2))
        return tokens[:, :height, :width]

    def _mask(self, grid: tuple[int, int], tokens: Tensor) -> Tensor:
        """0 where two tokens of a shifted window are neighbours in the image, (windows, 1, side², side²)."""
        side = self._window
        regions = []
        for cells in grid:
            place = torch.arange(cells * side, device=tokens.device)
            regions.append((place >= (cells - 1) * side).int() + (place >= cells * side - self._shift).int())
        area = (3 * regions[0][:, None] + regions[1]).view(grid[0], side, grid[1], side).transpose(1, 2)
        area = area.reshape(-1, 1, side**2)
        return _APART * (area[..., None] != area[..., None, :]).to(tokens.dtype)
