"""Tensors in files, and reading them as a model: every parameter exactly once, and no other tensors."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from ovd_bench.grounding_dino_jt.weights.errors import WeightsError
from ovd_bench.grounding_dino_jt.weights.names import Part
from ovd_bench.grounding_dino_jt.weights.shapes import Shapes

Array = npt.NDArray[np.float32]


@dataclass(frozen=True)
class Stored:
    """A tensor that has not been read yet.

    Attributes:
        shape: its shape.
        nbytes: its size, as stored.
        kind: type of its numbers, as the file names it; for messages.
        load: reads it, as float32; None if its numbers are not floating point.
    """

    shape: tuple[int, ...]
    nbytes: int
    kind: str
    load: Callable[[], Array] | None


def assemble(
    path: Path,
    stored: Mapping[str, Stored],
    place: Callable[[str], Part | None],
    expected: Shapes,
    size: int,
) -> dict[str, Array]:
    """Read all tensors of a model.

    Args:
        path: the file, for messages.
        stored: its tensors, without unused ones.
        place: target of a stored tensor; None = unknown. Several with one target are copies, which must be equal.
        expected: names and shapes of the model.
        size: bytes of the file; if the tensors claim more in total, they are refused before they are read.

    Returns:
        float32 arrays with the names, shapes and order of ``expected``.

    Raises:
        WeightsError: a name that is unknown or missing, a wrong shape, integers, copies that differ, a number that is
            not finite.
    """
    faults: dict[str, list[str]] = {}
    holders: dict[tuple[str, int], list[str]] = {}
    counts: dict[str, int] = {}
    for name, tensor in stored.items():
        part = place(name)
        if part is None or part.name not in expected:
            faults.setdefault("unknown", []).append(name)
            continue
        holders.setdefault((part.name, part.index), []).append(name)
        counts[part.name] = part.count
        if not _fits(tensor.shape, expected[part.name], part.count):
            shape = _part_shape(expected[part.name], part.count)
            faults.setdefault("of a wrong shape", []).append(f"{name} {tensor.shape}, {shape} is needed")
        elif tensor.load is None:
            faults.setdefault("without floating point", []).append(f"{name} ({tensor.kind})")
    for name in expected:
        parts = counts.get(name, 1)
        gone = [index for index in range(parts) if (name, index) not in holders]
        if gone:
            missing = name if len(gone) == parts else f"{name} (part {gone[0] + 1} of {parts})"
            faults.setdefault("missing", []).append(missing)
    _refuse(path, faults)
    if sum(stored[names[0]].nbytes for names in holders.values()) > size:
        raise WeightsError(f"{path}: its tensors claim to be larger than the file")
    tensors = {}
    for name, shape in expected.items():
        blocks = [holders[name, index] for index in range(counts[name])]
        tensors[name] = _joined(stored, blocks, shape, name, faults)
    _refuse(path, faults)
    return tensors


def _joined(
    stored: Mapping[str, Stored],
    parts: list[list[str]],
    shape: tuple[int, ...],
    name: str,
    faults: dict[str, list[str]],
) -> Array:
    tensor = np.empty(shape, np.float32)
    rows = shape[0] // len(parts)
    for index, (first, *copies) in enumerate(parts):
        block = tensor[index * rows : (index + 1) * rows]
        block[...] = _load(stored[first]).reshape(block.shape)
        for copy in copies:
            # Compared as integers, bit for bit.
            if not np.array_equal(block.view(np.int32), _load(stored[copy]).reshape(block.shape).view(np.int32)):
                faults.setdefault("copies that differ", []).append(f"{copy} from {first}")
    if not np.isfinite(tensor).all():
        faults.setdefault("with numbers that are not finite", []).append(name)
    return tensor


def _load(tensor: Stored) -> Array:
    assert tensor.load is not None
    return np.ascontiguousarray(tensor.load())


def _part_shape(shape: tuple[int, ...], parts: int) -> tuple[int, ...]:
    return (shape[0] // parts, *shape[1:])


def _fits(found: tuple[int, ...], shape: tuple[int, ...], parts: int) -> bool:
    """Whether the shapes agree; a single number may be stored without an axis."""
    return found == _part_shape(shape, parts) or (found == () and shape == (1,))


def check_tensors(tensors: Mapping[str, npt.NDArray[Any]], expected: Shapes) -> None:
    """Refuse tensors that are not those of a model, before they are written.

    Raises:
        WeightsError: an unknown, missing or misshapen tensor, one without floating point or with a number that is not
            finite.
    """
    faults = {
        "unknown": [name for name in tensors if name not in expected],
        "missing": [name for name in expected if name not in tensors],
        "of a wrong shape": [
            f"{name} {tensor.shape}, {expected[name]} is needed"
            for name, tensor in tensors.items()
            if name in expected and tensor.shape != expected[name]
        ],
        "with numbers that are not finite": [
            name
            for name, tensor in tensors.items()
            if not (np.issubdtype(tensor.dtype, np.floating) and np.isfinite(tensor).all())
        ],
    }
    _refuse(None, {fault: names for fault, names in faults.items() if names})


def _refuse(path: Path | None, faults: Mapping[str, list[str]]) -> None:
    if not faults:
        return
    texts = []
    for fault, names in faults.items():
        listed = ", ".join(name[:150] for name in names[:5])
        texts.append(f"{len(names)} {fault}: {listed}{', ...' if len(names) > 5 else ''}")
    where = f"{path}: " if path else ""
    raise WeightsError(f"{where}these are not the tensors of this model: {'; '.join(texts)}")
