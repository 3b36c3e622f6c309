"""Checkpoints of PyTorch (``.pth``): numbers, text and containers; nothing in them is executed."""

from __future__ import annotations

import argparse
import pickle
import re
import zipfile
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from ovd_bench.grounding_dino_jt.weights import inert_pickle
from ovd_bench.grounding_dino_jt.weights.errors import WeightsError
from ovd_bench.grounding_dino_jt.weights.inert_pickle import Inert
from ovd_bench.grounding_dino_jt.weights.stored import Array, Stored

#: Lightning's prefix of the model that a training module holds.
_LIGHTNING = "model."
_ADAPTER = re.compile(r"(^|[._])lora_([AB]|embedding|down|up)\b")
#: Bytes of the list of tensors inside; Grounding DINO-T has 0.2 MB.
_LONGEST_PICKLE = 64 << 20
_DAMAGE = (
    *(RuntimeError, EOFError, LookupError, ValueError, TypeError, AttributeError, AssertionError),
    *(OverflowError, MemoryError, OSError),
)


def read_torch(path: Path) -> dict[str, Any]:
    """Content of a checkpoint; its numbers stay in the file until they are accessed.

    Objects other than tensors, containers, text, numbers and ``argparse.Namespace`` are ``Inert``.

    Raises:
        WeightsError: not a zip archive (torch before 1.6 wrote other files), a compressed or damaged one, a TorchScript
            program, one that refers to parts of Python that no checkpoint needs, or torch is not installed.
    """
    _check_archive(path)
    try:
        import torch
    except ModuleNotFoundError:
        raise WeightsError(
            f"{path}: a .pth file is read with torch, which is not installed: pip install 'ovd-bench[torch]'"
        ) from None
    try:
        try:
            with torch.serialization.safe_globals([argparse.Namespace]):
                content = torch.load(path, map_location="cpu", weights_only=True, mmap=True)
        except pickle.UnpicklingError:  # other objects, such as the state of a training
            content = torch.load(path, map_location="cpu", weights_only=False, pickle_module=inert_pickle, mmap=True)
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
    if any(entry.filename.endswith("constants.pkl") for entry in entries):  # torch.load would run it
        raise WeightsError(f"{path}: refused, a TorchScript program: save its state dict alone")
    size = path.stat().st_size
    if any(entry.compress_type != zipfile.ZIP_STORED for entry in entries):
        raise WeightsError(f"{path}: refused, a compressed archive")
    pickles = [entry.file_size for entry in entries if entry.filename.endswith(".pkl")]
    if sum(entry.file_size for entry in entries) > size or max(pickles, default=0) > _LONGEST_PICKLE:
        raise WeightsError(f"{path}: refused, its parts claim to be larger than a checkpoint's")


def state_key(path: Path, content: Mapping[str, Any], key: str | None = None) -> str | None:
    """Entry of a checkpoint that holds the state dict: the given one, ``model`` or ``state_dict``; None = the whole.

    Raises:
        WeightsError: no entry of the given name.
    """
    if key is not None and key not in content:
        there = ", ".join(name[:50] for name in list(content)[:12] if isinstance(name, str))
        raise WeightsError(f"{path}: has no entry '{key}'; it has {there}")
    return key or next((name for name in ("model", "state_dict") if name in content), None)


def state_of(path: Path, content: Mapping[str, Any], key: str | None = None) -> dict[str, Stored]:
    """Tensors under ``model`` or ``state_dict``, or at the top level.

    The prefix ``model.``, which Lightning gives to all of them, is taken off.

    Args:
        path: path of the file, for messages.
        content: content of a checkpoint.
        key: entry to read instead, such as ``ema_model``.

    Raises:
        WeightsError: not a state dict, an adapter of one, or one with other objects in it.
    """
    key = state_key(path, content, key)
    state = content if key is None else content[key]
    found = torch_tensors(state) if isinstance(state, Mapping) else None
    if found is None:
        where = "neither under 'model' nor under 'state_dict'" if key is None else f"under '{key}'"
        raise WeightsError(f"{path}: holds no state dict, {where}")
    if strange := next((value for value in state.values() if isinstance(value, Inert)), None):
        raise WeightsError(f"{path}: refused, it holds the object {strange.origin[:100]}: save its state dict alone")
    refuse_adapter(path, found)
    if all(name.startswith(_LIGHTNING) for name in found):
        found = {name.removeprefix(_LIGHTNING): tensor for name, tensor in found.items()}
    return found


def refuse_adapter(path: Path, names: Iterable[str]) -> None:
    """Refuse the tensors of a LoRA adapter, which is a part of a model.

    Raises:
        WeightsError: a name says that it is one.
    """
    if any(_ADAPTER.search(name) for name in names):
        raise WeightsError(f"{path}: is a LoRA adapter, not a model: merge it into its base model and save that")


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
