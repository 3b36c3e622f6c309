"""ResNet with bottleneck blocks and frozen batch norms, as torchvision's ``resnet50`` (stride in the 3 x 3)."""

from __future__ import annotations

from typing import Any

from ovd_bench.grounding_dino_jt.dino.config import ResNetConfig
from ovd_bench.kernels.bases import Module
from ovd_bench.kernels.runtime import jittor

jt = jittor()
nn = jt.nn

#: Added to the variance, as in ``FrozenBatchNorm2d`` of ``models/dino/backbone.py``.
_EPSILON = 1e-5


class ResNet(Module):
    """Images to feature maps, one per ``out_stages``; parameters are named as in the official checkpoint."""

    def __init__(self, config: ResNetConfig) -> None:
        self.body = _Body(config)

    def execute(self, pixels: Any) -> list[Any]:
        """(B, 3, H, W) normalised pixels to maps (B, H / s, W / s, C), sides rounded up, one per output stage."""
        return [feature.permute(0, 2, 3, 1) for feature in self.body(pixels)]


class FrozenBatchNorm(Module):
    """Scale and shift of each channel, from statistics that training does not change."""

    def __init__(self, channels: int) -> None:
        self.weight, self.bias = jt.ones((channels,)).stop_grad(), jt.zeros((channels,)).stop_grad()
        self.running_mean, self.running_var = jt.zeros((channels,)).stop_grad(), jt.ones((channels,)).stop_grad()

    def execute(self, x: Any) -> Any:
        """(B, C, H, W) to (B, C, H, W)."""
        scale = self.weight / jt.sqrt(self.running_var + _EPSILON)
        shift = self.bias - self.running_mean * scale
        return x * scale.reshape(1, -1, 1, 1) + shift.reshape(1, -1, 1, 1)


class _Body(Module):
    def __init__(self, config: ResNetConfig) -> None:
        self.conv1 = nn.Conv2d(3, 64, 7, stride=2, padding=3, bias=False)
        self.bn1 = FrozenBatchNorm(64)
        for stage, blocks in enumerate(config.blocks):
            inputs = config.channels(stage - 1) if stage else 64
            rest = [Bottleneck(config.channels(stage), config.channels(stage), 1) for _ in range(blocks - 1)]
            first = Bottleneck(inputs, config.channels(stage), 2 if stage else 1)
            setattr(self, f"layer{stage + 1}", nn.Sequential(first, *rest))
        self._config = config

    def execute(self, pixels: Any) -> list[Any]:
        """(B, 3, H, W) to maps (B, C, H / s, W / s)."""
        x = _max_pool(nn.relu(self.bn1(self.conv1(pixels))))
        maps = []
        for stage in range(max(self._config.out_stages) + 1):
            x = getattr(self, f"layer{stage + 1}")(x)
            if stage in self._config.out_stages:
                maps.append(x)
        return maps


class Bottleneck(Module):
    """1 x 1, 3 x 3, 1 x 1, and the shortcut."""

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        inner = outputs // 4
        self.conv1 = nn.Conv2d(inputs, inner, 1, bias=False)
        self.bn1 = FrozenBatchNorm(inner)
        self.conv2 = nn.Conv2d(inner, inner, 3, stride=stride, padding=1, bias=False)
        self.bn2 = FrozenBatchNorm(inner)
        self.conv3 = nn.Conv2d(inner, outputs, 1, bias=False)
        self.bn3 = FrozenBatchNorm(outputs)
        self._shortcut = stride != 1 or inputs != outputs
        if self._shortcut:
            self.downsample = nn.Sequential(
                nn.Conv2d(inputs, outputs, 1, stride=stride, bias=False), FrozenBatchNorm(outputs)
            )

    def execute(self, x: Any) -> Any:
        """(B, C, H, W) to (B, outputs, H / stride, W / stride)."""
        y = nn.relu(self.bn1(self.conv1(x)))
        y = nn.relu(self.bn2(self.conv2(y)))
        y = self.bn3(self.conv3(y))
        return nn.relu(y + (self.downsample(x) if self._shortcut else x))


def _max_pool(x: Any) -> Any:
    """Max pooling, 3 x 3, stride 2, of non-negative numbers, so that padding with zeros has no effect.

    Jittor's own max pooling does not accept maps of three rows or fewer, which occur for thin images.
    """
    x = nn.pad(x, (1, 1, 1, 1))
    x = jt.maximum(jt.maximum(x[:, :, :-2:2], x[:, :, 1:-1:2]), x[:, :, 2::2])
    return jt.maximum(jt.maximum(x[..., :-2:2], x[..., 1:-1:2]), x[..., 2::2])
