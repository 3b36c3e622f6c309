"""Image backbones as a start for trainings: Swin transformers of ImageNet, or random ones."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import numpy.typing as npt

from ovd_bench.grounding_dino_jt.config import Config, SwinConfig
from ovd_bench.grounding_dino_jt.weights.errors import WeightsError
from ovd_bench.grounding_dino_jt.weights.folder import read_tensors
from ovd_bench.grounding_dino_jt.weights.names import Part
from ovd_bench.grounding_dino_jt.weights.names_hf import HF_NAMES, SWIN, stored_name
from ovd_bench.grounding_dino_jt.weights.shapes import expected_shapes, swin_shapes
from ovd_bench.grounding_dino_jt.weights.stored import Array, Stored, assemble
from ovd_bench.grounding_dino_jt.weights.torch_file import read_torch, state_of

#: The classifier, the norm before it, and computed integers and masks.
_LEFTOVERS = re.compile(
    r"(swin\.)?(layernorm|norm|head)\.(weight|bias)|classifier\..*|.*relative_position_index|.*attn_mask"
)
#: Added to the backbone by the detector: norms of the stages that it takes features from.
_OWN = re.compile(r"backbone\.0\.norm\d+\..*")


def read_backbone(path: Path, config: Config) -> dict[str, Array]:
    """Parameters of a Swin transformer, with canonical names (``backbone.0.*``), without the norms of the outputs.

    Args:
        path: a ``.pth`` of microsoft/Swin-Transformer, or a folder in the layout of transformers.
        config: configuration of the detector; the file must fit its backbone.

    Raises:
        WeightsError: another model, a damaged or unsafe file; see ``read_checkpoint``.
    """
    everything, size = _stored(path)
    stored = {name: tensor for name, tensor in everything.items() if not _LEFTOVERS.fullmatch(name)}
    place = _hf_part if path.is_dir() else _official_part
    expected = {
        name: shape
        for name, shape in expected_shapes(config).items()
        if name.startswith("backbone.") and not _OWN.fullmatch(name)
    }
    return assemble(path, stored, place, expected, size)


def draw_backbone(config: SwinConfig, seed: int) -> dict[str, Array]:
    """Initial weights of a Swin transformer, with canonical names; they depend only on sizes and seed.

    Detectors in any framework can therefore start from the same weights. Matrices are drawn as by Glorot and Bengio;
    tables and biases are as in the Swin of the trainer.

    Args:
        config: configuration of the backbone.
        seed: seed of the random numbers.
    """
    tensors: dict[str, Array] = {}
    for number, (name, shape) in enumerate(swin_shapes(config).items()):
        rng = np.random.Generator(np.random.PCG64([seed, number]))
        if name.endswith("bias_table"):
            values = 0.02 * rng.standard_normal(shape)
        elif len(shape) > 1:
            bound = np.sqrt(6 / (np.prod(shape[1:]) + shape[0] * np.prod(shape[2:])))
            values = rng.uniform(-bound, bound, shape)
        else:
            values = np.full(shape, float(name.endswith("weight")))  # of norms
        tensors[name] = values.astype(np.float32)
    return tensors


def tensors_sha256(tensors: Mapping[str, npt.NDArray[np.float32]]) -> str:
    """Checksum of names, shapes and numbers, in the order of the names."""
    sha256 = hashlib.sha256()
    for name in sorted(tensors):
        values = np.ascontiguousarray(tensors[name], np.float32)
        sha256.update(f"{name} {values.shape}".encode())
        sha256.update(values.data)
    return sha256.hexdigest()


def _stored(path: Path) -> tuple[Mapping[str, Stored], int]:
    if path.is_dir():
        tensors, files = read_tensors(path)
        return tensors, sum(file.stat().st_size for file in files)
    if not path.is_file():
        raise WeightsError(f"{path}: no such file")
    return state_of(path, read_torch(path)), path.stat().st_size


def _official_part(name: str) -> Part:
    return Part(f"backbone.0.{name}")


def _hf_part(name: str) -> Part | None:
    return HF_NAMES.part(stored_name(f"{SWIN}.{name.removeprefix('swin.')}"))
