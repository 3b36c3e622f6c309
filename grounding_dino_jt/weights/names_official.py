"""Names of the official state dict, and inference of the configuration from shapes."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterable
from typing import TypedDict

from ovd_bench.grounding_dino_jt.config import Config, SwinConfig, TextConfig
from ovd_bench.grounding_dino_jt.weights.errors import WeightsError
from ovd_bench.grounding_dino_jt.weights.names import Part
from ovd_bench.grounding_dino_jt.weights.shapes import Shapes

#: Denoising labels of the training, BERT's pooler and computed integers: in the file but not used.
OFFICIAL_LEFTOVERS = re.compile(
    r"(module\.)?(label_enc\.weight|bert\.pooler\..*|bert\.embeddings\.(position_ids|token_type_ids)"
    r"|.*\.relative_position_index)"
)

#: Deformable attention samples 4 points per head and level in every published model; shapes give only heads x points.
_POINTS = 4

_BOX_HEAD = re.compile(r"(?:transformer\.decoder\.)?bbox_embed\.(\d+)\.(.+)")


def official_name(name: str) -> str:
    """Name without the prefix that ``DistributedDataParallel`` adds."""
    return name.removeprefix("module.")


def placer(config: Config, rename: Callable[[str], Part | None]) -> Callable[[str], Part | None]:
    """Target of a stored tensor in a model, tied copies included.

    Args:
        config: configuration of the model.
        rename: from stored to official names.
    """

    def place(name: str) -> Part | None:
        part = rename(name)
        match = _BOX_HEAD.fullmatch(part.name) if part else None
        if part is None or match is None:
            return part
        layer = int(match[1])
        if layer >= config.dec_layers or str(layer) != match[1]:
            return None
        return Part(f"bbox_embed.{0 if config.shared_box_head else layer}.{match[2]}")

    return place


def copies(config: Config, name: str) -> Iterable[str]:
    """All names that the official model has for a canonical one: a box head is in two lists, shared or not."""
    match = _BOX_HEAD.fullmatch(name)
    if match is None:
        return [name]
    layers = range(config.dec_layers) if config.shared_box_head else [int(match[1])]
    return [f"{owner}bbox_embed.{layer}.{match[2]}" for owner in ("", "transformer.decoder.") for layer in layers]


def infer_config(shapes: Shapes, *, shared_box_head: bool) -> Config:
    """The configuration of an official checkpoint, from the shapes of its tensors.

    Values that do not follow from shapes (temperature, text length, image size, drop path) are Grounding DINO's.

    Raises:
        WeightsError: a tensor that every such model has is missing or has too few axes, or the text encoder's number
            of heads is unknown; the message does not name the file.
    """
    swin = infer_swin(shapes)
    biased = any(re.fullmatch(r"class_embed\.\d+\.bias", name) for name in shapes)
    try:
        return Config(
            backbone=swin,
            text=_infer_bert(shapes),
            **infer_transformer(shapes),
            class_scale="sqrt" if biased else "none",
            class_bias=biased,
            shared_box_head=shared_box_head,
        )
    except WeightsError:
        raise
    except (ValueError, ZeroDivisionError) as error:
        raise WeightsError(f"no model has tensors of these shapes: {error}") from error


def infer_swin(shapes: Shapes) -> SwinConfig:
    """The backbone of an official checkpoint.

    Raises:
        WeightsError: see ``infer_config``.
    """
    depths = tuple(
        _count(shapes, rf"backbone\.0\.layers\.{stage}\.blocks\.(\d+)\.norm1\.weight")
        for stage in range(_count(shapes, r"backbone\.0\.layers\.(\d+)\.blocks\.0\.norm1\.weight"))
    )
    tables = [
        _shape(shapes, f"backbone.0.layers.{stage}.blocks.0.attn.relative_position_bias_table", 2)
        for stage in range(len(depths))
    ]
    patches = _shape(shapes, "backbone.0.patch_embed.proj.weight", 4)
    return SwinConfig(
        embed_dim=patches[0],
        depths=depths,
        num_heads=tuple(heads for _, heads in tables),
        window_size=(math.isqrt(tables[0][0]) + 1) // 2 if tables else 0,
        patch_size=patches[2],
        out_stages=tuple(s for s in range(len(depths)) if f"backbone.0.norm{s}.weight" in shapes),
    )


class TransformerSizes(TypedDict):
    """Sizes of encoder and decoder; see ``Config``."""

    hidden_dim: int
    num_heads: int
    dim_feedforward: int
    enc_layers: int
    dec_layers: int
    num_queries: int
    num_feature_levels: int
    enc_points: int
    dec_points: int


def infer_transformer(shapes: Shapes) -> TransformerSizes:
    """The encoder and the decoder of an official checkpoint.

    Raises:
        WeightsError: see ``infer_config``.
    """
    levels, d = _shape(shapes, "transformer.level_embed", 2)
    weights = _shape(shapes, "transformer.encoder.layers.0.self_attn.attention_weights.weight", 2)[0]
    if not levels:
        raise WeightsError("no model has tensors of these shapes: no feature level")
    return TransformerSizes(
        hidden_dim=d,
        num_heads=weights // (levels * _POINTS),
        dim_feedforward=_shape(shapes, "transformer.encoder.layers.0.linear1.weight", 2)[0],
        enc_layers=_count(shapes, r"transformer\.encoder\.layers\.(\d+)\.norm1\.weight"),
        dec_layers=_count(shapes, r"transformer\.decoder\.layers\.(\d+)\.norm1\.weight"),
        num_queries=_shape(shapes, "transformer.tgt_embed.weight", 2)[0],
        num_feature_levels=levels,
        enc_points=_POINTS,
        dec_points=_POINTS,
    )


def _infer_bert(shapes: Shapes) -> TextConfig:
    """Heads are 64 wide in BERT of every size, and 32 in MiniLM-384."""
    vocabulary, hidden = _shape(shapes, "bert.embeddings.word_embeddings.weight", 2)
    if hidden != 384 and hidden % 64:
        raise WeightsError(f"a text encoder of width {hidden}: its number of heads is unknown and needs a config")
    return TextConfig(
        hidden_size=hidden,
        num_layers=_count(shapes, r"bert\.encoder\.layer\.(\d+)\.output\.dense\.weight"),
        num_heads=12 if hidden == 384 else hidden // 64,
        intermediate_size=_shape(shapes, "bert.encoder.layer.0.intermediate.dense.weight", 2)[0],
        vocab_size=vocabulary,
        max_positions=_shape(shapes, "bert.embeddings.position_embeddings.weight", 2)[0],
    )


def _count(shapes: Shapes, pattern: str) -> int:
    """Number of different numbers in a name."""
    return len({match[1] for name in shapes if (match := re.fullmatch(pattern, name))})


def _shape(shapes: Shapes, name: str, axes: int) -> tuple[int, ...]:
    if len(shapes.get(name, ())) != axes:
        raise WeightsError(f"is not a model of this kind: no tensor {name} with {axes} axes")
    return shapes[name]
