"""Strict reading of Grounding DINO from the layouts of all projects that publish one, without executing anything."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np

from ovd_bench.grounding_dino_jt.config import Config
from ovd_bench.grounding_dino_jt.tokenizer import PACKAGE, packaged_folder
from ovd_bench.grounding_dino_jt.weights.errors import WeightsError
from ovd_bench.grounding_dino_jt.weights.folder import read_json, read_tensors, sha256_of
from ovd_bench.grounding_dino_jt.weights.hf_config import config_from_hf
from ovd_bench.grounding_dino_jt.weights.names import Part
from ovd_bench.grounding_dino_jt.weights.names_hf import HF_LEFTOVERS, HF_NAMES, stored_name
from ovd_bench.grounding_dino_jt.weights.names_mmdet import (
    MMDET_LEFTOVERS,
    MMDET_LOG_SCALE,
    is_patch_merging,
    mmdet_names,
    official_merge_order,
)
from ovd_bench.grounding_dino_jt.weights.names_official import OFFICIAL_LEFTOVERS, infer_config, official_name, placer
from ovd_bench.grounding_dino_jt.weights.safetensors_file import read_safetensors
from ovd_bench.grounding_dino_jt.weights.shapes import Shapes, expected_shapes
from ovd_bench.grounding_dino_jt.weights.stored import Array, Stored, assemble
from ovd_bench.grounding_dino_jt.weights.text_encoders import read_text_encoder
from ovd_bench.grounding_dino_jt.weights.torch_file import read_torch, refuse_adapter, state_key, state_of
from ovd_bench.grounding_dino_jt.weights.write import CONFIG_ENTRY, FORMAT, TEXT, VERSION

Kind = Literal["jittor", "official", "hf", "mmdet"]
_Place = Callable[[str], Part | None]


@dataclass(frozen=True)
class Checkpoint:
    """A model as read from a file.

    Attributes:
        path: path of the file.
        kind: layout of the file; ``jittor`` is the suite's own.
        tensors: float32, canonical names, exactly those of ``expected_shapes(config)``.
        config: configuration of the model.
        sha256: hash of the file; of several, of the list of their sums.
        dropped: names of tensors that inference does not need.
        packaged_text_sha256: hash of the packaged text encoder, if the file leaves its own out.
        passed_over: entries of the file beside the state dict, such as the state of a training.
    """

    path: Path
    kind: Kind
    tensors: dict[str, Array]
    config: Config
    sha256: str
    dropped: tuple[str, ...]
    packaged_text_sha256: str = ""
    passed_over: tuple[str, ...] = ()


def read_weights(path: Path, key: str | None = None) -> tuple[dict[str, Array], Config, str]:
    """Tensors, configuration and sha256 of a model; see ``read_checkpoint``.

    Raises:
        WeightsError: see ``read_checkpoint``.
    """
    checkpoint = read_checkpoint(path, key)
    return checkpoint.tensors, checkpoint.config, checkpoint.sha256


def read_checkpoint(path: Path, key: str | None = None) -> Checkpoint:
    """A model, from the suite's safetensors, an official or mmdetection ``.pth`` or a Hugging Face folder.

    The content decides which it is.

    Args:
        path: file or folder.
        key: entry of a ``.pth`` that holds the state dict, such as ``ema_model``; None = ``model`` or ``state_dict``.

    Raises:
        WeightsError: none of them, damaged, unsafe, or not exactly one model: tensors that are unknown, missing,
            misshapen, copies of one another that differ, or with numbers that are not finite.
    """
    if not path.is_dir() and is_torch(path):
        return _read_torch(path, key)
    if key is not None:
        raise WeightsError(f"{path}: has no entries such as '{key}'; a .pth file has")
    return _read_hf(path) if path.is_dir() else _read_canonical(path)


def is_torch(path: Path) -> bool:
    """Whether a file is a checkpoint of torch; if not, it is a safetensors file. The content decides.

    Raises:
        WeightsError: it is neither, or cannot be read.
    """
    try:
        with path.open("rb") as file:
            head = file.read(9)
    except OSError as error:
        reason = "no such file" if isinstance(error, FileNotFoundError) else f"cannot be read: {error.strerror}"
        raise WeightsError(f"{path}: {reason}") from error
    if head.startswith(b"PK\x03\x04"):
        return True
    if head[8:9] == b"{":
        return False
    if head.startswith(b"\x80"):
        raise WeightsError(f"{path}: refused, a bare pickle; torch 1.6 and newer write none")
    raise WeightsError(f"{path}: is neither a safetensors file nor a checkpoint of torch, or a damaged one")


def _read_canonical(path: Path) -> Checkpoint:
    stored, metadata = read_safetensors(path)
    refuse_adapter(path, stored)
    if metadata.get("format") != FORMAT:
        raise WeightsError(f"{path}: does not say that it is '{FORMAT}'; of a Hugging Face model give the folder")
    if metadata.get("version") != VERSION:
        raise WeightsError(f"{path}: is of version {metadata.get('version')!r}, this one reads {VERSION!r}")
    config = _parsed(path, metadata.get("config", ""))
    shapes = _model(path, config, stored)
    packaged = metadata.get("packaged_text_sha256", "")
    held = {name: shape for name, shape in shapes.items() if not (packaged and name.startswith(TEXT))}
    tensors = assemble(path, stored, Part, held, path.stat().st_size)
    if packaged:
        tensors |= _packaged_text(path, config, packaged)
        tensors = {name: tensors[name] for name in shapes}
    return Checkpoint(path, "jittor", tensors, config, sha256_of([path]), (), packaged)


def _packaged_text(path: Path, config: Config, sha256: str) -> dict[str, Array]:
    """The packaged text encoder, for a file that leaves its own out."""
    try:
        tensors, text, found = read_text_encoder(packaged_folder())
    except ValueError as error:
        raise WeightsError(f"{path}: its text encoder cannot be read: {error}") from error
    here = replace(text, phrase_frame=config.text.phrase_frame, centred=config.text.centred)
    if found != sha256 or here != config.text:
        raise WeightsError(f"{path}: was trained with another text encoder than the package {PACKAGE} of this version")
    return tensors


def _read_hf(folder: Path) -> Checkpoint:
    document = read_json(folder / "config.json")
    preprocessor = folder / "preprocessor_config.json"
    sizes = read_json(preprocessor) if preprocessor.is_file() else {}
    everything, files = read_tensors(folder)
    stored, dropped = without(everything, HF_LEFTOVERS)
    heads = {name.split(".")[1] for name in map(stored_name, stored) if name.startswith("bbox_embed.")}
    try:
        config = config_from_hf(document, sizes, len(heads))
    except WeightsError as error:
        raise WeightsError(f"{folder}: {error}") from error
    shapes = _model(folder, config, stored)
    if config.class_bias and document.get("decoder_cls_embed_share", True):
        stored = _with_shared_biases(stored, config.dec_layers)
    place = placer(config, lambda name: HF_NAMES.part(stored_name(name)))
    tensors = assemble(folder, stored, place, shapes, sum(file.stat().st_size for file in files))
    return Checkpoint(folder, "hf", tensors, config, sha256_of(files), dropped)


def _with_shared_biases(stored: Mapping[str, Stored], layers: int) -> dict[str, Stored]:
    """Class bias of each decoder layer if the file has only the first."""
    biases = {f"class_embed.{layer}.bias": stored.get("class_embed.0.bias") for layer in range(layers)}
    return {**{name: bias for name, bias in biases.items() if bias}, **stored}


def _read_torch(path: Path, key: str | None) -> Checkpoint:
    content = read_torch(path)
    everything = state_of(path, content, key)
    used = state_key(path, content, key)
    passed_over = () if used is None else tuple(str(name) for name in content if name not in (used, CONFIG_ENTRY))
    if any(name.startswith("language_model.") for name in everything):
        return replace(_read_mmdet(path, everything), passed_over=passed_over)
    stored, dropped = without(everything, OFFICIAL_LEFTOVERS)
    saved = content.get(CONFIG_ENTRY)

    def rename(name: str) -> Part:
        return Part(official_name(name))

    config = _parsed(path, saved) if isinstance(saved, str) else _inferred(path, stored, rename, shared_box_head=True)
    tensors = assemble(path, stored, placer(config, rename), _model(path, config, stored), path.stat().st_size)
    return Checkpoint(path, "official", tensors, config, sha256_of([path]), dropped, passed_over=passed_over)


def _read_mmdet(path: Path, everything: Mapping[str, Stored]) -> Checkpoint:
    stored, dropped = without(everything, MMDET_LEFTOVERS)
    for name in [name for name in stored if MMDET_LOG_SCALE.fullmatch(name)]:
        scale = stored.pop(name)
        if scale.load is None or scale.nbytes > 8 or np.any(scale.load()):
            raise WeightsError(f"{path}: {name} is not 0: a learned scale of the class logits is not supported")
        dropped = (*dropped, name)
    names = mmdet_names(stored)
    by_official = {name: part.name for name in stored if (part := names.part(name))}
    unused = [name for name, official in by_official.items() if OFFICIAL_LEFTOVERS.fullmatch(official)]
    for name in unused:
        del stored[name]
    for name in stored:
        if is_patch_merging(by_official.get(name, "")):
            stored[name] = _reordered(stored[name])
    config = _inferred(path, stored, names.part, shared_box_head=False)
    shapes = _model(path, config, stored)
    tensors = assemble(path, stored, placer(config, names.part), shapes, path.stat().st_size)
    if _equal_box_heads(tensors):  # a converted official checkpoint
        config = replace(config, shared_box_head=True)
        tensors = {name: tensors[name] for name in expected_shapes(config)}
    return Checkpoint(path, "mmdet", tensors, config, sha256_of([path]), (*dropped, *unused))


def _reordered(tensor: Stored) -> Stored:
    """Patch merging in the official order; sizes that are not groups of four are left to the check of shapes."""
    if tensor.load is None or not tensor.shape or tensor.shape[-1] % 4:
        return tensor
    load = tensor.load
    return replace(tensor, load=lambda: official_merge_order(load()))


def _equal_box_heads(tensors: Mapping[str, Array]) -> bool:
    """Whether all decoder layers have the same box head, bit for bit."""
    heads: dict[str, set[bytes]] = {}
    for name, tensor in tensors.items():
        if match := re.fullmatch(r"bbox_embed\.\d+\.(.+)", name):
            heads.setdefault(match[1], set()).add(tensor.tobytes())
    return all(len(contents) == 1 for contents in heads.values())


def without(stored: Mapping[str, Stored], leftovers: re.Pattern[str]) -> tuple[dict[str, Stored], tuple[str, ...]]:
    """Tensors whose full names do not match, and the names of those that do."""
    dropped = tuple(name for name in stored if leftovers.fullmatch(name))
    return {name: tensor for name, tensor in stored.items() if name not in dropped}, dropped


def _inferred(path: Path, stored: Mapping[str, Stored], rename: _Place, *, shared_box_head: bool) -> Config:
    parts = ((rename(name), tensor.shape) for name, tensor in stored.items())
    shapes: Shapes = {part.name: shape for part, shape in parts if part}
    try:
        return infer_config(shapes, shared_box_head=shared_box_head)
    except WeightsError as error:
        raise WeightsError(f"{path}: {error}") from error


def _parsed(path: Path, text: str) -> Config:
    try:
        return Config.from_json(text)
    except (ValueError, ArithmeticError, RecursionError) as error:
        raise WeightsError(f"{path}: its configuration {' '.join(str(error).split())[:200]}") from error


def _model(path: Path, config: Config, stored: Mapping[str, Any]) -> Shapes:
    """Expected shapes of a model in a file; the configuration is untrusted and may state any number of layers."""
    layers = sum(config.backbone.depths) + config.text.num_layers + config.enc_layers + config.dec_layers
    if layers > len(stored) or config.num_feature_levels > len(stored):
        raise WeightsError(f"{path}: its configuration has {layers} layers, the file {len(stored)} tensors")
    try:
        return expected_shapes(config)
    except WeightsError as error:
        raise WeightsError(f"{path}: {error}") from error
