"""Checkpoints of PyTorch (``.pth``): numbers, text and containers; nothing in them is executed."""

from __future__ import annotations

import argparse
import pickle
import re
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from ovd_bench.grounding_dino_jt.weights.errors import WeightsError
from ovd_bench.grounding_dino_jt.weights.stored import Array, Stored

#: Bytes of the list of tensors inside; Grounding DINO-T has 0.2 MB.
_LONGEST_PICKLE = 64 << 20
_DAMAGE = (
    *(RuntimeError, EOFError, LookupError, ValueError, TypeError, AttributeError, AssertionError),
    *(OverflowError, MemoryError, OSError),
)


def read_torch(path: Path) -> dict[str, Any]:
    """Content of a checkpoint; its numbers stay in the file until they are accessed.

    Raises:
        WeightsError: not a zip archive (torch before 1.6 wrote other files), a compressed or damaged one, one with
            other objects than tensors, containers, text, numbers and ``argparse.Namespace`` (which training scripts
            add), or torch is not installed.
    """
    _check_archive(path)
    try:
        import torch
    except ModuleNotFoundError:
        raise WeightsError(
            f"{path}: a .pth file is read with torch, which is not installed: pip install 'ovd-bench[torch]'"
        ) from None
    try:
        with torch.serialization.safe_globals([argparse.Namespace]):
            content = torch.load(path, map_location="cpu", weights_only=True, mmap=True)
    except pickle.UnpicklingError as error:
        found = re.search(r"GLOBAL (\S+)", str(error))
        what = f"the object {found[1][:100]}" if found else "something else than tensors"
        raise WeightsError(f"{path}: refused, it holds {what}: save its state dict alone") from error
    except _DAMAGE as error:
        raise WeightsError(f"{path}: is a damaged checkpoint ({' '.join(str(error).split())[:200]})") from error
    if not isinstance(content, dict):
        raise WeightsError(f"{path}: holds no state dict")
    return content


def _check_archive(path: Path) -> None:
    """Torch stores without compression, so an archive whose content is larger than the file is refused."""
    try:
        with zipfile.ZipFile(path) as archive:
            entries = archive.infolist()
    except (zipfile.BadZipFile, OSError, ValueError, OverflowError) as error:
        raise WeightsError(f"{path}: is not a checkpoint of torch 1.6 or newer, or a damaged one") from error
    size = path.stat().st_size
    if any(entry.compress_type != zipfile.ZIP_STORED for entry in entries):
        raise WeightsError(f"{path}: refused, a compressed archive")
    pickles = [entry.file_size for entry in entries if entry.filename.endswith(".pkl")]
    if sum(entry.file_size for entry in entries) > size or max(pickles, default=0) > _LONGEST_PICKLE:
        raise WeightsError(f"{path}: refused, its parts claim to be larger than a checkpoint's")


def state_of(path: Path, content: Mapping[str, Any]) -> dict[str, Stored]:
    """Tensors under ``model`` or ``state_dict``, or at the top level.

    Args:
        path: path of the file, for messages.
        content: content of a checkpoint.

    Raises:
        WeightsError: not a state dict.
    """
    state = content.get("model", content.get("state_dict", content))
    found = torch_tensors(state) if isinstance(state, Mapping) else None
    if found is None:
        raise WeightsError(f"{path}: holds no state dict, neither under 'model' nor under 'state_dict'")
    return found


def torch_tensors(state: Mapping[Any, Any]) -> dict[str, Stored] | None:
    """Tensors of a state dict; None if it is something else."""
    if not state or not all(isinstance(name, str) for name in state):
        return None
    return {name: _stored(value) for name, value in state.items()}


def _stored(value: Any) -> Stored:
    import torch

    plain = type(value) in (torch.Tensor, torch.nn.Parameter)
    if not plain or (value.layout, value.device.type) != (torch.strided, "cpu"):
        return Stored((), 0, "no plain tensor", None)

    def load() -> Array:
        numbers: Array = value.detach().to(torch.float32).numpy()
        return np.array(numbers, order="C")  # a copy, because the mapped file may change

    floating = value.dtype in (torch.float64, torch.float32, torch.float16, torch.bfloat16)
    nbytes = value.numel() * value.element_size()
    return Stored(tuple(value.shape), nbytes, str(value.dtype), load if floating else None)


def write_torch(file: BinaryIO, state: Mapping[str, Array], extra: Mapping[str, str]) -> None:
    """Write ``{"model": state, **extra}``; arrays that are the same object are stored once.

    Raises:
        WeightsError: torch is not installed.
    """
    try:
        import torch
    except ModuleNotFoundError:
        raise WeightsError(
            "a .pth file is written with torch, which is not installed: pip install 'ovd-bench[torch]'"
        ) from None
    tensors = {id(array): torch.from_numpy(np.ascontiguousarray(array)) for array in state.values()}
    torch.save({"model": {name: tensors[id(array)] for name, array in state.items()}, **extra}, file)
