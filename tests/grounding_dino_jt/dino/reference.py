"""A second implementation of DINO in torch, from its description, for comparison; one image size at a time.

The backbone is torchvision's, the sampling of deformable attention transformers'.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.nn import functional
from torchvision.models.resnet import Bottleneck, ResNet
from torchvision.ops import FrozenBatchNorm2d
from transformers.models.deformable_detr.modeling_deformable_detr import MultiScaleDeformableAttention

from ovd_bench.baselines.swin import Swin
from ovd_bench.baselines.swin import SwinConfig as TorchSwinConfig
from ovd_bench.grounding_dino_jt.config import SwinConfig
from ovd_bench.grounding_dino_jt.dino.config import DinoConfig


@dataclass(frozen=True)
class Reference:
    """What the network says of a batch.

    Attributes:
        maps: of the backbone, (B, C, H, W).
        memory: (B, N, d).
        scores: (B, N), best class logit of every place.
        start: (B, Q, 4), boxes that the queries start from.
        logits, boxes: (B, Q, classes), (B, Q, 4), of each decoder layer.
    """

    maps: list[Tensor]
    memory: Tensor
    scores: Tensor
    start: Tensor
    logits: list[Tensor]
    boxes: list[Tensor]


class ReferenceDino:
    """The network.

    Args:
        state: in the official layout, without prefix.
        config: sizes that shapes do not tell.
    """

    def __init__(self, state: dict[str, Tensor], config: DinoConfig) -> None:
        self.state, self.config = state, config
        backbone = config.backbone
        self.backbone: Any
        if isinstance(backbone, SwinConfig):
            self.backbone = Swin(TorchSwinConfig(**vars(backbone)))
            self._fill("backbone.0.")
        else:
            self.backbone = ResNet(Bottleneck, list(backbone.blocks), norm_layer=FrozenBatchNorm2d)
            del self.backbone.fc
            self._fill("backbone.0.body.")
        self.backbone.eval()

    @torch.no_grad()  # type: ignore[untyped-decorator]
    def __call__(self, pixels: Tensor, padding: Tensor) -> Reference:
        """Pixels (B, 3, H, W) and padding (B, H, W), true where no image is."""
        maps = self._maps(pixels)
        levels = [self._projected(level, feature) for level, feature in enumerate(maps)]
        for level in range(len(levels), self.config.num_feature_levels):
            levels.append(self._projected(level, maps[-1] if level == len(maps) else levels[-1]))
        masks = [functional.interpolate(padding[None].float(), size=level.shape[-2:])[0].bool() for level in levels]
        shapes = [(level.shape[2], level.shape[3]) for level in levels]
        hidden = torch.cat([mask.flatten(1) for mask in masks], 1)
        places = torch.cat([self._sine(mask).flatten(1, 2) + self.state["transformer.level_embed"][n]
                            for n, mask in enumerate(masks)], 1)  # fmt: skip
        ratios = torch.stack(
            [torch.stack([(~mask[:, 0]).float().mean(1), (~mask[:, :, 0]).float().mean(1)], -1) for mask in masks], 1
        )
        centres, boxes = self._cells(masks)
        x = torch.cat([level.flatten(2).transpose(1, 2) for level in levels], 1)
        for number in range(self.config.enc_layers):
            name = f"transformer.encoder.layers.{number}"
            references = centres[:, :, None] * ratios[:, None]
            looked = self._sampled(f"{name}.self_attn", x + places, x, hidden, references, shapes)
            x = self._norm(f"{name}.norm1", x + looked)
            x = self._norm(f"{name}.norm2", x + self._feed_forward(name, x))
        return self._decoded(maps, x, boxes, hidden, ratios, shapes)

    def _decoded(
        self, maps: list[Tensor], memory: Tensor, boxes: Tensor, hidden: Tensor, ratios: Tensor, shapes: list[Any]
    ) -> Reference:
        usable = ((boxes > 0.01) & (boxes < 0.99)).all(-1, keepdim=True) & ~hidden[..., None]
        proposals = torch.logit(boxes.double()).float().masked_fill(~usable, math.inf)
        output = self._linear("transformer.enc_output", memory.masked_fill(~usable, 0.0))
        output = self._norm("transformer.enc_output_norm", output)
        scores = self._linear("transformer.enc_out_class_embed", output).max(-1).values
        chosen = scores.topk(self.config.num_queries, dim=1).indices[..., None]
        moved = self._mlp("transformer.enc_out_bbox_embed", output, 3) + proposals
        reference = moved.gather(1, chosen.expand(-1, -1, 4)).sigmoid()
        start = reference
        x = self.state["transformer.tgt_embed.weight"].expand(len(memory), -1, -1)
        logits, found = [], []
        for number in range(self.config.dec_layers):
            name = f"transformer.decoder.layers.{number}"
            scaled = reference[:, :, None] * torch.cat([ratios, ratios], -1)[:, None]
            position = self._mlp("transformer.decoder.ref_point_head", self._box_sine(scaled[:, :, 0]), 2)
            x = self._norm(f"{name}.norm2", x + self._self_attention(f"{name}.self_attn", x + position, x))
            looked = self._sampled(f"{name}.cross_attn", x + position, memory, hidden, scaled, shapes)
            x = self._norm(f"{name}.norm1", x + looked)
            x = self._norm(f"{name}.norm3", x + self._feed_forward(name, x))
            before = self._inverse_sigmoid(reference)
            normed = self._norm("transformer.decoder.norm", x)
            logits.append(self._linear(f"class_embed.{number}", normed))
            found.append((self._mlp(f"bbox_embed.{number}", normed, 3) + before).sigmoid())
            reference = (self._mlp(f"transformer.decoder.bbox_embed.{number}", x, 3) + before).sigmoid()
        return Reference(maps, memory, scores, start, logits, found)

    def _fill(self, prefix: str) -> None:
        own = {name.removeprefix(prefix): value for name, value in self.state.items() if name.startswith(prefix)}
        missing, unexpected = self.backbone.load_state_dict(own, strict=False)
        assert not [name for name in (*missing, *unexpected) if "relative_position_index" not in name]

    def _maps(self, pixels: Tensor) -> list[Tensor]:
        net = self.backbone
        if isinstance(net, Swin):
            return [feature.permute(0, 3, 1, 2) for feature in net(pixels)]
        x = net.maxpool(net.relu(net.bn1(net.conv1(pixels))))
        maps = []
        for stage in range(4):
            x = getattr(net, f"layer{stage + 1}")(x)
            if stage in self.config.backbone.out_stages:
                maps.append(x)
        return maps

    def _projected(self, level: int, feature: Tensor) -> Tensor:
        weight, bias = self._pair(f"input_proj.{level}.0")
        extra = weight.shape[-1] == 3
        x = functional.conv2d(feature, weight, bias, stride=1 + extra, padding=int(extra))
        return functional.group_norm(x, 32, *self._pair(f"input_proj.{level}.1"))

    def _sine(self, mask: Tensor) -> Tensor:
        """(B, H, W) to (B, H, W, d): y before x, the last real cell at 2 pi, temperature 20."""
        real = (~mask).float()
        half = self.config.hidden_dim // 2
        periods = 20.0 ** (2 * torch.div(torch.arange(half), 2, rounding_mode="floor") / half)
        parts = []
        for axis in (1, 2):
            count = real.cumsum(axis)
            angle = (count / (count.amax(axis, keepdim=True) + 1e-6) * 2 * math.pi)[..., None] / periods
            parts.append(torch.stack([angle[..., 0::2].sin(), angle[..., 1::2].cos()], -1).flatten(-2))
        return torch.cat(parts, -1)

    def _box_sine(self, boxes: Tensor) -> Tensor:
        half = self.config.hidden_dim // 2
        periods = 10000.0 ** (2 * torch.div(torch.arange(half), 2, rounding_mode="floor") / half)
        angle = (boxes[..., [1, 0, 2, 3]] * 2 * math.pi)[..., None] / periods
        return torch.stack([angle[..., 0::2].sin(), angle[..., 1::2].cos()], -1).flatten(-2).flatten(-2)

    def _cells(self, masks: list[Tensor]) -> tuple[Tensor, Tensor]:
        """Centres (B, N, 2) and boxes (B, N, 4), as shares of the image without its padding."""
        centres, boxes = [], []
        for level, mask in enumerate(masks):
            height, width = mask.shape[1:]
            real = torch.stack([(~mask[:, 0]).sum(1), (~mask[:, :, 0]).sum(1)], -1).float()[:, None]
            y, x = torch.meshgrid(torch.arange(height) + 0.5, torch.arange(width) + 0.5, indexing="ij")
            centre = torch.stack([x, y], -1).reshape(1, -1, 2) / real
            centres.append(centre)
            boxes.append(torch.cat([centre, torch.full_like(centre, 0.05 * 2**level)], -1))
        return torch.cat(centres, 1), torch.cat(boxes, 1)

    def _sampled(
        self, name: str, query: Tensor, memory: Tensor, hidden: Tensor, references: Tensor, shapes: list[Any]
    ) -> Tensor:
        config, (batch, count) = self.config, query.shape[:2]
        grid = (config.num_heads, config.num_feature_levels, 4)
        value = self._linear(f"{name}.value_proj", memory).masked_fill(hidden[..., None], 0.0)
        offsets = self._linear(f"{name}.sampling_offsets", query).view(batch, count, *grid, 2)
        shares = self._linear(f"{name}.attention_weights", query).view(batch, count, config.num_heads, -1)
        shares = shares.softmax(-1).view(batch, count, *grid)
        sizes = torch.tensor([(width, height) for height, width in shapes]).float()
        at = references[:, :, None, :, None]
        if references.shape[-1] == 2:
            places = at + offsets / sizes[None, None, None, :, None]
        else:
            places = at[..., :2] + offsets / 4 * at[..., 2:] * 0.5
        value = value.view(batch, -1, config.num_heads, value.shape[-1] // config.num_heads)
        tensor = torch.tensor(shapes)
        first = torch.cat([tensor.new_zeros(1), tensor.prod(1).cumsum(0)[:-1]])
        mixed = MultiScaleDeformableAttention()(value, tensor, shapes, first, places, shares, 64)
        return self._linear(f"{name}.output_proj", mixed)

    def _self_attention(self, name: str, query: Tensor, value: Tensor) -> Tensor:
        q, v = query.transpose(0, 1), value.transpose(0, 1)
        mixed, _ = functional.multi_head_attention_forward(
            q, q, v, q.shape[-1], self.config.num_heads,
            self.state[f"{name}.in_proj_weight"], self.state[f"{name}.in_proj_bias"], None, None, False, 0.0,
            *self._pair(f"{name}.out_proj"), training=False, need_weights=False,
        )  # fmt: skip
        return mixed.transpose(0, 1)

    def _feed_forward(self, name: str, x: Tensor) -> Tensor:
        return self._linear(f"{name}.linear2", self._linear(f"{name}.linear1", x).relu())

    def _mlp(self, name: str, x: Tensor, layers: int) -> Tensor:
        for layer in range(layers):
            x = self._linear(f"{name}.layers.{layer}", x)
            x = x.relu() if layer < layers - 1 else x
        return x

    def _linear(self, name: str, x: Tensor) -> Tensor:
        return functional.linear(x, *self._pair(name))

    def _norm(self, name: str, x: Tensor) -> Tensor:
        return functional.layer_norm(x, x.shape[-1:], *self._pair(name))

    def _inverse_sigmoid(self, x: Tensor) -> Tensor:
        return torch.log(x.clamp(min=1e-3) / (1 - x).clamp(min=1e-3))

    def _pair(self, name: str) -> tuple[Tensor, Tensor]:
        return self.state[f"{name}.weight"], self.state[f"{name}.bias"]


def pixels_of(sizes: list[tuple[int, int]], seed: int = 0) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.bool_]]:
    """Smooth noise (B, 3, H, W), zero at padding, and the padding (B, H, W)."""
    rng = np.random.default_rng(seed)
    height, width = (max(size[axis] for size in sizes) for axis in (0, 1))
    pixels, padding = np.zeros((len(sizes), 3, height, width), np.float32), np.ones((len(sizes), height, width), bool)
    for row, (h, w) in enumerate(sizes):
        coarse = rng.standard_normal((3, h // 8 + 1, w // 8 + 1)).repeat(8, 1).repeat(8, 2)[:, :h, :w]
        pixels[row, :, :h, :w] = coarse + 0.3 * rng.standard_normal((3, h, w))
        padding[row, :h, :w] = False
    return pixels, padding
