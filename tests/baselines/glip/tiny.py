"""A tiny GLIP with numbers in every parameter, and files of it in the official layouts."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor

from ovd_bench.baselines.bert import BertConfig
from ovd_bench.baselines.glip.config import GlipConfig
from ovd_bench.baselines.glip.model import Glip
from ovd_bench.baselines.swin import SwinConfig

SWIN = SwinConfig(embed_dim=16, depths=(2, 2, 2, 1), num_heads=(1, 2, 2, 4), window_size=4, drop_path_rate=0.0)
BERT = BertConfig(vocabulary=30522, positions=64, width=24, layers=2, heads=2, intermediate=40)
TINY = GlipConfig(
    swin=SWIN,
    bert=BERT,
    channels=32,
    blocks=2,
    fusion_width=48,
    fusion_heads=3,
    norm_groups=8,
    classes=5,
    max_tokens=48,
    anchor_sizes=(16, 32, 64, 128, 256),
    dropout=0.0,
    image_size=96,
    image_longest=160,
)


def drawn(config: GlipConfig, seed: int = 0, spread: float = 0.1) -> Glip:
    """With noise on every parameter, so that no path is silent; offsets reach over several pixels."""
    generator = torch.Generator().manual_seed(seed)
    torch.manual_seed(seed)
    model: Glip = Glip(config).eval().requires_grad_(False)
    for name, parameter in model.named_parameters():
        # sampling is not smooth: where a whole network is looked at, wild offsets magnify rounding
        wide = 0.3 if name.endswith("offset.bias") else spread
        parameter += wide * torch.randn(parameter.shape, generator=generator)
    model.rpn["head"].bias0.fill_(-1.0)  # probabilities that pass the threshold
    return model


def official_state(model: Glip) -> dict[str, Tensor]:
    """As microsoft/GLIP writes it: prefix, and buffers among the parameters."""
    state = {f"module.{name}": tensor.clone() for name, tensor in model.state_dict().items()}
    config = model.config
    for stage, depth in enumerate(config.swin.depths):
        for block in range(depth):
            name = f"module.backbone.body.layers.{stage}.blocks.{block}.attn.relative_position_index"
            side = config.swin.window_size**2
            state[name] = torch.zeros(side, side, dtype=torch.int64)
    state["module.language_backbone.body.model.embeddings.position_ids"] = torch.arange(config.bert.positions)[None]
    for level in range(len(config.anchor_sizes)):
        state[f"module.rpn.anchor_generator.cell_anchors.{level}"] = torch.zeros(1, 4)
    return state


def mmdet_state(official: dict[str, Tensor]) -> dict[str, Tensor]:
    """As mmdetection's converter makes it of the official one (``tools/model_converters/glip_to_mmdet.py``)."""
    parts = {
        "backbone.body.": "backbone.",
        "layers.": "stages.",
        "patch_embed.proj.": "patch_embed.projection.",
        "mlp.fc1.": "ffn.layers.0.0.",
        "mlp.fc2.": "ffn.layers.1.",
        ".attn.": ".attn.w_msa.",
    }
    pyramid = {f"fpn_inner{n + 2}": f"neck.lateral_convs.{n}.conv" for n in range(3)}
    pyramid |= {f"fpn_layer{n + 2}": f"neck.fpn_convs.{n}.conv" for n in range(3)}
    pyramid |= {"top_blocks.p6": "neck.fpn_convs.3.conv", "top_blocks.p7": "neck.fpn_convs.4.conv"}
    state = {}
    for name, tensor in official.items():
        if any(word in name for word in ("anchor_generator", "cls_logits", "pooler")):
            continue
        new = name.removeprefix("module.")
        if new.startswith("backbone.body."):
            for old, other in parts.items():
                new = new.replace(old, other)
            if "downsample" in new:
                # unfolded windows: channel by channel, within it (0, 0), (0, 1), (1, 0), (1, 1) of (row, column)
                groups = tensor.chunk(4, dim=-1)
                tensor = torch.stack([groups[0], groups[2], groups[1], groups[3]], dim=-1).flatten(-2)
        elif new.startswith("backbone.fpn."):
            stem, _, kind = new.removeprefix("backbone.fpn.").rpartition(".")
            new = f"{pyramid[stem]}.{kind}"
        elif new.startswith("language_backbone."):
            new = f"language_model.{new}"
        else:
            new = f"bbox_head.{new.removeprefix('rpn.')}".replace("DyConv", "dyconvs").replace("AttnConv", "attnconv")
        state[new] = tensor
    return state


def write_official(model: Glip, path: Path) -> Path:
    """The file that microsoft/GLIP's training writes, optimiser's state apart."""
    torch.save({"model": official_state(model), "iteration": 3}, path)
    return path


def caption_tokens(count: int, seed: int = 0, padded: int | None = None) -> tuple[Tensor, Tensor]:
    """Int64 (1, n) ids and bool (1, n); ``count`` of them are no padding."""
    generator = torch.Generator().manual_seed(seed)
    ids = torch.zeros(1, padded or count, dtype=torch.int64)
    ids[0, :count] = torch.randint(1000, 30000, (count,), generator=generator)
    return ids, torch.arange(padded or count)[None] < count


def random_pixels(height: int, width: int, batch: int = 1, seed: int = 0) -> Tensor:
    """Normalised noise (B, 3, H, W)."""
    return torch.randn(batch, 3, height, width, generator=torch.Generator().manual_seed(seed))
