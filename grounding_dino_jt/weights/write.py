"""Atomic writing of Grounding DINO for this suite, for the official code and for transformers."""

from __future__ import annotations

import json
import os
import secrets
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import numpy.typing as npt

from ovd_bench.grounding_dino_jt.config import Config
from ovd_bench.grounding_dino_jt.weights.errors import WeightsError
from ovd_bench.grounding_dino_jt.weights.hf_config import hf_config, hf_preprocessor
from ovd_bench.grounding_dino_jt.weights.names_hf import HF_NAMES
from ovd_bench.grounding_dino_jt.weights.names_official import copies
from ovd_bench.grounding_dino_jt.weights.safetensors_file import write_safetensors
from ovd_bench.grounding_dino_jt.weights.shapes import expected_shapes
from ovd_bench.grounding_dino_jt.weights.stored import check_tensors
from ovd_bench.grounding_dino_jt.weights.torch_file import write_torch

FORMAT, VERSION = "ovd-bench grounding-dino", "1"

#: Key next to ``model`` in a checkpoint that this suite wrote in the official layout; the official code ignores it.
CONFIG_ENTRY = "ovd_bench_config"

_TOKENIZER_FILES = ("tokenizer.json", "tokenizer_config.json", "vocab.txt", "special_tokens_map.json")

_Tensors = Mapping[str, npt.NDArray[Any]]


#: Prefix of the names of BERT's parameters.
TEXT = "bert."


def write_canonical(
    tensors: _Tensors,
    config: Config,
    path: Path,
    *,
    source: str,
    source_sha256: str,
    half: bool = False,
    packaged_text_sha256: str = "",
    about: Mapping[str, str] | None = None,
) -> None:
    """The suite's own file: safetensors, canonical names; equal content gives equal bytes.

    Args:
        tensors: canonical names.
        config: configuration of the model.
        path: file to write; an existing file is replaced.
        source: origin of the weights, for readers.
        source_sha256: hash of the file they were read from, or empty.
        half: float16, for weights that are shipped.
        packaged_text_sha256: if given, the text encoder is the unchanged packaged one with this hash and is left out:
            the reader takes it from the package.
        about: further entries of the file's metadata.

    Raises:
        WeightsError: the tensors are not the model's, or a number is too large for float16.
    """
    check_tensors(tensors, expected_shapes(config))
    with np.errstate(over="ignore"):
        numbers = {
            name: tensor.astype(np.float16 if half else np.float32, copy=False)
            for name, tensor in tensors.items()
            if not (packaged_text_sha256 and name.startswith(TEXT))
        }
    if large := [name for name, tensor in numbers.items() if not np.isfinite(tensor).all()]:
        raise WeightsError(f"{large[0]} holds a number that the file's type cannot hold")
    metadata = {
        "format": FORMAT,
        "version": VERSION,
        "config": config.to_json(),
        "source": source,
        "source_sha256": source_sha256,
        **({"packaged_text_sha256": packaged_text_sha256} if packaged_text_sha256 else {}),
        **(about or {}),
    }
    with replacing(path) as file:
        write_safetensors(file, numbers, metadata)


def write_official(tensors: _Tensors, config: Config, path: Path) -> None:
    """A checkpoint that the official code loads: ``model`` with all copies of the box head.

    The file lacks what that code computes or ignores (``relative_position_index``, BERT's pooler), so it is loaded with
    ``strict=False``. The configuration is an entry beside ``model``.

    Raises:
        WeightsError: the tensors are not the model's, its encoding of phrases is not the official one, or torch is not
            installed.
    """
    if config.text.phrase_frame != "bare" or config.text.centred:
        raise WeightsError("the official code reads phrases bare and does not centre them: it would misread this model")
    if config.nms_iou < 1:
        raise WeightsError(f"the official code suppresses no boxes, and this model has nms_iou {config.nms_iou}")
    check_tensors(tensors, expected_shapes(config))
    numbers = {name: tensor.astype(np.float32, copy=False) for name, tensor in tensors.items()}
    state = {copy: tensor for name, tensor in numbers.items() for copy in copies(config, name)}
    with replacing(path) as file:
        write_torch(file, state, {CONFIG_ENTRY: config.to_json()})


def write_hf(tensors: _Tensors, config: Config, folder: Path, *, tokenizer_from: Path | None = None) -> None:
    """A folder that transformers loads: ``config.json``, ``model.safetensors``, ``preprocessor_config.json``.

    Args:
        tensors: canonical names.
        config: configuration of the model.
        folder: written atomically; in an existing folder these files are replaced.
        tokenizer_from: a folder whose tokenizer files are copied; without it they must be added by hand.

    Raises:
        WeightsError: the tensors are not the model's, transformers has no such model, or the folder holds weights in
            several files.
    """
    check_tensors(tensors, expected_shapes(config))
    documents = {"config.json": hf_config(config), "preprocessor_config.json": hf_preprocessor(config)}
    state: dict[str, npt.NDArray[Any]] = {}
    for name, tensor in tensors.items():
        foreign = HF_NAMES.foreign(name)
        for part, block in zip(foreign, np.split(tensor.astype(np.float32, copy=False), len(foreign)), strict=True):
            state[part] = block.reshape(()) if "class_embed." in part else block  # without an axis there
    if (folder / "model.safetensors.index.json").exists():
        raise WeightsError(f"{folder}: holds weights in several files: remove them first")
    target = folder if folder.is_dir() else _temporary(folder)
    try:
        target.mkdir(exist_ok=True)
        with replacing(target / "model.safetensors") as file:
            write_safetensors(file, state, {"format": "pt"})
        for name, document in documents.items():
            with replacing(target / name) as file:
                file.write(json.dumps(document, indent=2).encode() + b"\n")
        for name in _TOKENIZER_FILES:
            if tokenizer_from and tokenizer_from != folder and (tokenizer_from / name).is_file():
                with replacing(target / name) as file:
                    file.write((tokenizer_from / name).read_bytes())
        if target != folder:
            target.rename(folder)
    finally:
        if target != folder:
            shutil.rmtree(target, ignore_errors=True)


def _temporary(path: Path) -> Path:
    return path.with_name(f".{path.name}.{os.getpid()}-{secrets.token_hex(4)}.tmp")


@contextmanager
def replacing(path: Path) -> Iterator[BinaryIO]:
    """A file that gets its name only when the block ends without an exception."""
    temporary = _temporary(path)
    try:
        with temporary.open("xb") as file:
            yield file
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)
