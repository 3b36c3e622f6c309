"""The feature pyramid of GLIP (``modeling/backbone/fpn.py``): P3 … P5 of the backbone, P6 and P7 below them."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn
from torch.nn import functional

#: Official names of the coarser levels.
_EXTRA = ("p6", "p7")


class Fpn(nn.Module):  # type: ignore[misc]
    """Maps of the backbone to levels of equal width, finest first, and coarser ones computed from the last of them.

    Args:
        inputs: channels of the maps, finest first. Names are numbered from 2, as officially, where stage 1 is unused.
        channels: channels of the levels.
        extra: levels beyond the maps, at most 2; GLIP has P6 and P7.
    """

    def __init__(self, inputs: Sequence[int], channels: int, extra: int = 2) -> None:
        super().__init__()
        self._count = len(inputs)
        for number, width in enumerate(inputs, 2):
            self.add_module(f"fpn_inner{number}", nn.Conv2d(width, channels, 1))
            self.add_module(f"fpn_layer{number}", nn.Conv2d(channels, channels, 3, padding=1))
        blocks = {name: nn.Conv2d(channels, channels, 3, 2, 1) for name in _EXTRA[:extra]}
        self.top_blocks = nn.ModuleDict(blocks)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_uniform_(module.weight, a=1)
                nn.init.zeros_(module.bias)

    def forward(self, maps: Sequence[Tensor]) -> list[Tensor]:
        """Maps (B, C', H', W') to levels (B, C, H, W); each level has half the side of the one before, rounded up.

        P6 is computed from the level P5, not from the last map, since they are equally wide (``LastLevelP6P7``); before
        P7 there is a ReLU.
        """
        levels: list[Tensor] = []
        above: Tensor | None = None
        for number in reversed(range(self._count)):
            inner = self.get_submodule(f"fpn_inner{number + 2}")(maps[number])
            if above is not None:
                inner = inner + functional.interpolate(above, inner.shape[2:], mode="nearest")
            levels.insert(0, self.get_submodule(f"fpn_layer{number + 2}")(inner))
            above = inner
        for name, block in self.top_blocks.items():
            levels.append(block(levels[-1] if name == _EXTRA[0] else levels[-1].relu()))
        return levels
