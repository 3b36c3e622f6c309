"""The image side of a block of the head: convolutions over neighbouring levels (Dai et al. 2021, *Dynamic Head*).

Source: ``modeling/rpn/vldyhead.py`` (``DyConv``) and ``layers/dyrelu.py`` of microsoft/GLIP.

Every level computes its own offsets for three deformable convolutions: on itself, on the next finer level with stride
2, and on the next coarser level. The output of the last one is smaller than the offsets. The official operator does not
check this: it indexes the offsets with the strides of its output and so reads, for each image, only the first numbers
of the offsets, as many as the small grid needs. The released weights were trained with this behaviour. It is
``coarse_offsets="prefix"``, the default; ``"resized"`` resizes the offsets bilinearly to the coarser grid, for new
trainings.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional

from ovd_bench.baselines.glip.config import CoarseOffsets
from ovd_bench.baselines.glip.deform import TAPS, DeformConv


class DyConv(nn.Module):  # type: ignore[misc]
    """Convolutions from each level and its neighbours to new levels.

    Args:
        channels: channels of the levels.
        groups: number of groups of the normalisation.
        coarse_offsets: see the module.
    """

    def __init__(self, channels: int, groups: int, coarse_offsets: CoarseOffsets) -> None:
        super().__init__()
        self.DyConv = nn.ModuleList(_Branch(channels, groups, stride) for stride in (1, 1, 2))
        self.AttnConv = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Conv2d(channels, 1, 1), nn.ReLU())
        self.relu = DyReLU(channels)
        self.offset = nn.Conv2d(channels, 3 * TAPS, 3, padding=1)
        self._coarse_offsets = coarse_offsets
        nn.init.normal_(self.AttnConv[1].weight, std=0.01)
        nn.init.zeros_(self.AttnConv[1].bias)

    def forward(self, levels: Sequence[Tensor]) -> list[Tensor]:
        """Levels (B, C, H, W), finest first, to new ones, all computed from the input levels."""
        return [self.relu(self._level(levels, number)) for number in range(len(levels))]

    def _level(self, levels: Sequence[Tensor], number: int) -> Tensor:
        """Mean of the existing branches, each times its own attention."""
        level = levels[number]
        moved = self.offset(level)
        offsets, mask = moved[:, : 2 * TAPS], moved[:, 2 * TAPS :].sigmoid()
        branches = [self.DyConv[1](level, offsets, mask)]
        if number > 0:
            branches.append(self.DyConv[2](levels[number - 1], offsets, mask))
        if number < len(levels) - 1:
            coarser = levels[number + 1]
            to_grid = first_numbers if self._coarse_offsets == "prefix" else _resized
            size = (int(coarser.shape[2]), int(coarser.shape[3]))
            small = self.DyConv[0](coarser, to_grid(offsets, size), to_grid(mask, size))
            large = functional.interpolate(small, level.shape[2:], mode="bilinear", align_corners=True)
            branches.append(large)
        total = sum(branch * functional.hardsigmoid(self.AttnConv(branch)) for branch in branches)
        return total / len(branches)


class _Branch(nn.Module):  # type: ignore[misc]
    def __init__(self, channels: int, groups: int, stride: int) -> None:
        super().__init__()
        self.conv = DeformConv(channels, stride)
        self.bn = nn.GroupNorm(groups, channels)

    def forward(self, image: Tensor, offsets: Tensor, mask: Tensor) -> Tensor:
        return self.bn(self.conv(image, offsets, mask))


def first_numbers(maps: Tensor, size: tuple[int, int]) -> Tensor:
    """(B, K, H, W), read row by row, to (B, K, *size) with the first numbers of each image.

    Args:
        maps: offsets or masks.
        size: height and width, of a grid that is not larger.
    """
    kinds = maps.shape[1]
    return maps.flatten(1)[:, : kinds * size[0] * size[1]].view(-1, kinds, *size)


def _resized(maps: Tensor, size: tuple[int, int]) -> Tensor:
    return functional.interpolate(maps, size, mode="bilinear", align_corners=False)


class DyReLU(nn.Module):  # type: ignore[misc]
    """Dynamic ReLU: maximum of two lines per channel, with slopes and offsets from the map's mean (Chen et al. 2020).

    Initially the lines are y = x and y = 0, an ordinary ReLU. The reduction is 4; slopes stay within ± 1 of their
    initial value, offsets within ± 0.5.

    Args:
        channels: in and out.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        squeezed = channels // 4
        self.fc = nn.Sequential(
            nn.Linear(channels, squeezed), nn.ReLU(), nn.Linear(squeezed, 4 * channels), nn.Hardsigmoid()
        )

    def forward(self, image: Tensor) -> Tensor:
        """(B, C, H, W) to the same."""
        slope, offset, other_slope, other_offset = (self.fc(image.mean((2, 3))) - 0.5)[:, :, None, None].chunk(4, dim=1)
        return torch.maximum(image * (2 * slope + 1) + offset, image * (2 * other_slope) + other_offset)
