"""Strict reading of CLIP from a folder in the layout of open_clip or transformers, without pickle or network access."""

from __future__ import annotations

import fnmatch
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, TypeVar

import open_clip
import torch
from pydantic import BaseModel, ConfigDict, Field, ValidationError
from torch import Tensor

from ovd_bench.baselines.clip_region.network import ClipNetwork, Colour, Normalisation
from ovd_bench.baselines.untrusted_weights import check_sizes, mapped_tensors, planned

OPEN_CLIP_CONFIG = "open_clip_config.json"
#: Newer names first; within a layout, safetensors files come before files of torch.
_OPEN_CLIP_FILES = ("open_clip_model.safetensors", "open_clip_pytorch_model.bin")
_HUB_FILES = ("model*.safetensors", "pytorch_model*.bin")
#: Vocabulary size of CLIP's byte-pair encoding, the only one that is available here.
_VOCABULARY = 49408

_Size = Annotated[int, Field(ge=1)]
_Config = TypeVar("_Config", bound=BaseModel)


@dataclass(frozen=True)
class LoadedClip:
    """A network and its files.

    Attributes:
        network: float32, in evaluation mode.
        files: its weights files.
    """

    network: ClipNetwork
    files: list[Path]


def load_clip(directory: Path, device: str = "cpu") -> LoadedClip:
    """Load CLIP; every parameter must be set by exactly one tensor of the files.

    Args:
        directory: with ``open_clip_config.json`` and open_clip's weights, or otherwise with the ``config.json`` and the
            weights of transformers' ``CLIPModel``.
        device: to compute on.

    Raises:
        ValueError: files missing or broken, a model of another kind, tensors missing, left over or of the wrong shape.
    """
    if (directory / OPEN_CLIP_CONFIG).is_file():
        files = _files(directory, _OPEN_CLIP_FILES)
        config, normalisation = _open_clip_config(directory / OPEN_CLIP_CONFIG)
        tensors = _tensors(files)
    else:
        files = _files(directory, _HUB_FILES)
        config, normalisation = _hub_config(directory)
        tensors = _renamed(_tensors(files))
    try:
        plan = planned(lambda: open_clip.CLIP(**config), len(tensors))
        if plan.vocab_size != _VOCABULARY:
            raise ValueError(f"{plan.vocab_size} tokens, CLIP's byte pairs are {_VOCABULARY}")
        ClipNetwork(plan, normalisation)
    except (TypeError, ValueError, AssertionError, RuntimeError, ArithmeticError) as error:
        reason = " ".join(str(error).split())[:200]
        raise ValueError(f"{directory}: cannot be built as CLIP: {reason}") from error
    _check_fit(directory, plan, tensors)
    model = open_clip.CLIP(**config)
    model.load_state_dict({name: tensor.float() for name, tensor in tensors.items()})
    return LoadedClip(ClipNetwork(model, normalisation).to(device), files)


def _files(directory: Path, patterns: tuple[str, ...]) -> list[Path]:
    names = sorted(file.name for file in directory.iterdir() if file.is_file())
    for pattern in patterns:
        if found := fnmatch.filter(names, pattern):
            return [directory / name for name in found]
    raise ValueError(f"{directory}: no weights: {patterns[0].replace('*', '')} is needed")


def _tensors(files: list[Path]) -> dict[str, Tensor]:
    found: dict[str, Tensor] = {}
    for file in files:
        content = mapped_tensors(file)
        if twice := found.keys() & content.keys():
            raise ValueError(f"{file}: '{min(twice)}' is in two files")
        found |= content
    return found


def _check_fit(directory: Path, plan: open_clip.CLIP, tensors: Mapping[str, Tensor]) -> None:
    expected = plan.state_dict()
    faults = {
        "missing": sorted(expected.keys() - tensors.keys()),
        "not of this model": sorted(tensors.keys() - expected.keys()),
        "of the wrong shape": sorted(
            name for name in expected.keys() & tensors.keys() if expected[name].shape != tensors[name].shape
        ),
    }
    told = []
    for fault, names in faults.items():
        if names:
            more = f" … (+{len(names) - 5})" if len(names) > 5 else ""
            told.append(f"{fault}: {', '.join(names[:5])}{more}")
    if told:
        raise ValueError(f"{directory}: the weights do not fit the model: {'; '.join(told)}")


