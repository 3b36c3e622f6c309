"""Weights of DINO: the official ``.pth`` and the suite's safetensors, read strictly and without executing anything.

Importing this imports no framework. Canonical names are those of the official state dict, each parameter once: heads
that all decoder layers share are ``bbox_embed.0`` and ``class_embed.0``. Statistics of frozen norms are among them.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from ovd_bench.grounding_dino_jt.config import SwinConfig
from ovd_bench.grounding_dino_jt.dino.config import DinoConfig, ResNetConfig
from ovd_bench.grounding_dino_jt.weights.errors import WeightsError
from ovd_bench.grounding_dino_jt.weights.folder import sha256_of
from ovd_bench.grounding_dino_jt.weights.names import Part
from ovd_bench.grounding_dino_jt.weights.names_official import infer_swin, infer_transformer, official_name
from ovd_bench.grounding_dino_jt.weights.read import is_torch, without
from ovd_bench.grounding_dino_jt.weights.safetensors_file import read_safetensors, write_safetensors
from ovd_bench.grounding_dino_jt.weights.shapes import (
    Shapes,
    check_limits,
    projection_shapes,
    swin_fits,
    swin_shapes,
    transformer_fits,
    transformer_shapes,
)
from ovd_bench.grounding_dino_jt.weights.stored import Array, Stored, assemble, check_tensors
from ovd_bench.grounding_dino_jt.weights.torch_file import read_torch, state_of
from ovd_bench.grounding_dino_jt.weights.write import replacing

FORMAT, VERSION = "ovd-bench dino", "1"

#: Denoising labels of the training and computed integers: in the file but not used.
_LEFTOVERS = re.compile(r"(module\.)?(label_enc\.weight|.*\.(num_batches_tracked|relative_position_index))")
#: The moving average of the weights, stored beside ``model`` if the training had one; the official evaluation reads
#: ``model`` by default.
_AVERAGE = "ema_model"
_HEAD = re.compile(r"(?:transformer\.decoder\.)?(bbox_embed|class_embed)\.(\d+)\.(.+)")
_BODY = "backbone.0.body"


@dataclass(frozen=True)
class DinoCheckpoint:
    """A model as read from a file.

    Attributes:
        path: path of the file.
        kind: layout of the file; ``jittor`` is the suite's own.
        tensors: float32, canonical names, exactly those of ``expected_shapes(config)``.
        config: configuration of the model.
        sha256: hash of the file.
        dropped: names of tensors that inference does not need.
    """

    path: Path
    kind: Literal["jittor", "official"]
    tensors: dict[str, Array]
    config: DinoConfig
    sha256: str
    dropped: tuple[str, ...]


def expected_shapes(config: DinoConfig) -> Shapes:
    """Shape of every parameter by name.

    Raises:
        WeightsError: impossible sizes.
    """
    backbone, d = config.backbone, config.hidden_dim
    transformer = config.transformer()
    check_limits(replace(transformer, backbone=backbone) if isinstance(backbone, SwinConfig) else transformer)
    sound = swin_fits(backbone) if isinstance(backbone, SwinConfig) else _resnet_fits(backbone)
    if not sound or not transformer_fits(transformer) or config.num_classes < 1:
        raise WeightsError(f"no model has these sizes or settings: {config.to_json()}")
    shapes = swin_shapes(backbone) if isinstance(backbone, SwinConfig) else resnet_shapes(backbone)
    channels = [backbone.channels(stage) for stage in backbone.out_stages]
    projection_shapes(shapes, channels, d, config.num_feature_levels)
    transformer_shapes(shapes, transformer)
    for name in ("transformer.enc_out_class_embed", "class_embed.0"):
        shapes[f"{name}.weight"], shapes[f"{name}.bias"] = (config.num_classes, d), (config.num_classes,)
    return shapes


def parameter_count(config: DinoConfig) -> int:
    """Number of parameters, without the statistics of frozen norms.

    46,869,630 with ResNet-50 and 4 scales (the paper's 47 M); training adds 23,552 for denoising labels.
    """
    shapes = expected_shapes(config).items()
    return sum(math.prod(shape) for name, shape in shapes if not is_frozen(name))


def is_frozen(name: str) -> bool:
    """Whether a tensor is of a frozen batch norm, which the official model keeps as buffers."""
    return re.fullmatch(r"backbone\.0\.body\..*(bn\d|downsample\.1)\.\w+", name) is not None


def resnet_shapes(config: ResNetConfig) -> Shapes:
    """Shape of every parameter and statistic of a ResNet, stages after the last output included."""
    shapes: Shapes = {f"{_BODY}.conv1.weight": (64, 3, 7, 7)}
    _frozen_norm(shapes, f"{_BODY}.bn1", 64)
    for stage, blocks in enumerate(config.blocks):
        outputs = config.channels(stage)
        for number in range(blocks):
            block, inner = f"{_BODY}.layer{stage + 1}.{number}", outputs // 4
            inputs = outputs if number else config.channels(stage - 1) if stage else 64
            for conv, shape in enumerate([(inner, inputs, 1, 1), (inner, inner, 3, 3), (outputs, inner, 1, 1)]):
                shapes[f"{block}.conv{conv + 1}.weight"] = shape
                _frozen_norm(shapes, f"{block}.bn{conv + 1}", shape[0])
            if number == 0:
                shapes[f"{block}.downsample.0.weight"] = (outputs, inputs, 1, 1)
                _frozen_norm(shapes, f"{block}.downsample.1", outputs)
    return shapes


def read_checkpoint(path: Path, key: str | None = None) -> DinoCheckpoint:
    """A model from an official ``.pth`` or the suite's safetensors; the content decides which it is.

    Args:
        path: of the file.
        key: entry of a ``.pth`` that holds the state dict, such as ``ema_model``; None = ``model`` or ``state_dict``.

    Raises:
        WeightsError: none of them, damaged, unsafe, or not exactly one model: tensors that are unknown, missing,
            misshapen, copies of one another that differ, or with numbers that are not finite.
    """
    if is_torch(path):
        return _read_official(path, key)
    if key is not None:
        raise WeightsError(f"{path}: has no entries such as '{key}'; a .pth file has")
    return _read_canonical(path)


def write_canonical(
    tensors: Mapping[str, npt.NDArray[Any]], config: DinoConfig, path: Path, *, source: str, source_sha256: str
) -> None:
    """The suite's own file: safetensors of float32, canonical names; equal content gives equal bytes.

    Args:
        tensors: canonical names.
        config: configuration of the model.
        path: file to write; an existing file is replaced.
        source: origin of the weights, for readers.
        source_sha256: hash of the file they were read from, or empty.

    Raises:
        WeightsError: the tensors are not the model's.
    """
    check_tensors(tensors, expected_shapes(config))
    numbers = {name: tensor.astype(np.float32, copy=False) for name, tensor in tensors.items()}
    metadata = {"format": FORMAT, "version": VERSION, "config": config.to_json()}
    with replacing(path) as file:
        write_safetensors(file, numbers, {**metadata, "source": source, "source_sha256": source_sha256})


def infer_config(shapes: Shapes) -> DinoConfig:
    """The configuration of an official checkpoint, from the shapes of its tensors.

    Raises:
        WeightsError: a tensor that every DINO has is missing or has too few axes; the file is not named.
    """
    heads = shapes.get("class_embed.0.weight", ())
    if len(heads) != 2:
        raise WeightsError("is not a DINO: no tensor class_embed.0.weight with 2 axes")
    sizes = infer_transformer(shapes)
    try:
        resnet = any(name.startswith(f"{_BODY}.") for name in shapes)
        backbone = _infer_resnet(shapes) if resnet else infer_swin(shapes)
        return DinoConfig(backbone=backbone, num_classes=heads[0], **sizes)
    except WeightsError:
        raise
    except (ValueError, ZeroDivisionError) as error:
        raise WeightsError(f"no model has tensors of these shapes: {error}") from error


def _infer_resnet(shapes: Shapes) -> ResNetConfig:
    """ResNet whose output stages are the last ones, as many as there are 1 x 1 projections."""
    depths = []
    for stage in range(1, 5):
        names = (re.fullmatch(rf"{re.escape(_BODY)}\.layer{stage}\.(\d+)\.conv1\.weight", name) for name in shapes)
        depths.append(len({match[1] for match in names if match}))
    projected = [shape for name, shape in shapes.items() if re.fullmatch(r"input_proj\.\d+\.0\.weight", name)]
    outputs = sum(len(shape) == 4 and shape[2:] == (1, 1) for shape in projected)
    return ResNetConfig(tuple(depths), tuple(range(max(4 - outputs, 0), 4)))


def _resnet_fits(config: ResNetConfig) -> bool:
    stages = list(config.out_stages)
    return (
        len(config.blocks) == 4
        and min(config.blocks) >= 1
        and bool(stages)
        and stages == sorted(set(stages) & set(range(4)))
    )


def _frozen_norm(shapes: Shapes, name: str, channels: int) -> None:
    for part in ("weight", "bias", "running_mean", "running_var"):
        shapes[f"{name}.{part}"] = (channels,)


def _read_official(path: Path, key: str | None) -> DinoCheckpoint:
    content = read_torch(path)
    stored, dropped = without(state_of(path, content, key), _LEFTOVERS)
    try:
        config = infer_config({official_name(name): tensor.shape for name, tensor in stored.items()})
    except WeightsError as error:
        raise WeightsError(f"{path}: {error}") from error
    shapes = _model(path, config, stored)
    tensors = assemble(path, stored, _placer(config.dec_layers), shapes, path.stat().st_size)
    _check_variances(path, tensors)
    averages = (_AVERAGE,) if _AVERAGE in content and key != _AVERAGE else ()
    return DinoCheckpoint(path, "official", tensors, config, sha256_of([path]), (*dropped, *averages))


def _read_canonical(path: Path) -> DinoCheckpoint:
    stored, metadata = read_safetensors(path)
    if metadata.get("format") != FORMAT:
        raise WeightsError(f"{path}: does not say that it is '{FORMAT}'")
    if metadata.get("version") != VERSION:
        raise WeightsError(f"{path}: is of version {metadata.get('version')!r}, this one reads {VERSION!r}")
    try:
        config = DinoConfig.from_json(metadata.get("config", ""))
    except (ValueError, ArithmeticError, RecursionError) as error:
        raise WeightsError(f"{path}: its configuration {' '.join(str(error).split())[:200]}") from error
    tensors = assemble(path, stored, Part, _model(path, config, stored), path.stat().st_size)
    _check_variances(path, tensors)
    return DinoCheckpoint(path, "jittor", tensors, config, sha256_of([path]), ())


def _placer(layers: int) -> Callable[[str], Part | None]:
    """Target of a stored tensor; the heads are in two lists, once per decoder layer, and all are the same."""

    def place(name: str) -> Part | None:
        name = official_name(name)
        match = _HEAD.fullmatch(name)
        if match is None:
            return Part(name)
        known = match[2] == str(int(match[2])) and int(match[2]) < layers
        return Part(f"{match[1]}.0.{match[3]}") if known else None

    return place


def _model(path: Path, config: DinoConfig, stored: Mapping[str, Stored]) -> Shapes:
    """Expected shapes of a model in a file; the configuration is untrusted and may state any number of layers."""
    backbone = config.backbone
    depths = backbone.depths if isinstance(backbone, SwinConfig) else backbone.blocks
    layers = sum(depths) + config.enc_layers + config.dec_layers
    if max(layers, config.num_feature_levels) > len(stored):
        raise WeightsError(f"{path}: its configuration has {layers} layers, the file {len(stored)} tensors")
    try:
        return expected_shapes(config)
    except WeightsError as error:
        raise WeightsError(f"{path}: {error}") from error


def _check_variances(path: Path, tensors: Mapping[str, Array]) -> None:
    """Check that no variance is negative, because its square root is taken."""
    for name, tensor in tensors.items():
        if name.endswith(".running_var") and (tensor < 0).any():
            raise WeightsError(f"{path}: {name} holds a negative variance")
