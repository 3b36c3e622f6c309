"""``config.json`` and ``preprocessor_config.json`` of Hugging Face's transformers, from and to a configuration.

The files leave out values that are the defaults of the library's classes, so the defaults are repeated here
(``GroundingDinoConfig``, ``MMGroundingDinoConfig``, ``SwinConfig``, ``BertConfig``, ``CLIPTextConfig`` of
transformers 5.23).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ovd_bench.grounding_dino_jt.config import Config, SwinConfig, TextConfig
from ovd_bench.grounding_dino_jt.weights.errors import WeightsError

MODEL_TYPES = ("grounding-dino", "mm-grounding-dino")

#: The suite's network supports only one value of these.
_FIXED = {
    "activation_function": "relu",
    "position_embedding_type": "sine",
    "query_dim": 4,
    "two_stage": True,
    "embedding_init_target": True,
    "two_stage_bbox_embed_share": False,
    "layer_norm_eps": 1e-5,
}
_FIXED_SWIN = {
    "model_type": "swin",
    "mlp_ratio": 4.0,
    "qkv_bias": True,
    "use_absolute_embeddings": False,
    "hidden_act": "gelu",
    "layer_norm_eps": 1e-5,
    "num_channels": 3,
}
_FIXED_PIXELS = {"image_mean": [0.485, 0.456, 0.406], "image_std": [0.229, 0.224, 0.225]}
_FIXED_BERT = {"model_type": "bert", "type_vocab_size": 2, "hidden_act": "gelu"}


def config_from_hf(document: Mapping[str, Any], preprocessor: Mapping[str, Any], box_heads: int) -> Config:
    """The configuration behind a folder's JSON files.

    ``box_epsilon`` stays the official 1e-3 although transformers computes with 1e-5: weights were trained with 1e-3.

    Args:
        document: ``config.json``.
        preprocessor: ``preprocessor_config.json``, empty if there is none.
        box_heads: number of the decoder's box heads in the file; decides whether the layers of MM-Grounding-DINO share
            one, because published configurations lack this or are wrong.

    Raises:
        WeightsError: another model, a value that the suite's network does not support, or one of a wrong type; without
            the file's name.
    """
    kind = document.get("model_type")
    if kind not in MODEL_TYPES:
        raise WeightsError(f"model_type is {kind!r}, one of {', '.join(MODEL_TYPES)} is needed")
    _require(document, _FIXED)
    _require(preprocessor, _FIXED_PIXELS)
    mm = kind == "mm-grounding-dino"
    heads, wide = _number(document, "encoder_attention_heads", 8), _number(document, "encoder_ffn_dim", 2048)
    _require(
        {"decoder_attention_heads": 8, "decoder_ffn_dim": 2048, **document},
        {"decoder_attention_heads": heads, "decoder_ffn_dim": wide},
    )
    size = _section(preprocessor, "size")
    try:
        return Config(
            backbone=_swin(_section(document, "backbone_config")),
            text=bert_from_hf(_section(document, "text_config")),
            hidden_dim=_number(document, "d_model", 256),
            num_heads=heads,
            dim_feedforward=wide,
            enc_layers=_number(document, "encoder_layers", 6),
            dec_layers=_number(document, "decoder_layers", 6),
            num_queries=_number(document, "num_queries", 900),
            num_feature_levels=_number(document, "num_feature_levels", 4),
            enc_points=_number(document, "encoder_n_points", 4),
            dec_points=_number(document, "decoder_n_points", 4),
            pe_temperature=_fraction(document, "positional_embedding_temperature", 20.0),
            max_text_len=_number(document, "max_text_len", 256),
            fusion_drop_path=_fraction(document, "fusion_droppath", 0.1),
            class_scale="sqrt" if mm else "none",
            class_bias=mm,
            shared_box_head=box_heads == 1 if mm else _flag(document, "decoder_bbox_embed_share", True),
            image_size=_number(size, "shortest_edge", 800),
            image_longest=_number(size, "longest_edge", 1333),
        )
    except WeightsError:
        raise
    except (ValueError, ZeroDivisionError) as error:
        raise WeightsError(f"no model has these sizes: {error}") from error


def bert_from_hf(text: Mapping[str, Any]) -> TextConfig:
    """A BERT, from its ``config.json`` or the section ``text_config`` of a detector's.

    Raises:
        WeightsError: see ``config_from_hf``.
    """
    _require(text, _FIXED_BERT)
    if text.get("position_embedding_type", "absolute") != "absolute":
        raise WeightsError("text_config: only absolute positions are supported")
    return TextConfig(
        hidden_size=_number(text, "hidden_size", 768),
        num_layers=_number(text, "num_hidden_layers", 12),
        num_heads=_number(text, "num_attention_heads", 12),
        intermediate_size=_number(text, "intermediate_size", 3072),
        vocab_size=_number(text, "vocab_size", 30522),
        max_positions=_number(text, "max_position_embeddings", 512),
        layer_norm_eps=_fraction(text, "layer_norm_eps", 1e-12),
    )


def clip_from_hf(text: Mapping[str, Any]) -> TextConfig:
    """A CLIP text tower, from the ``config.json`` of a ``CLIPTextModel`` or the section ``text_config`` of a CLIP's.

    Raises:
        WeightsError: see ``config_from_hf``.
    """
    activation = text.get("hidden_act", "quick_gelu")
    if activation not in ("gelu", "quick_gelu"):
        raise WeightsError(f"hidden_act is {activation!r}, gelu or quick_gelu is needed")
    return TextConfig(
        kind="clip",
        hidden_size=_number(text, "hidden_size", 512),
        num_layers=_number(text, "num_hidden_layers", 12),
        num_heads=_number(text, "num_attention_heads", 8),
        intermediate_size=_number(text, "intermediate_size", 2048),
        vocab_size=_number(text, "vocab_size", 49408),
        max_positions=_number(text, "max_position_embeddings", 77),
        layer_norm_eps=_fraction(text, "layer_norm_eps", 1e-5),
        activation=activation,
    )


def clip_from_open_clip(document: Mapping[str, Any]) -> TextConfig:
    """A CLIP text tower, from ``open_clip_config.json``.

    Raises:
        WeightsError: see ``config_from_hf``.
    """
    model = _section(document, "model_cfg")
    text = _section(model, "text_cfg")
    if unknown := set(text) - {"context_length", "vocab_size", "width", "heads", "layers", "mlp_ratio"}:
        raise WeightsError(f"a text tower with {', '.join(sorted(unknown)[:5])}: only CLIP's plain one is supported")
    width = _number(text, "width", 512)
    return TextConfig(
        kind="clip",
        hidden_size=width,
        num_layers=_number(text, "layers", 12),
        num_heads=_number(text, "heads", 8),
        intermediate_size=int(width * _fraction(text, "mlp_ratio", 4.0)),
        vocab_size=_number(text, "vocab_size", 49408),
        max_positions=_number(text, "context_length", 77),
        layer_norm_eps=1e-5,
        activation="quick_gelu" if _flag(model, "quick_gelu", False) else "gelu",
    )


def _swin(swin: Mapping[str, Any]) -> SwinConfig:
    _require(swin, _FIXED_SWIN)
    depths = _numbers(swin, "depths", (2, 2, 6, 2))
    if features := swin.get("out_features"):
        names = ["stem", *(f"stage{number + 1}" for number in range(len(depths)))]
        if not isinstance(features, list) or not all(name in names for name in features):
            raise WeightsError(f"out_features is {features!r}")
        indices = tuple(names.index(name) for name in features)
    else:
        indices = _numbers(swin, "out_indices", (2, 3, 4))
    return SwinConfig(
        embed_dim=_number(swin, "embed_dim", 96),
        depths=depths,
        num_heads=_numbers(swin, "num_heads", (3, 6, 12, 24)),
        window_size=_number(swin, "window_size", 7),
        patch_size=_number(swin, "patch_size", 4),
        out_stages=tuple(index - 1 for index in indices),
        drop_path_rate=_fraction(swin, "drop_path_rate", 0.1),
    )


def hf_config(config: Config) -> dict[str, Any]:
    """``config.json`` of a model.

    Raises:
        WeightsError: a model that transformers does not have.
    """
    plain = Config()
    switches = (
        *("use_fusion", "use_text_enhancer", "use_text_cross_attention", "query_selection", "prompt", "attention"),
        "nms_iou",
    )
    changed = [name for name in switches if getattr(config, name) != getattr(plain, name)]
    if not config.pe_temperature.is_integer():
        changed.append("pe_temperature")
    if config.text.kind != "bert":
        changed.append("text")
    changed += [name for name in ("phrase_frame", "centred") if getattr(config.text, name) != getattr(plain.text, name)]
    if (config.class_scale == "sqrt") != config.class_bias:
        changed.append("class_scale without class_bias" if config.class_scale == "sqrt" else "class_bias")
    if changed:
        raise WeightsError(f"transformers has no such model: {', '.join(changed)}")
    swin, text = config.backbone, config.text
    mm = config.class_bias
    stages = [stage + 1 for stage in swin.out_stages]
    document = {
        "model_type": "mm-grounding-dino" if mm else "grounding-dino",
        "architectures": ["MMGroundingDinoForObjectDetection" if mm else "GroundingDinoForObjectDetection"],
        "backbone_config": {
            **_FIXED_SWIN,
            "embed_dim": swin.embed_dim,
            "depths": list(swin.depths),
            "num_heads": list(swin.num_heads),
            "window_size": swin.window_size,
            "patch_size": swin.patch_size,
            "drop_path_rate": swin.drop_path_rate,
            "out_features": [f"stage{stage}" for stage in stages],
            "out_indices": stages,
        },
        "text_config": {
            **_FIXED_BERT,
            "hidden_size": text.hidden_size,
            "num_hidden_layers": text.num_layers,
            "num_attention_heads": text.num_heads,
            "intermediate_size": text.intermediate_size,
            "vocab_size": text.vocab_size,
            "max_position_embeddings": text.max_positions,
            "layer_norm_eps": text.layer_norm_eps,
        },
        **_FIXED,
        "d_model": config.hidden_dim,
        "encoder_attention_heads": config.num_heads,
        "decoder_attention_heads": config.num_heads,
        "encoder_ffn_dim": config.dim_feedforward,
        "decoder_ffn_dim": config.dim_feedforward,
        "encoder_layers": config.enc_layers,
        "decoder_layers": config.dec_layers,
        "num_queries": config.num_queries,
        "num_feature_levels": config.num_feature_levels,
        "encoder_n_points": config.enc_points,
        "decoder_n_points": config.dec_points,
        "positional_embedding_temperature": int(config.pe_temperature),
        "max_text_len": config.max_text_len,
        "fusion_droppath": config.fusion_drop_path,
        "decoder_bbox_embed_share": config.shared_box_head,
        "dtype": "float32",
    }
    if mm:
        del document["two_stage_bbox_embed_share"]
        document["decoder_cls_embed_share"] = False
    return document


def hf_preprocessor(config: Config) -> dict[str, Any]:
    """``preprocessor_config.json`` of a model."""
    return {
        "image_processor_type": "GroundingDinoImageProcessor",
        "processor_class": "GroundingDinoProcessor",
        "do_resize": True,
        "size": {"shortest_edge": config.image_size, "longest_edge": config.image_longest},
        "resample": 2,
        "do_rescale": True,
        "rescale_factor": 1 / 255,
        "do_normalize": True,
        **_FIXED_PIXELS,
        "do_pad": True,
        "format": "coco_detection",
    }


def _require(document: Mapping[str, Any], values: Mapping[str, Any]) -> None:
    """Check that fields with only one supported value have it; missing fields are accepted."""
    for key, value in values.items():
        if (found := document.get(key, value)) != value:
            raise WeightsError(f"{key} is {found!r}, only {value!r} is supported")


def _section(document: Mapping[str, Any], key: str) -> Mapping[str, Any]:
    section = document.get(key) or {}
    if not isinstance(section, dict):
        raise WeightsError(f"{key} is {section!r}, an object is needed")
    return section


def _number(document: Mapping[str, Any], key: str, default: int) -> int:
    value = document.get(key, default)
    if type(value) is not int:
        raise WeightsError(f"{key} is {value!r}, a whole number is needed")
    return value


def _numbers(document: Mapping[str, Any], key: str, default: tuple[int, ...]) -> tuple[int, ...]:
    value = document.get(key, list(default))
    if not isinstance(value, list) or not all(type(one) is int for one in value):
        raise WeightsError(f"{key} is {value!r}, a list of whole numbers is needed")
    return tuple(value)


def _fraction(document: Mapping[str, Any], key: str, default: float) -> float:
    value = document.get(key, default)
    if type(value) not in (int, float):
        raise WeightsError(f"{key} is {value!r}, a number is needed")
    return float(value)


def _flag(document: Mapping[str, Any], key: str, default: bool) -> bool:
    value = document.get(key, default)
    if type(value) is not bool:
        raise WeightsError(f"{key} is {value!r}, true or false is needed")
    return value
