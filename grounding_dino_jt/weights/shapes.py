"""Names and shapes of all parameters, from the configuration alone: the exact content of a weights file.

Names are those of the official state dict (IDEA-Research/GroundingDINO), each parameter once. Parameters that the
official model does not have follow its style: ``class_embed.{layer}.bias`` and ``transformer.enc_out_class_embed.bias``
(MM-Grounding-DINO), ``text_mean`` (centred text), ``transformer.refpoint_embed.weight`` (static queries),
``self_attn.attn.*`` and ``cross_attn.attn.*`` (dense attention), ``clip.*`` (a CLIP text tower, with the names of
open_clip).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise
from typing import Literal, get_args, get_origin, get_type_hints

from ovd_bench.grounding_dino_jt.config import Config, SwinConfig, TextConfig
from ovd_bench.grounding_dino_jt.weights.errors import WeightsError

Shapes = dict[str, tuple[int, ...]]
#: The table of a window has the fourth power of its side; known ones have 7, 12 and 24.
_LARGEST = {"image_size": 8192, "image_longest": 8192, "max_text_len": 4096, "window_size": 64}


def expected_shapes(config: Config) -> Shapes:
    """Shape of every parameter by name.

    Raises:
        WeightsError: impossible sizes or settings, such as different numbers of stages in depths and heads.
    """
    _check(config)
    shapes: Shapes = {}
    _swin(shapes, config.backbone)
    channels = [config.backbone.channels(stage) for stage in config.backbone.out_stages]
    projection_shapes(shapes, channels, config.hidden_dim, config.num_feature_levels)
    text_shapes(shapes, config.text)
    if config.text.centred:
        shapes["text_mean"] = (config.text.hidden_size,)
    _linear(shapes, "feat_map", config.hidden_dim, config.text.hidden_size)
    transformer_shapes(shapes, config)
    return shapes


def transformer_shapes(shapes: Shapes, config: Config) -> None:
    """Add the parameters of encoder, query selection, decoder and their heads."""
    _encoder(shapes, config)
    _queries(shapes, config)
    _decoder(shapes, config)


def parameter_count(config: Config) -> int:
    """Numbers in a model; 172,249,090 with Swin-T, 232,313,216 with Swin-B (BERT without its unused pooler)."""
    return sum(math.prod(shape) for shape in expected_shapes(config).values())


def swin_shapes(swin: SwinConfig) -> Shapes:
    """Shape of every parameter of an image backbone, the norms of its outputs included."""
    shapes: Shapes = {}
    _swin(shapes, swin)
    return shapes


def text_shapes(shapes: Shapes, text: TextConfig) -> None:
    """Add the parameters of a text encoder."""
    if text.kind == "clip":
        _clip(shapes, text)
    else:
        _bert(shapes, text)


def text_layers_fit(text: TextConfig) -> bool:
    """Whether the sizes of a text encoder are possible."""
    sizes = (text.hidden_size, text.num_heads, text.intermediate_size, text.vocab_size, text.max_positions)
    layers = text.num_layers >= 1 or (text.num_layers == 0 and bool(text.classes))  # vectors of classes need none
    return min(sizes) >= 1 and layers and text.hidden_size % text.num_heads == 0


def swin_fits(swin: SwinConfig) -> bool:
    """Whether the sizes of an image backbone are possible."""
    stages = len(swin.depths)
    return (
        min(swin.embed_dim, *swin.depths, *swin.num_heads, swin.window_size, swin.patch_size) >= 1
        and 1 <= stages <= 8
        and len(swin.num_heads) == stages
        and all(swin.channels(stage) % heads == 0 for stage, heads in enumerate(swin.num_heads))
        and len(swin.out_stages) >= 1
        and list(swin.out_stages) == sorted(set(swin.out_stages) & set(range(stages)))
    )


def transformer_fits(config: Config) -> bool:
    """Whether the sizes and settings of encoder and decoder are possible."""
    counts = (
        *(config.hidden_dim, config.num_heads, config.dim_feedforward, config.enc_layers, config.dec_layers),
        *(config.num_queries, config.num_feature_levels, config.enc_points, config.dec_points),
    )
    return (
        min(counts) >= 1
        and config.dim_feedforward % 2 == 0
        and config.hidden_dim % 32 == 0  # groups of the norm after each feature level
        and _words_known(config)
    )


def check_limits(config: Config) -> None:
    """Refuse sizes that no tensor of a file bears out, but that memory depends on.

    Raises:
        WeightsError: a size that no detector has; names the field.
    """
    sizes = {name: getattr(config, name) for name in ("image_size", "image_longest", "max_text_len")}
    sizes |= {"window_size": config.backbone.window_size}
    for name, value in sizes.items():
        if value > _LARGEST[name]:
            raise WeightsError(f"{name} is {value}, at most {_LARGEST[name]} is possible")


def _check(config: Config) -> None:
    check_limits(config)
    text = config.text
    if not (swin_fits(config.backbone) and transformer_fits(config) and text_layers_fit(text) and _words_known(text)):
        raise WeightsError(f"no model has these sizes or settings: {config.to_json()}")


def _words_known(fields: Config | TextConfig) -> bool:
    """Whether every choice has an allowed value."""
    hints = get_type_hints(type(fields))
    choices = {name: get_args(hint) for name, hint in hints.items() if get_origin(hint) is Literal}
    return all(getattr(fields, name) in values for name, values in choices.items())


def _linear(shapes: Shapes, name: str, outputs: int, inputs: int) -> None:
    shapes[f"{name}.weight"], shapes[f"{name}.bias"] = (outputs, inputs), (outputs,)


def _norm(shapes: Shapes, name: str, channels: int) -> None:
    shapes[f"{name}.weight"] = shapes[f"{name}.bias"] = (channels,)


def _mlp(shapes: Shapes, name: str, *widths: int) -> None:
    for layer, (inputs, outputs) in enumerate(pairwise(widths)):
        _linear(shapes, f"{name}.layers.{layer}", outputs, inputs)


def _multihead(shapes: Shapes, name: str, width: int) -> None:
    """Query, key and value in one matrix, as in ``torch.nn.MultiheadAttention``."""
    shapes[f"{name}.in_proj_weight"], shapes[f"{name}.in_proj_bias"] = (3 * width, width), (3 * width,)
    _linear(shapes, f"{name}.out_proj", width, width)


def _image_attention(shapes: Shapes, name: str, config: Config, points: int) -> None:
    d = config.hidden_dim
    if config.attention == "dense":
        _multihead(shapes, f"{name}.attn", d)
        return
    samples = config.num_heads * config.num_feature_levels * points
    _linear(shapes, f"{name}.sampling_offsets", 2 * samples, d)
    _linear(shapes, f"{name}.attention_weights", samples, d)
    _linear(shapes, f"{name}.value_proj", d, d)
    _linear(shapes, f"{name}.output_proj", d, d)


def _swin(shapes: Shapes, swin: SwinConfig) -> None:
    shapes["backbone.0.patch_embed.proj.weight"] = (swin.embed_dim, 3, swin.patch_size, swin.patch_size)
    shapes["backbone.0.patch_embed.proj.bias"] = (swin.embed_dim,)
    _norm(shapes, "backbone.0.patch_embed.norm", swin.embed_dim)
    for stage, (depth, heads) in enumerate(zip(swin.depths, swin.num_heads, strict=True)):
        d = swin.channels(stage)
        for number in range(depth):
            block = f"backbone.0.layers.{stage}.blocks.{number}"
            _norm(shapes, f"{block}.norm1", d)
            shapes[f"{block}.attn.relative_position_bias_table"] = ((2 * swin.window_size - 1) ** 2, heads)
            _linear(shapes, f"{block}.attn.qkv", 3 * d, d)
            _linear(shapes, f"{block}.attn.proj", d, d)
            _norm(shapes, f"{block}.norm2", d)
            _linear(shapes, f"{block}.mlp.fc1", 4 * d, d)
            _linear(shapes, f"{block}.mlp.fc2", d, 4 * d)
        if stage < len(swin.depths) - 1:
            shapes[f"backbone.0.layers.{stage}.downsample.reduction.weight"] = (2 * d, 4 * d)
            _norm(shapes, f"backbone.0.layers.{stage}.downsample.norm", 4 * d)
    for stage in swin.out_stages:
        _norm(shapes, f"backbone.0.norm{stage}", swin.channels(stage))


def projection_shapes(shapes: Shapes, inputs: Sequence[int], d: int, levels: int) -> None:
    """Add the projections of levels of width ``d``, the first of them from maps with these channels.

    1 x 1 for each level of the backbone; 3 x 3 for the extra ones, the first of them from the last of these.
    """
    for level in range(levels):
        extra = level - len(inputs)
        channels, side = (inputs[level], 1) if extra < 0 else (inputs[-1] if extra == 0 else d, 3)
        shapes[f"input_proj.{level}.0.weight"] = (d, channels, side, side)
        shapes[f"input_proj.{level}.0.bias"] = (d,)
        _norm(shapes, f"input_proj.{level}.1", d)


def _bert(shapes: Shapes, text: TextConfig) -> None:
    d = text.hidden_size
    rows = {"word": text.vocab_size, "position": text.max_positions, "token_type": 2}
    for name, count in rows.items():
        shapes[f"bert.embeddings.{name}_embeddings.weight"] = (count, d)
    _norm(shapes, "bert.embeddings.LayerNorm", d)
    for number in range(text.num_layers):
        layer = f"bert.encoder.layer.{number}"
        for name in ("self.query", "self.key", "self.value", "output.dense"):
            _linear(shapes, f"{layer}.attention.{name}", d, d)
        _norm(shapes, f"{layer}.attention.output.LayerNorm", d)
        _linear(shapes, f"{layer}.intermediate.dense", text.intermediate_size, d)
        _linear(shapes, f"{layer}.output.dense", d, text.intermediate_size)
        _norm(shapes, f"{layer}.output.LayerNorm", d)


def _clip(shapes: Shapes, text: TextConfig) -> None:
    d = text.hidden_size
    shapes["clip.token_embedding.weight"] = (text.vocab_size, d)
    shapes["clip.positional_embedding"] = (text.max_positions, d)
    for number in range(text.num_layers):
        block = f"clip.transformer.resblocks.{number}"
        _norm(shapes, f"{block}.ln_1", d)
        _multihead(shapes, f"{block}.attn", d)
        _norm(shapes, f"{block}.ln_2", d)
        _linear(shapes, f"{block}.mlp.c_fc", text.intermediate_size, d)
        _linear(shapes, f"{block}.mlp.c_proj", d, text.intermediate_size)
    _norm(shapes, "clip.ln_final", d)


def _feed_forward(shapes: Shapes, name: str, width: int, hidden: int) -> None:
    _linear(shapes, f"{name}.linear1", hidden, width)
    _linear(shapes, f"{name}.linear2", width, hidden)


def _encoder(shapes: Shapes, config: Config) -> None:
    d, wide = config.hidden_dim, config.dim_feedforward
    for number in range(config.enc_layers):
        image = f"transformer.encoder.layers.{number}"
        _image_attention(shapes, f"{image}.self_attn", config, config.enc_points)
        _norm(shapes, f"{image}.norm1", d)
        _feed_forward(shapes, image, d, wide)
        _norm(shapes, f"{image}.norm2", d)
        if config.use_text_enhancer:
            text = f"transformer.encoder.text_layers.{number}"
            _multihead(shapes, f"{text}.self_attn", d)
            _feed_forward(shapes, text, d, wide // 2)
            _norm(shapes, f"{text}.norm1", d)
            _norm(shapes, f"{text}.norm2", d)
        if config.use_fusion:
            fusion = f"transformer.encoder.fusion_layers.{number}"
            shapes[f"{fusion}.gamma_v"] = shapes[f"{fusion}.gamma_l"] = (d,)
            _norm(shapes, f"{fusion}.layer_norm_v", d)
            _norm(shapes, f"{fusion}.layer_norm_l", d)
            for name in ("v_proj", "l_proj", "values_v_proj", "values_l_proj"):
                _linear(shapes, f"{fusion}.attn.{name}", wide // 2, d)
            for name in ("out_v_proj", "out_l_proj"):
                _linear(shapes, f"{fusion}.attn.{name}", d, wide // 2)


def _queries(shapes: Shapes, config: Config) -> None:
    d = config.hidden_dim
    shapes["transformer.level_embed"] = (config.num_feature_levels, d)
    shapes["transformer.tgt_embed.weight"] = (config.num_queries, d)
    if config.query_selection != "language":
        shapes["transformer.refpoint_embed.weight"] = (config.num_queries, 4)
    if config.query_selection == "static":
        return
    _linear(shapes, "transformer.enc_output", d, d)
    _norm(shapes, "transformer.enc_output_norm", d)
    _mlp(shapes, "transformer.enc_out_bbox_embed", d, d, d, 4)
    if config.class_bias:
        shapes["transformer.enc_out_class_embed.bias"] = (1,)


def _decoder(shapes: Shapes, config: Config) -> None:
    d = config.hidden_dim
    for number in range(config.dec_layers):
        layer = f"transformer.decoder.layers.{number}"
        _multihead(shapes, f"{layer}.self_attn", d)
        _norm(shapes, f"{layer}.norm2", d)
        if config.use_text_cross_attention:
            _multihead(shapes, f"{layer}.ca_text", d)
            _norm(shapes, f"{layer}.catext_norm", d)
        _image_attention(shapes, f"{layer}.cross_attn", config, config.dec_points)
        _norm(shapes, f"{layer}.norm1", d)
        _feed_forward(shapes, layer, d, config.dim_feedforward)
        _norm(shapes, f"{layer}.norm3", d)
        if config.class_bias:
            shapes[f"class_embed.{number}.bias"] = (1,)
    _norm(shapes, "transformer.decoder.norm", d)
    _mlp(shapes, "transformer.decoder.ref_point_head", 2 * d, d, d)
    for number in range(1 if config.shared_box_head else config.dec_layers):
        _mlp(shapes, f"bbox_embed.{number}", d, d, d, 4)
