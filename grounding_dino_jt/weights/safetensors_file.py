"""Safetensors files: read tensor by tensor in any number type, written with the same bytes for the same content.

The library checks the header. Numbers are read here, because its numpy interface does not support bfloat16, and written
here, because it shuffles the entries of the metadata.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import numpy.typing as npt
import safetensors

from ovd_bench.grounding_dino_jt.weights.errors import WeightsError
from ovd_bench.grounding_dino_jt.weights.stored import Array, Stored

#: Bytes; Grounding DINO-T needs 0.1 MB.
_LONGEST_HEADER = 8 << 20

_FLOATS: dict[str, tuple[type[np.generic], Callable[[npt.NDArray[Any]], Array]]] = {
    "F64": (np.float64, lambda numbers: numbers.astype(np.float32)),
    "F32": (np.float32, lambda numbers: numbers),
    "F16": (np.float16, lambda numbers: numbers.astype(np.float32)),
    "BF16": (np.uint16, lambda numbers: (numbers.astype(np.uint32) << 16).view(np.float32)),
}


def read_safetensors(path: Path) -> tuple[dict[str, Stored], dict[str, str]]:
    """Tensors and metadata of a file.

    Raises:
        WeightsError: the file is damaged, or its header is longer than 8 MB.
    """
    try:
        with path.open("rb") as file:
            length = int.from_bytes(file.read(8), "little")
            if length > _LONGEST_HEADER:
                raise WeightsError(f"{path}: is not a safetensors file, or has a header of {length} bytes")
            text = file.read(length)
        with safetensors.safe_open(path, "np") as checked:  # sizes, offsets, gaps
            metadata = checked.metadata() or {}
        header = json.loads(text)
    except (safetensors.SafetensorError, UnicodeDecodeError, json.JSONDecodeError, RecursionError) as error:
        raise WeightsError(f"{path}: is a damaged safetensors file ({' '.join(str(error).split())[:200]})") from error
    header.pop("__metadata__", None)
    return {name: _stored(path, 8 + length, entry) for name, entry in header.items()}, metadata


def _stored(path: Path, begin: int, entry: dict[str, Any]) -> Stored:
    kind, shape = entry["dtype"], tuple(entry["shape"])
    first, last = entry["data_offsets"]

    def load() -> Array:
        number, convert = _FLOATS[kind]
        # Overflow of float64 gives inf, which is refused afterwards.
        with np.errstate(over="ignore"):
            numbers = np.fromfile(path, number, math.prod(shape), offset=begin + first)
            return convert(numbers).reshape(shape)

    return Stored(shape, last - first, kind, load if kind in _FLOATS else None)


def write_safetensors(file: BinaryIO, tensors: Mapping[str, npt.NDArray[Any]], metadata: Mapping[str, str]) -> None:
    """Write float32 or float16 arrays, all of one type, in the order of their names."""
    header: dict[str, Any] = {"__metadata__": dict(sorted(metadata.items()))}
    offset = 0
    for name in sorted(tensors):
        tensor = tensors[name]
        kind = {"float32": "F32", "float16": "F16"}[tensor.dtype.name]
        header[name] = {"dtype": kind, "shape": tensor.shape, "data_offsets": [offset, offset + tensor.nbytes]}
        offset += tensor.nbytes
    text = json.dumps(header, separators=(",", ":"), ensure_ascii=False).encode()
    text += b" " * (-len(text) % 8)  # numbers begin at a multiple of 8
    file.write(len(text).to_bytes(8, "little") + text)
    for name in sorted(tensors):
        file.write(np.ascontiguousarray(tensors[name]).data)
