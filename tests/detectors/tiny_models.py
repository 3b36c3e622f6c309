"""Small models with random weights, in the file layout of the public ones.

Real vocabularies (BERT's WordPiece, CLIP's byte pairs) come from installed packages; everything else is written by
``save_pretrained``. Weights are drawn again after construction, because the usual initialisation leaves whole paths
silent (zero box heads, fusion scaled by 1e-4) and a comparison would not notice a fault there.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn
from transformers import (
    BertTokenizer,
    DeformableDetrConfig,
    DeformableDetrForObjectDetection,
    DetrConfig,
    DetrForObjectDetection,
    GroundingDinoConfig,
    GroundingDinoForObjectDetection,
    MMGroundingDinoConfig,
    MMGroundingDinoForObjectDetection,
    OmDetTurboConfig,
    OmDetTurboForObjectDetection,
    Owlv2Config,
    Owlv2ForObjectDetection,
    OwlViTConfig,
    OwlViTForObjectDetection,
)

from ovd_bench.detectors.coco_classes import COCO_CLASSES
from ovd_bench.detectors.types import Image
from ovd_bench.perf.random_models import bert_tokenizer, clip_tokenizer, draw_weights
from ovd_bench.tests.baselines.clip_region.tiny import write_open_clip

_BERT = {
    "model_type": "bert",
    "hidden_size": 24,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 32,
    "vocab_size": 30522,
}
_SWIN = {
    "model_type": "swin",
    "embed_dim": 8,
    "depths": [1, 1, 2, 1],
    "num_heads": [1, 2, 2, 2],
    "window_size": 4,
    "image_size": 64,
    "out_features": ["stage2", "stage3", "stage4"],
}
_CLIP_TEXT = {
    "vocab_size": 49408,
    "hidden_size": 24,
    "intermediate_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
}


def random_image(height: int, width: int, image_id: int = 0) -> Image:
    """Noise that is smooth enough to survive resizing."""
    coarse = np.random.default_rng(image_id + 1).random((height // 4 + 1, width // 4 + 1, 3))
    fine = coarse.repeat(4, axis=0).repeat(4, axis=1)[:height, :width]
    return Image(image_id, np.ascontiguousarray((fine * 255).astype(np.uint8)))


def write_owl(folder: Path, version: int, *, full_size: bool = False) -> Path:
    """OWL-ViT (version 1) or OWLv2 (version 2): patches of 8 in a square of 64, or B/32 at its real size."""
    small: dict[str, Any] = {
        "text_config": {**_CLIP_TEXT, "max_position_embeddings": 16},
        "vision_config": {
            "hidden_size": 32,
            "intermediate_size": 48,
            "num_hidden_layers": 2,
            "num_attention_heads": 2,
            "image_size": 64,
            "patch_size": 8,
        },
        "projection_dim": 24,
    }
    settings = {} if full_size else small
    model: nn.Module
    if version == 1:
        model = OwlViTForObjectDetection(OwlViTConfig(**settings))
    else:
        model = Owlv2ForObjectDetection(Owlv2Config(**settings))
    draw_weights(model, 0.02 if full_size else 0.1)
    with torch.no_grad():  # else every sigmoid is 0 or 1, whatever the image: boxes that say nothing
        model.box_head.dense2.weight *= 0.02
    processor = "OwlViTImageProcessor" if version == 1 else "Owlv2ImageProcessor"
    _save(model, folder, {"image_processor_type": processor})
    clip_tokenizer(pad="!").save_pretrained(folder)
    return folder


def write_grounding_dino(
    folder: Path,
    family: str = "grounding-dino",
    *,
    levels: int = 4,
    full_size: bool = False,
    seed: int = 0,
    words: Sequence[str] = (),
) -> Path:
    """Grounding DINO or MM-Grounding-DINO with 12 queries and images of 64 to 96 pixels, or at its real size.

    Args:
        folder: to write into.
        family: ``grounding-dino`` or ``mm-grounding-dino``.
        levels: of features; the backbone gives one less.
        full_size: Grounding DINO with Swin-T instead.
        seed: of the weights.
        words: of a vocabulary of its own, with its own case; empty = BERT's uncased one.
    """
    stages = [f"stage{stage}" for stage in range(6 - levels, 5)]
    small: dict[str, Any] = {
        "backbone_config": {**_SWIN, "out_features": stages},
        "num_feature_levels": levels,
        "text_config": _BERT | ({"vocab_size": len(words)} if words else {}),
        "d_model": 64,  # GroupNorm has 32 groups and refuses one value per group, as 32 would be on 1 x 1 features
        "num_queries": 12,
        "encoder_layers": 2,
        "decoder_layers": 2,
        "encoder_attention_heads": 4,
        "decoder_attention_heads": 4,
        "encoder_ffn_dim": 48,
        "decoder_ffn_dim": 48,
    }
    model: nn.Module
    torch.manual_seed(seed)
    if family == "grounding-dino":
        model = GroundingDinoForObjectDetection(GroundingDinoConfig(**({} if full_size else small)))
    else:
        share = {"decoder_bbox_embed_share": False, "decoder_cls_embed_share": False}
        model = MMGroundingDinoForObjectDetection(MMGroundingDinoConfig(**small, **share))
    size = {"shortest_edge": 800, "longest_edge": 1333} if full_size else {"shortest_edge": 64, "longest_edge": 96}
    preprocessor = {
        "image_processor_type": "GroundingDinoImageProcessor",
        "size": size,
        "image_mean": [0.485, 0.456, 0.406],
        "image_std": [0.229, 0.224, 0.225],
        "rescale_factor": 1 / 255,
        "do_rescale": True,
    }
    _write(model, folder, preprocessor, full_size, seed)
    own = BertTokenizer(vocab={word: row for row, word in enumerate(words)}, do_lower_case=False) if words else None
    (own or bert_tokenizer()).save_pretrained(folder)
    return folder


def write_omdet_turbo(folder: Path, *, full_size: bool = False) -> Path:
    """OmDet-Turbo with 12 queries, images of 64 pixels and the library's own Swin, or at its real size with timm's."""
    text = {"model_type": "clip_text_model", **_CLIP_TEXT, "max_position_embeddings": 77, "eos_token_id": 2}
    small: dict[str, Any] = {
        "backbone_config": _SWIN,
        "text_config": text,
        "image_size": 64,
        "text_projection_in_dim": 24,
        "text_projection_out_dim": 24,
        "class_embed_dim": 24,
        "task_encoder_hidden_dim": 32,
        "num_queries": 12,
        "encoder_hidden_dim": 32,
        "vision_features_channels": [32, 32, 32],
        "encoder_in_channels": [16, 32, 64],
        "encoder_dim_feedforward": 48,
        "encoder_attention_heads": 4,
        "decoder_hidden_dim": 32,
        "decoder_num_heads": 4,
        "decoder_num_layers": 2,
        "decoder_dim_feedforward": 48,
        "apply_layernorm_after_vision_backbone": False,
        "use_timm_backbone": False,
    }
    side = 640 if full_size else 64
    preprocessor = {
        "image_processor_type": "DetrImageProcessor",
        "size": {"height": side, "width": side},
        "image_mean": [123.675, 116.28, 103.53],
        "image_std": [58.395, 57.12, 57.375],
        "do_rescale": False,
        "rescale_factor": 1 / 255,
    }
    model = OmDetTurboForObjectDetection(OmDetTurboConfig(**({} if full_size else small)))
    _write(model, folder, preprocessor, full_size)
    clip_tokenizer(pad="<|endoftext|>").save_pretrained(folder)
    return folder


def write_closed_set(
    folder: Path, family: str = "detr", *, classes: Sequence[str] = COCO_CLASSES, backbone: str = "", layers: int = 0
) -> Path:
    """DETR or Deformable DETR with 12 queries and images of 64 to 96 pixels, or at its real size.

    Args:
        folder: to write into.
        family: ``detr`` or ``deformable-detr``.
        classes: its labels.
        backbone: of timm, as in the published weights, in place of a small ResNet of the library.
        layers: of the ResNet at real size.
    """
    resnet = {"model_type": "resnet", "embedding_size": 8, "hidden_sizes": [8, 12, 16, 24], "depths": [1, 1, 1, 1]}
    stages = ["stage4"] if family == "detr" else ["stage2", "stage3", "stage4"]
    small: dict[str, Any] = {
        "d_model": 64,
        "num_queries": 12,
        "encoder_layers": 2,
        "decoder_layers": 2,
        "encoder_attention_heads": 4,
        "decoder_attention_heads": 4,
        "encoder_ffn_dim": 48,
        "decoder_ffn_dim": 48,
        "backbone_config": {**resnet, "layer_type": "basic", "out_features": stages},
    }
    if backbone:
        small |= {"backbone_config": None, "backbone": backbone}
    settings = {"backbone": f"resnet{layers}"} if layers else small
    labels = {"id2label": dict(enumerate(classes)), "label2id": {name: row for row, name in enumerate(classes)}}
    torch.manual_seed(0)
    model: nn.Module
    if family == "detr":
        model = DetrForObjectDetection(DetrConfig(**settings, **labels))
        inner = model.model
        _sharpen(inner.input_projection, inner.query_position_embeddings, inner.decoder)
    else:
        model = DeformableDetrForObjectDetection(DeformableDetrConfig(**settings, **labels))
    size = {"shortest_edge": 800, "longest_edge": 1333} if layers else {"shortest_edge": 64, "longest_edge": 96}
    preprocessor = {
        "image_processor_type": "DetrImageProcessor",
        "size": size,
        "image_mean": [0.485, 0.456, 0.406],
        "image_std": [0.229, 0.224, 0.225],
    }
    _write(model, folder, preprocessor, full_size=bool(layers))
    return folder


def write_clip_region(folder: Path, *, detector: str = "owlv2-base-patch16-ensemble", **options: Any) -> Path:
    """A file of options that names a small CLIP and a small OWLv2, or the grid, that proposes.

    Args:
        folder: to write into.
        detector: that proposes.
        options: others of the file.
    """
    write_open_clip(folder / "clip")
    if detector != "grid":
        write_owl(folder / "proposing", 2)
    content = {"clip": "clip", "proposals": {"detector": detector, "weights": "proposing"}, **options}
    file = folder / "options.yaml"
    file.write_text(json.dumps(content))
    return file


def _sharpen(*parts: nn.Module) -> None:
    """Larger matrices: DETR's queries start from nothing, and untrained ones end in one and the same box."""
    with torch.no_grad():
        for part in parts:
            for parameter in part.parameters():
                if parameter.ndim >= 2:
                    parameter *= 10


def _write(model: nn.Module, folder: Path, preprocessor: dict[str, Any], full_size: bool, seed: int = 0) -> None:
    draw_weights(model, 0.02 if full_size else 0.1, seed)
    _save(model, folder, preprocessor)


def _save(model: nn.Module, folder: Path, preprocessor: dict[str, Any]) -> None:
    model.save_pretrained(folder)
    (folder / "preprocessor_config.json").write_text(json.dumps(preprocessor))
