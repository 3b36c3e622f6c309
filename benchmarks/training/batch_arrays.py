"""The arrays of a batch: written to a file for inspection, and hashed to compare the data of two trainings."""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Iterator
from typing import Any, BinaryIO

import numpy as np
import numpy.typing as npt


def write_batch(file: BinaryIO, batch: Any) -> None:
    """Write all arrays of a batch as ``.npz``; names are paths, such as ``targets.0.boxes``.

    Args:
        file: to write to.
        batch: dataclasses, named tuples and sequences of arrays and numbers, nested in any way.
    """
    np.savez_compressed(file, **dict(_arrays("", batch)))


def chained_sha256(before: str, batch: Any) -> str:
    """Hash of a sequence of batches that ends with ``batch``.

    Args:
        before: hash of the batches before it; empty for the first.
        batch: see ``write_batch``.
    """
    sha256 = hashlib.sha256(before.encode())
    for name, array in _arrays("", batch):
        sha256.update(f"{name} {array.dtype.str} {array.shape}".encode())
        sha256.update(np.ascontiguousarray(array).data)
    return sha256.hexdigest()


def _arrays(path: str, part: Any) -> Iterator[tuple[str, npt.NDArray[Any]]]:
    if isinstance(part, np.ndarray | int):
        yield path, np.asarray(part)
        return
    if dataclasses.is_dataclass(part):
        members = {field.name: getattr(part, field.name) for field in dataclasses.fields(part)}
    elif isinstance(part, tuple) and hasattr(part, "_asdict"):
        members = part._asdict()
    else:
        members = {str(number): member for number, member in enumerate(part)}
    for name, member in members.items():
        yield from _arrays(f"{path}.{name}" if path else name, member)
