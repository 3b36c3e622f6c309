"""Pretrained text encoders as a start for trainings: BERT and MiniLM, and the text tower of CLIP.

Canonical CLIP names are those of open_clip with the prefix ``clip.``, without the projection into CLIP's joint space:
the detector's own ``feat_map`` replaces it.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from ovd_bench.grounding_dino_jt.config import TextConfig
from ovd_bench.grounding_dino_jt.weights.errors import WeightsError
from ovd_bench.grounding_dino_jt.weights.folder import read_json, read_tensors, sha256_of
from ovd_bench.grounding_dino_jt.weights.hf_config import bert_from_hf, clip_from_hf, clip_from_open_clip
from ovd_bench.grounding_dino_jt.weights.names import NameMap, Part, multihead
from ovd_bench.grounding_dino_jt.weights.shapes import Shapes, text_layers_fit, text_shapes
from ovd_bench.grounding_dino_jt.weights.stored import Array, assemble

_BLOCK, _HF_BLOCK = "clip.transformer.resblocks.#", "encoder.layers.#"

#: ``CLIPTextModel`` of transformers, without the prefix ``text_model.`` that it has within a ``CLIPModel``.
_HF_CLIP = NameMap(
    [
        ("clip.token_embedding.weight", ("embeddings.token_embedding.weight",)),
        ("clip.positional_embedding", ("embeddings.position_embedding.weight",)),
        (f"{_BLOCK}.ln_1.*", (f"{_HF_BLOCK}.layer_norm1.*",)),
        (f"{_BLOCK}.ln_2.*", (f"{_HF_BLOCK}.layer_norm2.*",)),
        (f"{_BLOCK}.mlp.c_fc.*", (f"{_HF_BLOCK}.mlp.fc1.*",)),
        (f"{_BLOCK}.mlp.c_proj.*", (f"{_HF_BLOCK}.mlp.fc2.*",)),
        ("clip.ln_final.*", ("final_layer_norm.*",)),
        *multihead(f"{_BLOCK}.attn", f"{_HF_BLOCK}.self_attn", ("q_proj", "k_proj", "v_proj")),
    ]
)

#: Heads, the image tower and computed integers.
_LEFTOVERS = re.compile(
    r"(text_model\.|text\.|bert\.)?embeddings\.position_ids|(bert\.)?pooler\..*|cls\..*|(text\.)?attn_mask"
    r"|(vision_model|visual|visual_projection)\..*|(text\.)?text_projection(\..*)?|logit_scale|logit_bias"
)


def read_text_encoder(folder: Path) -> tuple[dict[str, Array], TextConfig, str]:
    """A text encoder, from a folder in the layout of transformers or open_clip.

    Args:
        folder: with ``config.json`` and ``model.safetensors`` of a BERT, a CLIP or its text model, or with
            ``open_clip_config.json`` and ``open_clip_model.safetensors``.

    Returns:
        Tensors with canonical names (``bert.*`` or ``clip.*``), sizes, and the sha256 of the file.

    Raises:
        WeightsError: another model, or not exactly its tensors; see ``read_checkpoint``.
    """
    convert: Callable[[Mapping[str, Any]], TextConfig]
    place: Callable[[str], Part | None]
    if (folder / "open_clip_config.json").is_file():
        source, stem = folder / "open_clip_config.json", "open_clip_model"
        convert, place = clip_from_open_clip, _open_clip_part
        document = read_json(source)
    else:
        source, stem = folder / "config.json", "model"
        document = read_json(source)
        kind = document.get("model_type")
        if kind == "clip":
            document = document.get("text_config") or {}
        if kind in ("clip", "clip_text_model"):
            convert, place = clip_from_hf, _hf_clip_part
        else:
            convert, place = bert_from_hf, _bert_part
    try:
        text = convert(document)
        if not text_layers_fit(text):
            raise WeightsError("no text encoder has these sizes")
    except WeightsError as error:
        raise WeightsError(f"{source}: {error}") from error
    everything, files = read_tensors(folder, stem)
    stored = {name: tensor for name, tensor in everything.items() if not _LEFTOVERS.fullmatch(name)}
    if text.num_layers > len(stored):
        raise WeightsError(f"{source}: has {text.num_layers} layers, the file {len(stored)} tensors")
    shapes: Shapes = {}
    text_shapes(shapes, text)
    return assemble(folder, stored, place, shapes, sum(file.stat().st_size for file in files)), text, sha256_of(files)


def _open_clip_part(name: str) -> Part:
    return Part(f"clip.{name.removeprefix('text.')}")


def _hf_clip_part(name: str) -> Part | None:
    return _HF_CLIP.part(name.removeprefix("text_model."))


def _bert_part(name: str) -> Part:
    return Part(f"bert.{name.removeprefix('bert.')}")
