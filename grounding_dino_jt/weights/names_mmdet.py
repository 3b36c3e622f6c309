"""Names and order of Grounding DINO and MM-Grounding-DINO in checkpoints of mmdetection.

Source: ``mmdet/models/detectors/grounding_dino.py`` and the modules it builds, mmdetection 3.3.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

import numpy as np
import numpy.typing as npt

from ovd_bench.grounding_dino_jt.weights.names import NameMap

_BLOCK, _MM_BLOCK = "backbone.0.layers.#.blocks.#", "backbone.stages.#.blocks.#"
_FEED_FORWARD = {"linear1.*": "ffn.layers.0.0.*", "linear2.*": "ffn.layers.1.*"}

_SINGLE = {
    "backbone.0.patch_embed.proj.*": "backbone.patch_embed.projection.*",
    "backbone.0.patch_embed.norm.*": "backbone.patch_embed.norm.*",
    f"{_BLOCK}.norm1.*": f"{_MM_BLOCK}.norm1.*",
    f"{_BLOCK}.norm2.*": f"{_MM_BLOCK}.norm2.*",
    f"{_BLOCK}.attn.*": f"{_MM_BLOCK}.attn.w_msa.*",
    f"{_BLOCK}.mlp.fc1.*": f"{_MM_BLOCK}.ffn.layers.0.0.*",
    f"{_BLOCK}.mlp.fc2.*": f"{_MM_BLOCK}.ffn.layers.1.*",
    "backbone.0.layers.#.downsample.*": "backbone.stages.#.downsample.*",
    "backbone.0.norm#.*": "backbone.norm#.*",
    "bert.*": "language_model.language_backbone.body.model.*",
    "feat_map.*": "text_feat_map.*",
    "transformer.level_embed": "level_embed",
    "transformer.tgt_embed.weight": "query_embedding.weight",
    "transformer.enc_output.*": "memory_trans_fc.*",
    "transformer.enc_output_norm.*": "memory_trans_norm.*",
    "transformer.encoder.fusion_layers.#.*": "encoder.fusion_layers.#.*",
    "transformer.decoder.norm.*": "decoder.norm.*",
    "transformer.decoder.ref_point_head.*": "decoder.ref_point_head.*",
}
#: Norms are numbered there in the order in which they are applied.
_LAYERS = {
    "encoder.layers.#": {"self_attn.*": "self_attn.*", "norm1.*": "norms.0.*", "norm2.*": "norms.1.*"},
    "encoder.text_layers.#": {"self_attn.*": "self_attn.attn.*", "norm1.*": "norms.0.*", "norm2.*": "norms.1.*"},
    "decoder.layers.#": {
        "self_attn.*": "self_attn.attn.*",
        "ca_text.*": "cross_attn_text.attn.*",
        "cross_attn.*": "cross_attn.*",
        "norm2.*": "norms.0.*",
        "catext_norm.*": "norms.1.*",
        "norm1.*": "norms.2.*",
        "norm3.*": "norms.3.*",
    },
}

#: Denoising, exponential averages of mmdetection 2, and LLMDet's language model.
MMDET_LEFTOVERS = re.compile(
    r"(dn_query_generator|lmm|connector|region_connector|image_seperate|ref_point_head|data_preprocessor)\..*|ema_.*"
)
#: Logarithm of a learned scale of the class logits; no effect while it is 0.
MMDET_LOG_SCALE = re.compile(r"bbox_head\.cls_branches\.\d+\.log_scale")


def mmdet_names(names: Iterable[str]) -> NameMap:
    """The map for a checkpoint; extra levels and the encoder's head are numbered after the others.

    Args:
        names: all names in the checkpoint.
    """
    names = set(names)
    levels = len({name for name in names if re.fullmatch(r"neck\.convs\.\d+\.conv\.weight", name)})
    layers = len({name for name in names if re.fullmatch(r"decoder\.layers\.\d+\.norms\.0\.weight", name)})
    rules = dict(_SINGLE)
    for layer, own in _LAYERS.items():
        for mine, theirs in {**own, **_FEED_FORWARD}.items():
            rules[f"transformer.{layer}.{mine}"] = f"{layer}.{theirs}"
    for level in range(levels + 4):
        neck = f"neck.convs.{level}" if level < levels else f"neck.extra_convs.{level - levels}"
        rules[f"input_proj.{level}.0.*"], rules[f"input_proj.{level}.1.*"] = f"{neck}.conv.*", f"{neck}.gn.*"
    for branch in range(layers + 1):
        last = branch == layers
        boxes = "transformer.enc_out_bbox_embed" if last else f"bbox_embed.{branch}"
        classes = "transformer.enc_out_class_embed" if last else f"class_embed.{branch}"
        rules[f"{classes}.bias"] = f"bbox_head.cls_branches.{branch}.bias"
        for number in range(3):  # linear layers are every other one of a sequence
            rules[f"{boxes}.layers.{number}.*"] = f"bbox_head.reg_branches.{branch}.{2 * number}.*"
    return NameMap((canonical, (foreign,)) for canonical, foreign in rules.items())


def is_patch_merging(canonical: str) -> bool:
    """Whether the last axis of a tensor covers the four merged neighbours."""
    return re.fullmatch(r"backbone\.0\.layers\.\d+\.downsample\..*", canonical) is not None


def official_merge_order(tensor: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """Patch merging from the order of ``unfold`` to the official one.

    Args:
        tensor: (..., 4C); the neighbours (row, column) of a channel are adjacent, as 00, 01, 10, 11.

    Returns:
        (..., 4C); the channels of a neighbour are adjacent, neighbours as 00, 10, 01, 11.
    """
    *rest, width = tensor.shape
    by_neighbour = tensor.reshape(*rest, width // 4, 4).swapaxes(-1, -2)[..., [0, 2, 1, 3], :]
    return np.ascontiguousarray(by_neighbour).reshape(tensor.shape)
