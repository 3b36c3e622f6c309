"""A small hierarchical transformer: convolutional stem, then Swin stages at strides 4, 8 and 16.

After Liu et al. 2021, *Swin Transformer*, section 3 (windows, shifted windows, relative position bias). Two changes for
a model of this size: a convolutional stem instead of 4 x 4 patches (Xiao et al. 2021, *Early Convolutions*), and a
depthwise 3 x 3 convolution before every attention (Chu et al. 2023, *Conditional Positional Encodings*), which lets
neighbouring tokens of different windows interact in every block.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn


class TokenConv(nn.Conv2d):  # type: ignore[misc]
    """A convolution on tokens: (B, H, W, C) to (B, H', W', C'), padded so that H' = H / stride."""

    def __init__(self, inputs: int, outputs: int, kernel: int, stride: int = 1, groups: int = 1) -> None:
        super().__init__(inputs, outputs, kernel, stride, kernel // 2, groups=groups)

    def forward(self, tokens: Tensor) -> Tensor:
        """Convolve (B, H, W, C) tokens; no copy, since this is PyTorch's channels-last layout."""
        return super().forward(tokens.permute(0, 3, 1, 2)).permute(0, 2, 3, 1)


class WindowAttention(nn.Module):  # type: ignore[misc]
    """Multi-head self-attention inside windows of ``window`` x ``window`` tokens.

    With ``shifted`` the grid of windows is moved by half a window, cyclically; tokens that are neighbours only across
    the border do not attend to each other.
    """

    index: Tensor

    def __init__(self, width: int, window: int, shifted: bool) -> None:
        super().__init__()
        self.heads, self.window, self.shift = width // 32 or 1, window, window // 2 if shifted else 0
        self.qkv = nn.Linear(width, 3 * width)
        self.out = nn.Linear(width, width)
        self.bias = nn.Parameter(torch.zeros((2 * window - 1) ** 2, self.heads))
        nn.init.trunc_normal_(self.bias, std=0.02)
        rows, columns = torch.meshgrid(torch.arange(window), torch.arange(window), indexing="ij")
        rows, columns = rows.flatten(), columns.flatten()
        apart = (rows[:, None] - rows + window - 1) * (2 * window - 1) + columns[:, None] - columns + window - 1
        self.register_buffer("index", apart.flatten(), persistent=False)

    def forward(self, tokens: Tensor) -> Tensor:
        """(B, H, W, C) to the same; H and W are multiples of the window."""
        batch, height, width, channels = tokens.shape
        side, heads, shift = self.window, self.heads, self.shift
        grid = (height // side, width // side)
        shift = shift if max(grid) > 1 else 0
        if shift:
            tokens = tokens.roll((-shift, -shift), (1, 2))
        windows = tokens.view(batch, grid[0], side, grid[1], side, channels).transpose(2, 3)
        qkv = self.qkv(windows.reshape(-1, side * side, channels))
        # (3, B * windows, heads, side^2, channels per head)
        q, k, v = qkv.view(-1, side * side, 3, heads, channels // heads).permute(2, 0, 3, 1, 4)
        bias = self.bias[self.index].view(side * side, side * side, heads).permute(2, 0, 1)
        if shift:
            mask = self._mask(grid, tokens.device)  # (windows, 1, side^2, side^2)
            bias = (bias + mask.to(bias.dtype)).repeat(batch, 1, 1, 1)
        scores = (q * (channels // heads) ** -0.5) @ k.transpose(-2, -1) + bias
        mixed = self.out((scores.softmax(-1) @ v).transpose(1, 2).reshape(-1, side * side, channels))
        tokens = mixed.view(batch, *grid, side, side, channels).transpose(2, 3).reshape(batch, height, width, channels)
        return tokens.roll((shift, shift), (1, 2)) if shift else tokens

    def _mask(self, grid: tuple[int, int], device: torch.device) -> Tensor:
        """0 where two tokens of a shifted window are neighbours in the image, a large negative number elsewhere."""
        region = [
            (torch.arange(cells * self.window, device=device) >= cells * self.window - self.shift).int()
            for cells in grid
        ]
        area = (2 * region[0][:, None] + region[1]).view(grid[0], self.window, grid[1], self.window)
        area = area.transpose(1, 2).reshape(-1, 1, self.window**2)
        return -1e4 * (area[..., None] != area[..., None, :]).float()


class Block(nn.Module):  # type: ignore[misc]
    """Depthwise convolution, window attention, two-layer network; each added to its input."""

    def __init__(self, width: int, window: int, shifted: bool) -> None:
        super().__init__()
        self.position = TokenConv(width, width, 3, groups=width)
        self.norm1 = nn.LayerNorm(width)
        self.attention = WindowAttention(width, window, shifted)
        self.norm2 = nn.LayerNorm(width)
        self.mlp = nn.Sequential(nn.Linear(width, 4 * width), nn.SiLU(), nn.Linear(4 * width, width))

    def forward(self, tokens: Tensor) -> Tensor:
        """(B, H, W, C) to the same."""
        tokens = tokens + self.position(tokens)
        tokens = tokens + self.attention(self.norm1(tokens))
        return tokens + self.mlp(self.norm2(tokens))


class NanoSwin(nn.Module):  # type: ignore[misc]
    """Image to three grids of tokens.

    Args:
        widths, depths: channels and blocks at strides 4, 8, 16.
        window: side of a window, cells.
    """

    def __init__(self, widths: tuple[int, int, int], depths: tuple[int, int, int], window: int) -> None:
        super().__init__()
        first = widths[0]
        self.stem = nn.Sequential(
            TokenConv(3, first // 2, 3, 2), nn.LayerNorm(first // 2), nn.SiLU(), TokenConv(first // 2, first, 3, 2)
        )
        self.stages = nn.ModuleList()
        self.merges = nn.ModuleList()
        for stage, (width, depth) in enumerate(zip(widths, depths, strict=True)):
            self.stages.append(nn.Sequential(*(Block(width, window, bool(i % 2)) for i in range(depth))))
            if stage:
                self.merges.append(
                    nn.Sequential(nn.LayerNorm(widths[stage - 1]), TokenConv(widths[stage - 1], width, 3, 2))
                )

    def forward(self, images: Tensor) -> list[Tensor]:
        """(B, H, W, 3) to (B, H/4, W/4, C1), (B, H/8, W/8, C2), (B, H/16, W/16, C3)."""
        tokens = self.stages[0](self.stem(images))
        grids = [tokens]
        for merge, stage in zip(self.merges, list(self.stages)[1:], strict=True):
            grids.append(stage(merge(grids[-1])))
        return grids
