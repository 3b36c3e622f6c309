"""Names of Grounding DINO and MM-Grounding-DINO in files of Hugging Face's transformers.

The rules use the names in published files, which transformers 5 still writes. Its models have other names in memory;
files with those are read too.
"""

from __future__ import annotations

import re

from ovd_bench.grounding_dino_jt.weights.names import NameMap, multihead

SWIN = "model.backbone.conv_encoder.model"
_BLOCK, _HF_BLOCK = "backbone.0.layers.#.blocks.#", f"{SWIN}.encoder.layers.#.blocks.#"
_ENCODER, _HF_ENCODER = "transformer.encoder", "model.encoder.layers.#"
_DECODER, _HF_DECODER = "transformer.decoder.layers.#", "model.decoder.layers.#"
_QKV = ("query", "key", "value")

_BACKBONE = {
    "backbone.0.patch_embed.proj.*": f"{SWIN}.embeddings.patch_embeddings.projection.*",
    "backbone.0.patch_embed.norm.*": f"{SWIN}.embeddings.norm.*",
    f"{_BLOCK}.norm1.*": f"{_HF_BLOCK}.layernorm_before.*",
    f"{_BLOCK}.norm2.*": f"{_HF_BLOCK}.layernorm_after.*",
    f"{_BLOCK}.attn.relative_position_bias_table": f"{_HF_BLOCK}.attention.self.relative_position_bias_table",
    f"{_BLOCK}.attn.proj.*": f"{_HF_BLOCK}.attention.output.dense.*",
    f"{_BLOCK}.mlp.fc1.*": f"{_HF_BLOCK}.intermediate.dense.*",
    f"{_BLOCK}.mlp.fc2.*": f"{_HF_BLOCK}.output.dense.*",
    "backbone.0.layers.#.downsample.*": f"{SWIN}.encoder.layers.#.downsample.*",
    # Stages are counted from 1 there.
    **{f"backbone.0.norm{stage}.*": f"{SWIN}.hidden_states_norms.stage{stage + 1}.*" for stage in range(8)},
}
_SINGLE = {
    "input_proj.#.#.*": "model.input_proj_vision.#.#.*",
    "bert.*": "model.text_backbone.*",
    "feat_map.*": "model.text_projection.*",
    "transformer.level_embed": "model.level_embed",
    "transformer.tgt_embed.weight": "model.query_position_embeddings.weight",
    "transformer.enc_output.*": "model.enc_output.*",
    "transformer.enc_output_norm.*": "model.enc_output_norm.*",
    "transformer.enc_out_bbox_embed.*": "model.encoder_output_bbox_embed.*",
    "transformer.enc_out_class_embed.bias": "model.encoder_output_class_embed.bias",
    "transformer.decoder.norm.*": "model.decoder.layer_norm.*",
    "transformer.decoder.ref_point_head.*": "model.decoder.reference_points_head.*",
    "class_embed.#.bias": "class_embed.#.bias",
    "bbox_embed.#.*": "bbox_embed.#.*",
}
_IMAGE_LAYER = {
    "self_attn.*": "self_attn.*",
    "norm1.*": "self_attn_layer_norm.*",
    "linear1.*": "fc1.*",
    "linear2.*": "fc2.*",
    "norm2.*": "final_layer_norm.*",
}
_TEXT_LAYER = {
    "linear1.*": "fc1.*",
    "linear2.*": "fc2.*",
    "norm1.*": "layer_norm_before.*",
    "norm2.*": "layer_norm_after.*",
}
_FUSION_LAYER = {
    "gamma_v": "vision_param",
    "gamma_l": "text_param",
    "layer_norm_v.*": "layer_norm_vision.*",
    "layer_norm_l.*": "layer_norm_text.*",
    "attn.v_proj.*": "attn.vision_proj.*",
    "attn.l_proj.*": "attn.text_proj.*",
    "attn.values_v_proj.*": "attn.values_vision_proj.*",
    "attn.values_l_proj.*": "attn.values_text_proj.*",
    "attn.out_v_proj.*": "attn.out_vision_proj.*",
    "attn.out_l_proj.*": "attn.out_text_proj.*",
}
_DECODER_LAYER = {
    "norm2.*": "self_attn_layer_norm.*",
    "catext_norm.*": "encoder_attn_text_layer_norm.*",
    "cross_attn.*": "encoder_attn.*",
    "norm1.*": "encoder_attn_layer_norm.*",
    "linear1.*": "fc1.*",
    "linear2.*": "fc2.*",
    "norm3.*": "final_layer_norm.*",
}
_LAYERS = (
    (f"{_ENCODER}.layers.#", f"{_HF_ENCODER}.deformable_layer", _IMAGE_LAYER),
    (f"{_ENCODER}.text_layers.#", f"{_HF_ENCODER}.text_enhancer_layer", _TEXT_LAYER),
    (f"{_ENCODER}.fusion_layers.#", f"{_HF_ENCODER}.fusion_layer", _FUSION_LAYER),
    (_DECODER, _HF_DECODER, _DECODER_LAYER),
)

HF_NAMES = NameMap(
    [
        *((canonical, (foreign,)) for canonical, foreign in {**_BACKBONE, **_SINGLE}.items()),
        *(
            (f"{canonical}.{mine}", (f"{foreign}.{theirs}",))
            for canonical, foreign, names in _LAYERS
            for mine, theirs in names.items()
        ),
        (f"{_BLOCK}.attn.qkv.*", tuple(f"{_HF_BLOCK}.attention.self.{name}.*" for name in _QKV)),
        *multihead(f"{_ENCODER}.text_layers.#.self_attn", f"{_HF_ENCODER}.text_enhancer_layer.self_attn", _QKV),
        *multihead(f"{_DECODER}.self_attn", f"{_HF_DECODER}.self_attn", _QKV),
        *multihead(f"{_DECODER}.ca_text", f"{_HF_DECODER}.encoder_attn_text", _QKV),
    ]
)

#: Computed from the configuration, or unused: the last LayerNorm of a Swin that is a backbone, BERT's pooler.
HF_LEFTOVERS = re.compile(
    rf"{SWIN}\.(swin\.)?layernorm\..*|.*\.relative_position_index|label_enc\.weight"
    r"|model\.text_backbone\.(pooler\..*|embeddings\.(position_ids|token_type_ids))"
)

_IN_MEMORY = (
    (re.compile(r"^swin\."), ""),
    (re.compile(r"\.attention\.q_proj\."), ".attention.self.query."),
    (re.compile(r"\.attention\.k_proj\."), ".attention.self.key."),
    (re.compile(r"\.attention\.v_proj\."), ".attention.self.value."),
    (re.compile(r"\.attention\.o_proj\."), ".attention.output.dense."),
    (re.compile(r"\.attention\.relative_position_bias\."), ".attention.self."),
    (re.compile(r"\.mlp\.fc1\."), ".intermediate.dense."),
    (re.compile(r"\.mlp\.fc2\."), ".output.dense."),
)
_COPY = re.compile(r"^model\.decoder\.(bbox_embed|class_embed)\.")


def stored_name(name: str) -> str:
    """Published name of a tensor under the name that transformers 5 has for it in memory, or of a tied copy."""
    if name.startswith(f"{SWIN}."):
        rest = name.removeprefix(f"{SWIN}.")
        for pattern, replacement in _IN_MEMORY:
            rest = pattern.sub(replacement, rest)
        return f"{SWIN}.{rest}"
    return _COPY.sub(r"\1.", name)
