"""Weights files of the models here: safetensors whose header describes the model and its training.

The header has one entry, named after the kind of model. It is JSON with at least ``format`` (1), ``config`` and
``training`` (free form, for readers and for the manifest of a study).
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, TypeVar

import safetensors
import safetensors.torch
import torch
from torch import nn

from ovd_bench.baselines.untrusted_weights import planned

FORMAT = 1

A = TypeVar("A")
M = TypeVar("M", bound=nn.Module)


@dataclass(frozen=True)
class ModelKind(Generic[M, A]):
    """A kind of model that has weights files.

    Attributes:
        key: entry of the header.
        label: name of the kind, for messages.
        read_header: the header from its JSON; raises ValueError, KeyError or TypeError if it is not a header.
        build: a model with the sizes of a header.
    """

    key: str
    label: str
    read_header: Callable[[Any], A]
    build: Callable[[A], M]

    def encode(self, model: nn.Module, header: Mapping[str, Any], dtype: torch.dtype) -> bytes:
        """Content of a weights file.

        Args:
            model: a model of this kind.
            header: entries of the JSON after ``format``.
            dtype: number type of the tensors.

        Raises:
            ValueError: a number that is not finite or that ``dtype`` cannot hold.
        """
        tensors = {name: tensor.detach().to(dtype).contiguous() for name, tensor in model.state_dict().items()}
        for name, tensor in tensors.items():
            if not torch.isfinite(tensor).all():
                raise ValueError(f"'{name}' holds a number that {dtype} cannot hold: the training has diverged")
        text = json.dumps({"format": FORMAT, **header}, ensure_ascii=False)
        data: bytes = safetensors.torch.save(tensors, {self.key: text})
        return data

    def is_in(self, path: Path) -> bool:
        """Whether the header of a file is that of this kind; False for unreadable files."""
        try:
            with safetensors.safe_open(path, "pt") as file:
                return self.key in (file.metadata() or {})
        except (OSError, safetensors.SafetensorError):
            return False

    def load(self, path: Path) -> tuple[M, A]:
        """The model in a weights file, float32, ready to detect, and the header; every parameter is set exactly once.

        Raises:
            ValueError: no such file, or not a weights file of this kind.
        """
        if not path.is_file():
            raise ValueError(f"{path}: no such file")
        try:
            with safetensors.safe_open(path, "pt") as file:
                header = self._header((file.metadata() or {}).get(self.key))
                found = {name: file.get_slice(name).get_shape() for name in file.keys()}  # noqa: SIM118 - no mapping
                # a header may state any size: nothing is allocated before the shapes agree
                plan = planned(lambda: self.build(header), len(found))
                expected = {name: list(tensor.shape) for name, tensor in plan.state_dict().items()}
                if wrong := [name for name in {**expected, **found} if expected.get(name) != found.get(name)]:
                    raise ValueError(f"'{wrong[0]}' is {found.get(wrong[0])}, {expected.get(wrong[0])} is needed")
                tensors = {name: file.get_tensor(name).float() for name in found}
        except (
            safetensors.SafetensorError,
            OSError,
            KeyError,
            TypeError,
            ValueError,
            RuntimeError,
            ArithmeticError,
        ) as error:
            reason = " ".join(str(error).split())[:200]
            raise ValueError(f"{path}: is not a weights file of {self.label} ({reason})") from error
        if bad := [name for name, tensor in tensors.items() if not torch.isfinite(tensor).all()]:
            raise ValueError(f"{path}: '{bad[0]}' holds a number that is not finite")
        model = self.build(header)
        model.load_state_dict(tensors)
        model.requires_grad_(False).eval()
        return model, header

    def _header(self, text: str | None) -> A:
        if text is None:
            raise ValueError(f"its header has no entry '{self.key}'")
        document = json.loads(text)
        if document["format"] != FORMAT:
            raise ValueError(f"format {document['format']}, this version reads {FORMAT}")
        return self.read_header(document)
