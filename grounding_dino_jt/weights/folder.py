"""Folders in the layout of the Hugging Face hub: JSON files and tensors in one or several safetensors files."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

from ovd_bench.grounding_dino_jt.weights.errors import WeightsError
from ovd_bench.grounding_dino_jt.weights.safetensors_file import read_safetensors
from ovd_bench.grounding_dino_jt.weights.stored import Stored
from ovd_bench.grounding_dino_jt.weights.torch_file import read_torch, state_of

_LONGEST_JSON = 8 << 20


def read_json(path: Path) -> dict[str, Any]:
    """A JSON object of at most 8 MB.

    Raises:
        WeightsError: no such file, or not such an object.
    """
    try:
        if path.stat().st_size > _LONGEST_JSON:
            raise WeightsError(f"{path}: is too large for a configuration")
        document = json.loads(path.read_bytes())
    except (OSError, ValueError, RecursionError) as error:
        if isinstance(error, WeightsError):
            raise
        reason = "no such file" if isinstance(error, FileNotFoundError) else "cannot be read as JSON"
        raise WeightsError(f"{path}: {reason}") from error
    if not isinstance(document, dict):
        raise WeightsError(f"{path}: a JSON object is needed")
    return document


def read_tensors(folder: Path, stem: str = "model") -> tuple[dict[str, Stored], list[Path]]:
    """Tensors of ``STEM.safetensors``, or of the files that ``STEM.safetensors.index.json`` lists, and the files.

    A model that has neither may have ``pytorch_model.bin``.

    Raises:
        WeightsError: neither exists, a file is damaged, or the index does not list what is in the files.
    """
    single, index = folder / f"{stem}.safetensors", folder / f"{stem}.safetensors.index.json"
    if single.is_file():
        return read_safetensors(single)[0], [single]
    if (folder / "adapter_config.json").is_file():
        raise WeightsError(f"{folder}: is a LoRA adapter, not a model: merge it into its base model and save that")
    pickled = folder / "pytorch_model.bin"
    if stem == "model" and not index.is_file() and pickled.is_file():
        return state_of(pickled, read_torch(pickled)), [pickled]
    if not index.is_file():
        raise WeightsError(f"{folder}: has no {single.name} and no whole {pickled.name}; other formats are not read")
    places = read_json(index).get("weight_map")
    if not isinstance(places, dict) or not all(isinstance(name, str) for name in places.values()):
        raise WeightsError(f"{index}: has no weight_map of names to files")
    tensors: dict[str, Stored] = {}
    files = []
    for name in sorted(set(places.values())):
        if Path(name).name != name or not name.endswith(".safetensors"):
            raise WeightsError(f"{index}: {name!r} is not a safetensors file in the same folder")
        files.append(folder / name)
        if not files[-1].is_file():
            raise WeightsError(f"{files[-1]}: no such file")
        shard = read_safetensors(files[-1])[0]
        listed = {tensor for tensor, file in places.items() if file == name}
        if wrong := sorted(listed ^ set(shard)):
            raise WeightsError(f"{index}: it and {name} disagree about {len(wrong)} tensors: {', '.join(wrong[:5])}")
        tensors.update(shard)
    return tensors, files


def sha256_of(files: list[Path]) -> str:
    """Hexadecimal sha256 of one file, or of the lines ``sha256  name`` of several, as ``sha256sum`` prints them."""
    sums = []
    for path in files:
        with path.open("rb") as file:
            sums.append(hashlib.file_digest(file, "sha256").hexdigest())
    if len(files) == 1:
        return sums[0]
    lines = "".join(f"{digest}  {path.name}\n" for digest, path in zip(sums, files, strict=True))
    return hashlib.sha256(lines.encode()).hexdigest()