class _Preprocessing(BaseModel):
    model_config = ConfigDict(extra="ignore", frozen=True)

    mean: Colour = Normalisation().mean
    std: Colour = Normalisation().std


class _OpenClip(BaseModel):
    model_config = ConfigDict(extra="ignore", frozen=True)

    model_cfg: dict[str, Any]
    preprocess_cfg: _Preprocessing = _Preprocessing()


class _Tower(BaseModel):
    """Configuration of a tower in ``config.json``; missing values have the defaults of transformers."""

    model_config = ConfigDict(extra="ignore", frozen=True)

    hidden_size: _Size = 512
    intermediate_size: _Size = 2048
    num_hidden_layers: _Size = 12
    num_attention_heads: _Size = 8
    hidden_act: str = "quick_gelu"


class _TextTower(_Tower):
    vocab_size: _Size = _VOCABULARY
    max_position_embeddings: _Size = 77


class _ImageTower(_Tower):
    hidden_size: _Size = 768
    intermediate_size: _Size = 3072
    num_attention_heads: _Size = 12
    image_size: _Size = 224
    patch_size: _Size = 32


class _Hub(BaseModel):
    model_config = ConfigDict(extra="ignore", frozen=True)

    model_type: str = ""
    projection_dim: _Size = 512
    text_config: _TextTower = _TextTower()
    vision_config: _ImageTower = _ImageTower()


class _HubPreprocessing(BaseModel):
    model_config = ConfigDict(extra="ignore", frozen=True)

    image_mean: Colour = Normalisation().mean
    image_std: Colour = Normalisation().std


def _open_clip_config(file: Path) -> tuple[dict[str, Any], Normalisation]:
    """Arguments of ``open_clip.CLIP``, without towers that would be downloaded."""
    content = _validated(_OpenClip, file)
    config = content.model_cfg
    if {"embed_dim", "vision_cfg", "text_cfg"} - config.keys() or config.keys() - {
        "embed_dim",
        "vision_cfg",
        "text_cfg",
        "quick_gelu",
    }:
        raise ValueError(
            f"{file}: model_cfg has {', '.join(sorted(config))}; embed_dim, vision_cfg, text_cfg and, if need be, "
            "quick_gelu make a CLIP"
        )
    foreign = ("timm_model_name", "hf_model_name", "hf_tokenizer_name", "tokenizer_kwargs")
    for tower in ("vision_cfg", "text_cfg"):
        if not isinstance(config[tower], dict) or any(config[tower].get(name) for name in foreign):
            raise ValueError(f"{file}: {tower} is not a tower of open_clip's own with CLIP's tokenizer")
    return config, Normalisation(content.preprocess_cfg.mean, content.preprocess_cfg.std)


def _hub_config(directory: Path) -> tuple[dict[str, Any], Normalisation]:
    """Arguments of ``open_clip.CLIP`` for a model of transformers."""
    file = directory / "config.json"
    config = _validated(_Hub, file)
    if config.model_type != "clip":
        raise ValueError(f"{file}: holds a model of type '{config.model_type}', 'clip' is needed")
    text, vision = config.text_config, config.vision_config
    if {text.hidden_act, vision.hidden_act} not in ({"quick_gelu"}, {"gelu"}):
        raise ValueError(f"{file}: hidden_act must be quick_gelu or gelu, in both towers the same")
    for name, tower in (("text_config", text), ("vision_config", vision)):
        if tower.hidden_size % tower.num_attention_heads:
            raise ValueError(f"{file}: {name}: hidden_size is not a multiple of num_attention_heads")
    arguments = {
        "embed_dim": config.projection_dim,
        "quick_gelu": text.hidden_act == "quick_gelu",
        "vision_cfg": {
            "image_size": vision.image_size,
            "patch_size": vision.patch_size,
            "width": vision.hidden_size,
            "layers": vision.num_hidden_layers,
            "head_width": vision.hidden_size // vision.num_attention_heads,
            "mlp_ratio": _ratio(vision),
        },
        "text_cfg": {
            "context_length": text.max_position_embeddings,
            "vocab_size": text.vocab_size,
            "width": text.hidden_size,
            "heads": text.num_attention_heads,
            "layers": text.num_hidden_layers,
            "mlp_ratio": _ratio(text),
        },
    }
    file = directory / "preprocessor_config.json"
    colours = _validated(_HubPreprocessing, file) if file.is_file() else _HubPreprocessing()
    return arguments, Normalisation(colours.image_mean, colours.image_std)


def _ratio(tower: _Tower) -> float:
    """Factor of the width for open_clip, which truncates the product; half a unit is added against rounding errors."""
    return (tower.intermediate_size + 0.5) / tower.hidden_size


def _validated(kind: type[_Config], file: Path) -> _Config:
    try:
        document = json.loads(file.read_bytes())
    except FileNotFoundError as error:
        raise ValueError(
            f"{file.parent}: no {file.name}: a folder with {OPEN_CLIP_CONFIG} or the config.json of transformers, and "
            "with weights, is needed"
        ) from error
    except (OSError, ValueError, RecursionError) as error:
        raise ValueError(f"{file}: cannot be read as JSON: {' '.join(str(error).split())[:200]}") from error
    try:
        check_sizes(document)
        return kind.model_validate(document)
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(str(part) for part in first["loc"])
        raise ValueError(f"{file}: {place}: {first['msg']}") from error
    except ValueError as error:
        raise ValueError(f"{file}: {error}") from error


#: Names of transformers' ``CLIPModel`` and of open_clip; the projections of query, key and value are joined later.
_NAMES = (
    (r"^text_model\.embeddings\.token_embedding\.weight$", "token_embedding.weight"),
    (r"^text_model\.embeddings\.position_embedding\.weight$", "positional_embedding"),
    (r"^text_model\.final_layer_norm\.", "ln_final."),
    (r"^text_projection\.weight$", "text_projection"),
    (r"^vision_model\.embeddings\.class_embedding$", "visual.class_embedding"),
    (r"^vision_model\.embeddings\.patch_embedding\.weight$", "visual.conv1.weight"),
    (r"^vision_model\.embeddings\.position_embedding\.weight$", "visual.positional_embedding"),
    (r"^vision_model\.pre_layrnorm\.", "visual.ln_pre."),
    (r"^vision_model\.post_layernorm\.", "visual.ln_post."),
    (r"^visual_projection\.weight$", "visual.proj"),
    (r"^text_model\.encoder\.layers\.", "transformer.resblocks."),
    (r"^vision_model\.encoder\.layers\.", "visual.transformer.resblocks."),
    (r"\.self_attn\.", ".attn."),
    (r"\.layer_norm([12])\.", r".ln_\1."),
    (r"\.mlp\.fc1\.", ".mlp.c_fc."),
    (r"\.mlp\.fc2\.", ".mlp.c_proj."),
)
_TRANSPOSED = ("text_projection", "visual.proj")
_QUERY = re.compile(r"\.attn\.q_proj\.(weight|bias)$")
#: Counters that transformers once stored.
_COMPUTED = re.compile(r"\.position_ids$")


def _renamed(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Tensors of transformers' ``CLIPModel`` by open_clip's names; unknown names are kept and reported later."""
    found: dict[str, Tensor] = {}
    for name, tensor in tensors.items():
        if _COMPUTED.search(name):
            continue
        for pattern, replacement in _NAMES:
            name = re.sub(pattern, replacement, name)
        found[name] = tensor.T.contiguous() if name in _TRANSPOSED else tensor
    for name in [name for name in found if _QUERY.search(name)]:
        parts = [name.replace("q_proj", f"{letter}_proj") for letter in "qkv"]
        if all(part in found for part in parts):
            joined = re.sub(r"q_proj\.", "in_proj_", name)
            found[joined] = torch.cat([found.pop(part) for part in parts])
    return found
